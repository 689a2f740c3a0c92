"""Raw text into sentences of words, every word with its place in the text; by spaCy's rules for English.

Rules alone (no trained model): tokenisation with exceptions for abbreviations and the like, and sentence ends at
punctuation. A blank line, or any line break where `lines` is set, ends a sentence too.
"""

import functools
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its characters [start, end) in the text."""

    text: str
    start: int
    end: int


@functools.cache
def _english() -> object:
    import spacy

    pipeline = spacy.blank("en")
    pipeline.add_pipe("sentencizer")
    pipeline.max_length = 1 << 40  # rules need no memory that grows with the text
    return pipeline


def sentences(text: str, lines: bool = False) -> Iterator[list[Word]]:
    """The sentences of a text, each a list of words.

    Args:
        lines: whether a single line break ends a sentence; otherwise only a blank line does.
    """
    block_end = r"\r?\n" if lines else r"\r?\n[ \t]*\r?\n"
    begin = 0
    for match in (*re.finditer(block_end, text), None):
        stop = match.start() if match else len(text)
        if text[begin:stop].strip():
            for sentence in _english()(text[begin:stop]).sents:
                words = [
                    Word(token.text, begin + token.idx, begin + token.idx + len(token.text))
                    for token in sentence
                    if not token.is_space
                ]
                if words:
                    yield words
        begin = match.end() if match else stop


def cut(words: list[Word], edges: set[int]) -> list[Word]:
    """The words, divided at every character position of `edges` that lies inside one."""
    found = []
    for word in words:
        points = [word.start, *sorted(e for e in edges if word.start < e < word.end), word.end]
        for start, end in itertools.pairwise(points):
            found.append(Word(word.text[start - word.start : end - word.start], start, end))
    return found
