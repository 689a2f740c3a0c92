"""Questions about sentences, as Multi-turn QA words them and an encoder reads them, and answers as tags.

A question is made of phrases, each cut into pieces once: the words of types and what a template says between them. The
encoder reads [CLS] question [SEP] sentence [SEP], in turn 2 with the mention of a head in the question and markers
around it in the sentence. Its pieces are tagged B, M, E, S or O, and [CLS] S where there is no answer, else O.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines._two_models import marker_ids
from sinet.contract import Batch, Labels, Sentence
from sinet.encoders.encoder import Encoder

BEGIN, MIDDLE, END, SINGLE, OUTSIDE = range(5)
NO_TAG = -100
"""Of a piece that is not tagged; cross-entropy passes over it."""


class Question(NamedTuple):
    """What is learned from, by numbers of types: in turn 1 which entities of the type `tail` a sentence has, in turn 2
    which of them have the `relation` with a `head` (type, start, end)."""

    sentence: Sentence
    tail: int
    relation: int = -1
    head: tuple[int, int, int] | None = None


class Asked(NamedTuple):
    """Questions as the encoder reads them, each (questions, pieces): ids, mask, token types, and of every piece its
    column in the sentence's own input, 0 of a marker, -1 outside of the sentence."""

    ids: Tensor
    mask: Tensor
    types: Tensor
    column: Tensor


class Wording:
    """How both turns ask: templates (`entity_question` and `relation_question` of the settings) and words for types.

    `phrases`: word pieces (phrases, longest) of nothing, the types, the relations, their articles, and what templates
    say; `lengths`: (phrases). They stay on the CPU, where training questions are made.
    """

    def __init__(self, labels: Labels, encoder: Encoder, templates: Sequence[str], names: Mapping[str, str]) -> None:
        """Raises `ValueError` where two types would be called alike."""
        self.cls, self.sep = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
        self.pad, self.longest = encoder.tokenizer.pad_token_id, encoder.max_pieces
        types, relations = called(labels.entity_types, names), called(labels.relation_types, names)
        phrases = ["", *types, *relations, *("an" if words[0] in "ao" else "a" for words in relations)]
        self.first = {"tail": 1, "head": 1, "relation": 1 + len(types), "article": 1 + len(types) + len(relations)}
        # of each turn what it names, or "" and a phrase of its own
        self.parts: list[list[tuple[str, int]]] = []
        for template in templates:
            self.parts.append([])
            for literal, name, *_ in Formatter().parse(template):
                self.parts[-1] += [("", len(phrases)), *([(name, self.first.get(name, 0))] if name else [])]
                phrases.append(literal)
        cut = [list(itertools.chain(*encoder.word_pieces(phrase.split()))) for phrase in phrases]
        widest = max(map(len, cut))
        self.phrases = torch.tensor([pieces + [self.pad] * (widest - len(pieces)) for pieces in cut])
        self.lengths = torch.tensor([len(pieces) for pieces in cut])
        self.markers: list[int] = marker_ids(encoder, 2, begin=0).tolist()

    def pieces(self, phrases: Tensor) -> Tensor:
        """Word pieces (questions) of the phrases of questions (questions, parts)."""
        return self.lengths.to(phrases.device)[phrases].sum(1)

    def __call__(self, tail: Tensor, relation: Tensor | None = None, head: Tensor | None = None) -> Tensor:
        """Phrases of questions (questions, parts), nothing for the mention: for an entity type (questions), in turn 2
        with a relation and a head's type (questions)."""
        named = {"tail": tail, "relation": relation, "article": relation, "head": head}
        parts = []
        for name, first in self.parts[relation is not None]:
            number = named.get(name)
            parts.append(torch.full_like(tail, first) if number is None else number + first)
        return torch.stack(parts, dim=1)

    def asked(self, batch: Batch, sentence: Tensor, phrases: Tensor, extent: Tensor | None = None) -> Asked:
        """Questions about sentences of a batch; what is longer than the encoder reads is cut from the end.

        Args:
            sentence: (questions); phrases: (questions, parts); extent: (questions, 2) in turn 2 the first and last
            piece of the head, columns of `input_ids`.
        """
        lengths = batch["attention_mask"].sum(1)[sentence].unsqueeze(1)
        ids = batch["input_ids"][sentence, : lengths.max()]
        column = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        inside = (column > 0) & (column < lengths - 1)
        always = torch.ones_like(inside[:, :1])

        def worded(numbers: Tensor) -> tuple[Tensor, Tensor]:
            table, lengths = self.phrases.to(ids.device), self.lengths.to(ids.device)[numbers].unsqueeze(2)
            real = torch.arange(table.shape[1], device=ids.device) < lengths
            return table[numbers].flatten(1), real.flatten(1)

        if extent is None:
            question, context, columns = [worded(phrases)], [(ids, inside)], column
        else:
            at = next((i for i, (name, _) in enumerate(self.parts[1]) if name == "mention"), None)
            first, last = extent.unsqueeze(1).unbind(2)
            mention = (ids, (column >= first) & (column <= last))
            left, right = ((always * marker, always) for marker in self.markers)
            question = [worded(phrases)] if at is None else [worded(phrases[:, :at]), mention, worded(phrases[:, at:])]
            context = [(ids, inside & (column < first)), left, mention, right, (ids, inside & (column > last))]
            columns = torch.cat([column, 0 * first, column, 0 * first, column], dim=1)
        cells, real = zip((always * self.cls, always), *question, (always * self.sep, always), *context, strict=True)
        return self._laid(torch.cat(cells, dim=1), torch.cat(real, dim=1), columns)

    def _laid(self, cells: Tensor, real: Tensor, columns: Tensor) -> Asked:
        """Cells of a question and its sentence, of which `columns` are the last, those that are `real` laid end to
        end."""
        asking = cells.shape[1] - columns.shape[1]
        place = real.cumsum(1) - 1
        real = real & (place < self.longest - 1)
        row, cell = real.nonzero(as_tuple=True)
        end = real.sum(1, keepdim=True)
        ids = cells.new_full((len(cells), int(end.max()) + 1), self.pad)
        column = torch.full_like(ids, -1)
        ids[row, place[row, cell]] = cells[row, cell]
        column[row, place[row, cell]] = F.pad(columns, (asking, 0), value=-1)[row, cell]
        position = torch.arange(ids.shape[1], device=ids.device)
        types = position >= real[:, :asking].sum(1, keepdim=True)
        return Asked(ids.masked_fill(position == end, self.sep), (position <= end).long(), types.long(), column)


