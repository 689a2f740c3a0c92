"""A text annotated by characters into sentences of words: a sentence never ends inside a mention or between the two
arguments of a relation, and a word never crosses the edge of a mention."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sinet.data.sentence import Entity, Relation, Sentence
from sinet.data.text import Word, cut


@dataclass(frozen=True)
class Document:
    """A text and what is annotated in it.

    `mentions`: type and characters [start, end) of each, all distinct; `relations`: type and two positions in
    `mentions`; `header`: characters [start, end) of ACE's header lines.
    """

    name: str
    text: str
    mentions: tuple[tuple[str, int, int], ...]
    relations: tuple[tuple[str, int, int], ...]
    header: tuple[tuple[int, int], ...] = ()


class Divided(NamedTuple):
    """The sentences of a document, the first word of each that was joined to the one before, for a mention or a
    relation, and the words that were divided at the edge of a mention."""

    sentences: list[Sentence]
    joined: list[Word]
    cut: list[Word]


def document_sentences(document: Document, divided: Iterable[list[Word]]) -> Divided:
    """The sentences of a document with its entities and relations.

    Args:
        divided: its words by sentences; they hold every character of the mentions' edges.
    """
    edges = sorted({edge for _, start, end in document.mentions for edge in (start, end)})
    split: list[list[Word]] = []
    divided_words: list[Word] = []
    for words in divided:
        first, last = bisect.bisect_left(edges, words[0].start), bisect.bisect_right(edges, words[-1].end)
        split.append(cut(words, set(edges[first:last])))
        whole = {*split[-1]}
        divided_words += [word for word in words if word not in whole]
    spans = [(start, end) for _, start, end in document.mentions]
    joined = [*spans]
    for _, head, tail in document.relations:
        joined.append((min(spans[head][0], spans[tail][0]), max(spans[head][1], spans[tail][1])))
    merged = _merged(split, joined)
    begins = [words[0].start for words in merged]
    mentions: list[list[int]] = [[] for _ in merged]  # of each sentence
    relations: list[list[tuple[str, int, int]]] = [[] for _ in merged]
    for i, (start, _) in enumerate(spans):
        mentions[bisect.bisect_right(begins, start) - 1].append(i)
    for relation in document.relations:
        relations[bisect.bisect_right(begins, spans[relation[1]][0]) - 1].append(relation)
    made: list[Sentence] = []
    for words, here, related in zip(merged, mentions, relations, strict=True):
        starts, ends = ({getattr(w, side): i for i, w in enumerate(words)} for side in ("start", "end"))
        inside = {
            i: Entity(kind, starts[start], ends[end] + 1)
            for i, (kind, start, end) in ((i, document.mentions[i]) for i in here)
            if start in starts and end in ends
        }
        number = {i: n for n, i in enumerate(inside)}
        made.append(
            Sentence(
                f"{document.name}-{len(made)}",
                tuple(word.text for word in words),
                tuple(inside.values()),
                tuple(
                    Relation(kind, number[head], number[tail])
                    for kind, head, tail in related
                    if head in number and tail in number
                ),
                document.name,
            )
        )
    kept = sum(len(s.entities) for s in made), sum(len(s.relations) for s in made)
    for what, n, of in zip(("mentions", "relations"), kept, (document.mentions, document.relations), strict=True):
        if n != len(of):
            raise RuntimeError(f"{document.name}: {len(of) - n} {what} got lost between text and sentences")
    first_words = {*begins}
    return Divided(made, [words[0] for words in split if words[0].start not in first_words], divided_words)


def _merged(split: list[list[Word]], joined: Sequence[tuple[int, int]]) -> list[list[Word]]:
    """Neighbouring sentences put together wherever a stretch of `joined` characters reaches from one into the next."""
    found: list[list[Word]] = []
    reach = -1
    ends, next_end = sorted(joined), 0
    for words in split:
        if found and words[0].start < reach:
            found[-1].extend(words)
        else:
            found.append(list(words))
        while next_end < len(ends) and ends[next_end][0] < words[-1].end:
            reach = max(reach, ends[next_end][1])
            next_end += 1
    return found
