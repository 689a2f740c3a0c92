"""Raw text into sentences of words, every word with its place in the text; by spaCy's rules for a language.

Rules alone (no trained model): tokenisation with exceptions for abbreviations and the like, and sentence ends at
punctuation. A blank line, or any line break where `lines` is set, ends a sentence too. What has no white space for more
than `LONGEST` characters is divided there: spaCy's time grows with the square of a word's length.
"""

import bisect
import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sinet.errors import UserError, shown

LONGEST = 300
"""Characters that are tokenised at once where no white space divides them."""
GIANT = re.compile(rf"\S{{{LONGEST}}}(?=\S)")


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its characters [start, end) in the text."""

    text: str
    start: int
    end: int


@functools.cache
def rules(language: str) -> Any:
    """spaCy's blank pipeline of a language's code; raises `UserError` where it has none, or lacks a package for it."""
    import spacy

    try:
        pipeline = spacy.blank(language)
    except ImportError as error:
        why = " ".join(str(error).split()).removeprefix("[E048] ")
        raise UserError(
            f"--language {shown(language)}: spaCy has no rules for it ({why:.120}); en is English"
        ) from None
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = 1 << 40  # rules need no memory that grows with the text
    return pipeline


def sentences(text: str, lines: bool = False, language: str = "en") -> Iterator[list[Word]]:
    """The sentences of a text, each a list of words.

    Args:
        lines: whether a single line break ends a sentence; otherwise only a blank line does.
        language: spaCy's code of the language whose rules divide it.
    """
    block_end = r"\r?\n" if lines else r"\r?\n[ \t]*\r?\n"
    begin = 0
    for match in (*re.finditer(block_end, text), None):
        stop = match.start() if match else len(text)
        if block := text[begin:stop].strip() and text[begin:stop]:
            inserted = [match.end() + n for n, match in enumerate(GIANT.finditer(block))]
            for sentence in rules(language)(GIANT.sub(r"\g<0> ", block) if inserted else block).sents:
                words = []
                for token in sentence:
                    if not token.is_space:
                        start = begin + token.idx - bisect.bisect_left(inserted, token.idx)
                        words.append(Word(token.text, start, start + len(token.text)))
                if words:
                    yield words
        begin = match.end() if match else stop


def cut(words: list[Word], edges: set[int]) -> list[Word]:
    """The words, divided at every character position of `edges` that lies inside one."""
    found, ordered = [], sorted(edges)
    for word in words:
        inside = ordered[bisect.bisect_right(ordered, word.start) : bisect.bisect_left(ordered, word.end)]
        points = [word.start, *inside, word.end]
        for start, end in itertools.pairwise(points):
            found.append(Word(word.text[start - word.start : end - word.start], start, end))
    return found