def called(types: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """The words of each type in questions: its name in lower case where `names` has none."""
    words = [
        names.get(name) or re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).strip().lower() or name for name in types
    ]
    for i, name in enumerate(words):
        if name in words[:i]:
            both = f"{types[words.index(name)]!r} and {types[i]!r} are both {name!r} in questions"
            raise ValueError(f"settings.names: {both}; give one of them other words")
    return words


def tags_of(answers: Sequence[Sequence[Sequence[int]]], column: Tensor) -> Tensor:
    """Tags (questions, pieces) of questions with these columns (`Asked`), whose answers are given by the columns of
    their first and last piece; a longer answer is tagged over a shorter one."""
    widest = max([0, int(column.max()), *(last for spans in answers for _, last in spans)])
    tags = torch.full((len(answers), widest + 1), OUTSIDE)
    for row, spans in zip(tags, answers, strict=True):
        for first, last in sorted(spans, key=lambda span: span[1] - span[0]):
            row[first : last + 1] = MIDDLE
            row[first], row[last] = (BEGIN, END) if first < last else (SINGLE, SINGLE)
    tags = tags.gather(1, column.clamp(min=0)).masked_fill(column < 0, NO_TAG)
    tags[:, 0] = torch.tensor([OUTSIDE if spans else SINGLE for spans in answers])
    return tags


def tagged_spans(tags: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The answers that tags (questions, pieces) give `inside` of the sentence (questions, pieces): the question of
    each, its first and its last piece (answers). S is an answer of one piece; B opens one that the next E closes,
    unless another B or an S comes between."""
    row, place = (inside & (tags != MIDDLE) & (tags != OUTSIDE) & (tags[:, :1] != SINGLE)).nonzero(as_tuple=True)
    tag = tags[row, place]
    closed = F.pad((row[1:] == row[:-1]) & (tag[:-1] == BEGIN) & (tag[1:] == END), (0, 1))
    found = (closed | (tag == SINGLE)).nonzero().squeeze(1)
    return row[found], place[found], place[found + closed[found]]
