"""Raw text into sentences of words, every word with its place in the text; by spaCy's rules for a language.

Rules alone (no trained model): tokenisation with exceptions for abbreviations and the like, and sentence ends at
punctuation. A blank line ends a sentence too, and so do any line break where `lines` is set, and the end of a heading
where `pdf` is, which also joins words that are hyphenated across lines. What has no white space for more than `LONGEST`
characters is divided there: spaCy's time grows with the square of a word's length.
"""

import bisect
import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sinet.errors import UserError, shown

LONGEST = 300
"""Characters that are tokenised at once where no white space divides them."""
GIANT = re.compile(rf"\S{{{LONGEST}}}(?=\S)")
BLANK_LINE = re.compile(r"\r?\n[^\S\n]*\n")
BROKEN = re.compile(r"(?<=\w)[-\u00ad\u2010][^\S\n]*\n[^\S\n]*(?=\w)")
"""What divides a word that is hyphenated across lines."""
FEWEST_WORDS, FEWEST_FREQUENT = 30, 0.1
"""Words by which a language is judged, and the share of its frequent ones below which a text is hardly in it: of 30
words of SciERC at least 0.2 are, of German, French, Spanish, Dutch and Finnish at most 0.1 by the rules of English."""


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


def sentences(text: str, lines: bool = False, language: str = "en", pdf: bool = False) -> Iterator[list[Word]]:
    """The sentences of a text, each a list of words.

    Args:
        lines: whether a single line break ends a sentence; otherwise only a blank line does.
        language: spaCy's code of the language whose rules divide it.
        pdf: whether lines are those of a page: a word that is hyphenated across two is one, whose characters [start,
            end) are those of both parts and what divides them, and a heading is no part of the sentence below it.
    """
    for begin, stop in _blocks(text, lines, pdf):
        block, origin = _joined(text, begin, stop) if pdf else (text[begin:stop], range(begin, stop))
        inserted = [match.end() + n for n, match in enumerate(GIANT.finditer(block))]
        for sentence in rules(language)(GIANT.sub(r"\g<0> ", block) if inserted else block).sents:
            words = []
            for token in sentence:
                if not token.is_space:
                    first = token.idx - bisect.bisect_left(inserted, token.idx)
                    words.append(Word(token.text, origin[first], origin[first + len(token.text) - 1] + 1))
            if words:
                yield words


def _blocks(text: str, lines: bool, pdf: bool) -> Iterator[tuple[int, int]]:
    """The characters [begin, end) of each stretch of text that no sentence crosses."""
    begin = 0
    for match in (*re.finditer(r"\r?\n" if lines else BLANK_LINE, text), None):
        stop = match.start() if match else len(text)
        if block := text[begin:stop].strip() and text[begin:stop]:
            if pdf and (heading := _heading(block)):
                yield begin, begin + heading
                begin += heading
            yield begin, stop
        begin = match.end() if match else stop


def _heading(block: str) -> int:
    """Characters of the first line of a paragraph of a page if it is a heading: without punctuation at its end, less
    than two thirds as wide as the widest line, and with a capital or digit below it; else 0."""
    first, _, rest = block.lstrip().partition("\n")
    widest = max(map(len, rest.split("\n")))
    below = rest.lstrip()[:1]
    if 3 * len(first.rstrip()) < 2 * widest and first.rstrip()[-1].isalnum() and (below.isupper() or below.isdigit()):
        return len(block) - len(rest)
    return 0


def _joined(text: str, begin: int, stop: int) -> tuple[str, list[int]]:
    """The characters [begin, stop) of a text without what divides words across lines, and the place of each. The hyphen
    is left out between small letters, unless the word has another one before it ("state-of-the-", "art")."""
    origin: list[int] = []
    for match in BROKEN.finditer(text, begin, stop):
        at, after = match.start(), match.end()
        small = text[at - 1].islower() and text[after].islower()
        compound = "-" in text[max(begin, at - LONGEST) : at].split()[-1]
        origin += range(begin, at if small and not compound else at + 1)
        begin = after
    origin += range(begin, stop)
    return "".join(map(text.__getitem__, origin)), origin


def foreign(words: Sequence[str], language: str) -> bool:
    """Whether words are evidently of another language, as hardly one is among its frequent ones; nothing is evident of
    few words, or where spaCy lists too few frequent ones."""
    frequent = rules(language).Defaults.stop_words
    spelt = [word.lower() for word in words if word[0].isalpha()]
    if len(spelt) < FEWEST_WORDS or len(frequent) < 100:
        return False
    return sum(word in frequent for word in spelt) < FEWEST_FREQUENT * len(spelt)


def cut(words: list[Word], edges: set[int]) -> list[Word]:
    """The words, divided at every character position of `edges` that lies inside one."""
    found, ordered = [], sorted(edges)
    for word in words:
        inside = ordered[bisect.bisect_right(ordered, word.start) : bisect.bisect_left(ordered, word.end)]
        points = [word.start, *inside, word.end]
        for start, end in itertools.pairwise(points):
            found.append(Word(word.text[start - word.start : end - word.start], start, end))
    return found
