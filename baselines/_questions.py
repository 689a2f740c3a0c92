"""Questions about sentences, as Multi-turn QA words them and an encoder reads them, and answers as tags.

A question is made of phrases, each cut into pieces once: the words of types and what a template says between them. The
encoder reads [CLS] question [SEP] sentence [SEP], in turn 2 with the mention of a head in the question and markers
around it in the sentence. Its pieces are tagged B, M, E, S or O, and [CLS] S where there is no answer, else O.
"""

import itertools
from collections.abc import Sequence
from string import Formatter
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines._two_models import marker_ids
from baselines.settings import MultiTurnQA
from sinet.contract import Batch, Labels, Sentence
from sinet.encoders.encoder import Encoder

BEGIN, MIDDLE, END, SINGLE, OUTSIDE = range(5)
NO_TAG = -100
"""Of a piece that is not tagged; cross-entropy passes over it."""

NOTHING, MENTION = 0, 1
"""Phrases without pieces: what fills up the shorter templates, and where the words of a head stand."""


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
    """How both turns ask: the templates and the words for types of the settings.

    `phrases`: word pieces (phrases, longest) of nothing, of the types, the relations, their articles, and of what
    templates say; `lengths`: (phrases). `parts` (templates, parts, 2): of each type's template, and behind them of each
    relation's, the phrases, and which number is added to them: none, tail, relation or head. They stay on the CPU,
    where training questions are made.
    """

    def __init__(self, labels: Labels, encoder: Encoder, settings: MultiTurnQA) -> None:
        """Raises `ValueError` for settings that do not go with the labels."""
        if what := settings.unfit(labels.entity_types, labels.relation_types):
            raise ValueError(f"settings.{what}")
        self.cls, self.sep = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
        self.pad, self.longest = encoder.tokenizer.pad_token_id, encoder.max_pieces
        types, relations = settings.called(labels.entity_types), settings.called(labels.relation_types)
        phrases = ["", "", *types, *relations, *("an" if words[0] in "ao" else "a" for words in relations)]
        relation = 2 + len(types)
        slots = {"mention": (MENTION, 0), "tail": (2, 1), "head": (2, 3)}
        slots |= {"relation": (relation, 2), "article": (relation + len(relations), 2)}
        parts: list[list[tuple[int, int]]] = []
        self.types = len(types)
        templates = settings.templates("entity_question", labels.entity_types)
        for template in templates + settings.templates("relation_question", labels.relation_types):
            parts.append([])
            for literal, slot, *_ in Formatter().parse(template):
                parts[-1] += [(len(phrases), 0), *([slots[slot]] if slot else [])]
                phrases.append(literal)
        most = max(map(len, parts))
        self.parts = torch.tensor([of_one + [(NOTHING, 0)] * (most - len(of_one)) for of_one in parts])
        cut = [list(itertools.chain(*encoder.word_pieces(phrase.split()))) for phrase in phrases]
        widest = max(map(len, cut))
        self.phrases = torch.tensor([pieces + [self.pad] * (widest - len(pieces)) for pieces in cut])
        self.lengths = torch.tensor([len(pieces) for pieces in cut])
        self.markers: list[int] = marker_ids(encoder, 2, begin=0).tolist()

    def pieces(self, phrases: Tensor) -> Tensor:
        """Word pieces (questions) of the phrases of questions (questions, parts)."""
        return self.lengths.to(phrases.device)[phrases].sum(1)

    def __call__(self, tail: Tensor, relation: Tensor | None = None, head: Tensor | None = None) -> Tensor:
        """Phrases of questions (questions, parts), no pieces for the mention: for an entity type (questions), in turn 2
        with a relation and a head's type (questions)."""
        none = torch.zeros_like(tail)
        numbers = [none, tail, *(none if number is None else number for number in (relation, head))]
        template = tail if relation is None else self.types + relation
        first, added = self.parts.to(tail.device)[template].unbind(2)
        return first + torch.stack(numbers, dim=1).gather(1, added)

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

        question, context, columns = [worded(phrases)], [(ids, inside)], column
        if extent is not None:
            first, last = extent.unsqueeze(1).unbind(2)
            place = phrases == MENTION
            behind = place.cumsum(1) > 0  # the other side of it is NOTHING
            within = (column >= first) & (column <= last)
            question = [worded(phrases * ~behind), (ids, within & place.any(1, keepdim=True)), worded(phrases * behind)]
            left, right = ((always * marker, always) for marker in self.markers)
            context = [(ids, inside & (column < first)), left, (ids, within), right, (ids, inside & (column > last))]
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
