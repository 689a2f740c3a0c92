"""Predicted sentences as a page: entities as bars under their words, relations as arcs above them.

A sentence is an SVG of rows of words; whatever crosses the end of a row goes on in the next one. Widths are counted in
cells of a fixed-width font, which `textLength` imposes on whatever font the reader has. spaCy's displaCy would not do:
it draws entities or arcs between single tokens, not arcs between spans of several words, and breaks no rows under arcs.
"""

import html
import itertools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sinet.data.sentence import Entity, Labels, Relation, Sentence

CELL, SMALL = 8.4, 6.3
"""Width in pixels of a character of the text, and of a label."""
ROW = 860
"""Pixels of a row; a longer word has a row of its own."""
MARGIN, TEXT, BAR, ARC = 8, 24, 17, 19
"""Heights in pixels: around a sentence, of the words, of one level of entities, of one level of relations."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a2477f", "#8a6d00", "#6a51a3", "#b03030", "#2f7d8c", "#5b7a1d", "#555555")
"""One an entity type, in the order of the label inventory; told apart by the colour-blind, dark enough to be read."""

STYLE = """\
body { margin: 2rem auto; max-width: 900px; padding: 0 1rem; color: #1b1f24; background: #f6f7f9;
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .3rem; }
p { margin: .2rem 0 1.2rem; color: #57606a; }
b { font-weight: 600; margin-right: .9em; white-space: nowrap; }
figure { margin: 0 0 .9rem; padding: .5rem; background: #fff; border: 1px solid #d8dee4; border-radius: 8px;
  overflow-x: auto; }
svg { display: block; }
text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }
.w { font-size: 14px; fill: #1b1f24; }
.e, .r { font-size: 10.5px; }
.r { fill: #24292f; text-anchor: middle; }
.a { fill: none; stroke: #57606a; stroke-width: 1.2; }
.h { fill: #57606a; }
.b { fill: #fff; }
"""


@dataclass
class _Piece:
    """The part of an entity or relation that is in one row, from `left` to `right`, and where its label lies; `level`
    is counted from the text."""

    row: int
    left: float
    right: float
    owner: int
    label: tuple[float, float]
    level: int = 0

    def extent(self) -> tuple[float, float]:
        return min(self.left, self.label[0]), max(self.right, self.label[1])


def drawing(sentence: Sentence, labels: Labels, apart: Sequence[bool] | None = None) -> str:
    """A sentence as an SVG.

    Args:
        apart: for each word, whether a blank stands before it; default, everywhere.
    """
    row, left, right = _places(sentence.tokens, apart or [True] * len(sentence.tokens))
    entities, relations = sentence.entities, sentence.relations
    bars, arcs = [], []
    for n, e in enumerate(entities):
        for r, words in _by_row(range(e.start, e.end), row):
            label = _width(e.type, SMALL) if words[0] == e.start else 0
            at = max(0.0, min(left[words[0]], ROW - label))
            bars.append(_Piece(r, left[words[0]], right[words[-1]], n, (at, at + label)))
    ends = _anchors(sentence, left, right, row)
    for n, relation in enumerate(relations):
        (first, x), (last, y) = sorted(ends[n])
        half = _width(relation.type, SMALL) / 2 + 3
        for r in range(first, last + 1):
            start, end = x if r == first else 0.0, y if r == last else ROW
            middle = max(half, (start + end) / 2)
            arcs.append(_Piece(r, start, end, n, (middle - half, middle + half)))
    _stack(bars)
    _stack(arcs)

    parts: list[str] = []
    top = MARGIN
    for r in range(max(row) + 1):
        above = [p for p in arcs if p.row == r]
        below = [p for p in bars if p.row == r]
        base = top + ARC * (1 + max((p.level for p in above), default=-1)) + 4
        for p in sorted(above, key=lambda p: -p.level):
            parts += _arc(p, ends[p.owner], relations[p.owner], labels, base)
        for p in sorted(below, key=lambda p: p.level):
            parts += _bar(p, entities[p.owner], labels, base)
        for i, word in enumerate(sentence.tokens):
            if row[i] == r:
                place = f'x="{left[i]:.1f}" y="{base + 16}" textLength="{right[i] - left[i]:.1f}"'
                parts.append(f'<text class="w" {place} lengthAdjust="spacingAndGlyphs">{html.escape(word)}</text>')
        top = base + TEXT + BAR * (1 + max((p.level for p in below), default=-1)) + MARGIN
    width = max(*right, *(p.extent()[1] for p in (*bars, *arcs)), 0)
    size = f'width="{width + 2:.0f}" height="{top}" viewBox="0 0 {width + 2:.0f} {top}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'


def _width(text: str, cell: float) -> float:
    """Pixels of a text in cells; wide characters have two, combining ones none."""
    wide = (2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
    return cell * max(1, sum(wide))


def _places(words: Sequence[str], apart: Sequence[bool]) -> tuple[list[int], list[float], list[float]]:
    """Row, left and right edge of every word."""
    row, left, right = [], [], []
    at, current = 0.0, 0
    for word, blank in zip(words, apart, strict=True):
        width = _width(word, CELL)
        start = at + CELL * (blank and at > 0)
        if at > 0 and start + width > ROW:
            current, start = current + 1, 0.0
        row.append(current)
        left.append(start)
        right.append(at := start + width)
    return row, left, right


def _by_row(words: range, row: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    for r, inside in itertools.groupby(words, lambda i: row[i]):
        yield r, list(inside)


def _stack(pieces: list[_Piece]) -> None:
    """Give pieces of a row that overlap different levels, the shorter ones the lower."""
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for piece in sorted(pieces, key=lambda p: (p.right - p.left, p.left, p.owner)):
        low, high = piece.extent()
        while any(low < b + 3 and a < high + 3 for a, b in taken.get((piece.row, piece.level), ())):
            piece.level += 1
        taken.setdefault((piece.row, piece.level), []).append((low, high))


def _anchors(sentence: Sentence, left: Sequence[float], right: Sequence[float], row: Sequence[int]) -> list[tuple]:
    """Row and x where each relation leaves its head and reaches its tail: the ends at an entity are spread over its
    first row, in the order of what they lead to."""
    uses: dict[int, list[tuple[int, int, int]]] = {}
    for n, r in enumerate(sentence.relations):
        for here, there, role in ((r.head, r.tail, 0), (r.tail, r.head, 1)):
            uses.setdefault(here, []).append((sentence.entities[there].start, n, role))
    ends = [[(0, 0.0), (0, 0.0)] for _ in sentence.relations]
    for entity, used in uses.items():
        e = sentence.entities[entity]
        first, inside = next(_by_row(range(e.start, e.end), row))
        start, width = left[inside[0]], right[inside[-1]] - left[inside[0]]
        for k, (_, n, role) in enumerate(sorted(used, key=lambda use: (-(use[0] < e.start), use)), 1):
            ends[n][role] = (first, start + width * k / (len(used) + 1))
    return [tuple(pair) for pair in ends]


def _arc(piece: _Piece, ends: tuple, relation: Relation, labels: Labels, base: float) -> Iterator[str]:
    """One row's part of a relation: a line over the words, down to head and tail where they stand in this row."""
    y, r = base - ARC * (piece.level + 1) + 8, min(5.0, (piece.right - piece.left) / 2)
    feet = {x: role for role, (row, x) in enumerate(ends) if row == piece.row}
    up = f"M{piece.left:.1f},{base} V{y + r:.1f} q0,-{r:.1f} {r:.1f},-{r:.1f}"
    down = f"H{piece.right - r:.1f} q{r:.1f},0 {r:.1f},{r:.1f} V{base}"
    begin = up if piece.left in feet else f"M{piece.left:.1f},{y}"
    end = down if piece.right in feet else f"H{piece.right:.1f}"
    title, (low, high) = html.escape(relation.type), piece.label
    yield f'<g><title>{title}{_score(relation)}</title><path class="a" d="{begin} {end}"/>'
    for x, role in feet.items():
        if role == 1 or relation.type in labels.symmetric:
            yield f'<path class="h" d="M{x:.1f},{base + 1} l-3.5,-7 h7 z"/>'
    yield f'<rect class="b" x="{low:.1f}" y="{y - 6}" width="{high - low:.1f}" height="12"/>'
    at = f'x="{(low + high) / 2:.1f}" y="{y + 3.5}" textLength="{high - low - 6:.1f}"'
    yield f'<text class="r" {at}>{title}</text></g>'


def _bar(piece: _Piece, entity: Entity, labels: Labels, base: float) -> Iterator[str]:
    """One row's part of an entity: a tint behind its words, a bar under them, and its type where it begins."""
    y, title = base + TEXT - 2 + BAR * piece.level, html.escape(entity.type)
    yield f'<g fill="{_colour(entity.type, labels)}"><title>{title}{_score(entity)}</title>'
    place = f'x="{piece.left - 1:.1f}" width="{piece.right - piece.left + 2:.1f}" rx="3"'
    yield f'<rect {place} y="{base + 2}" height="{TEXT - 4}" fill-opacity=".12"/><rect {place} y="{y}" height="3"/>'
    if length := piece.label[1] - piece.label[0]:
        yield f'<text class="e" x="{piece.label[0]:.1f}" y="{y + 13}" textLength="{length:.1f}">{title}</text>'
    yield "</g>"


def _score(item: Entity | Relation) -> str:
    return "" if item.score is None else f" {item.score:.2f}"


def _colour(kind: str, labels: Labels) -> str:
    return COLOURS[labels.entity_types.index(kind) % len(COLOURS)]


@contextmanager
def page(path: Path, title: str, labels: Labels) -> Iterator[Callable[[str], object]]:
    """Within it, a function that adds a drawing to a page without scripts or other files; the page is never in memory
    as a whole."""
    names = "".join(f'<b style="color:{_colour(kind, labels)}">{html.escape(kind)}</b>' for kind in labels.entity_types)
    shown = html.escape(title)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{shown}</title>\n')
        file.write(f"<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{shown}</h1>\n<p>{names}</p>\n")
        yield lambda drawn: file.write(f"<figure>{drawn}</figure>\n")
        file.write("</body>\n</html>\n")
