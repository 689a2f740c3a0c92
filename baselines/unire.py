"""UniRE: entities and relations in one table with one label space.

Wang et al., ACL 2021, sections 4.1 (biaffine), 4.2 (table filling, structural constraints) and 4.3 (decoding);
details follow the released code (Receiling/UniRE, commit 4f59bea). A cell of the table (row word, column word) has one
label: None, an entity type inside the square of an entity, a relation type in the rectangle head x tail.

What differs from the released code:
- The words around a sentence are read before it, as [CLS] left right [SEP] sentence [SEP] with token type 1 on the
  sentence, where `window` is above 0 (released: 200, as in the recipe `own`); without it [CLS] words [SEP].
- A symmetric relation that is found both ways round is one, as everywhere here.
- Spans of a batch are made, typed and related in one pass; the released code loops over them in NumPy.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines._dense import Dense
from baselines.settings import UniRE
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder, Window
from sinet.model import spans as S
from sinet.model.weights import initialise_normal


class Role(Dense):
    """What a word is as head or tail of a cell, with a 1 behind it: (..., outputs + 1)."""

    def forward(self, words: Tensor) -> Tensor:
        return F.pad(super().forward(words), (0, 1), value=1.0)


class System(Extractor):
    """UniRE. Labels are numbered None, entity types, relation types."""

    Settings = UniRE
    settings: UniRE
    symmetric: Tensor
    """Of which labels a cell and its mirror image should agree: entity types and symmetric relation types (labels)."""
    citation = "Wang et al., ACL 2021: UniRE: A Unified Label Space for Entity Relation Extraction"
    test_settings: ClassVar[dict] = {"hidden_size": 32}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        encoder.window = Window(words=s.window, leading=s.window > 0)
        self.head = Role(encoder.hidden_size, s.hidden_size, s.dropout)
        self.tail = Role(encoder.hidden_size, s.hidden_size, s.dropout)
        self.relation_start = 1 + len(labels.entity_types)
        classes = self.relation_start + len(labels.relation_types)
        self.biaffine = nn.Parameter(torch.zeros(classes, s.hidden_size + 1, s.hidden_size + 1))
        self.logit_dropout = nn.Dropout(s.logit_dropout)
        of_relations = [name in labels.symmetric for name in labels.relation_types]
        symmetric = torch.tensor([False, *[True] * len(labels.entity_types), *of_relations])
        self.register_buffer("symmetric", symmetric, persistent=False)
        initialise_normal(self, "encoder.")

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Besides the pieces, `table` (batch, words, words): the gold label of every cell (row word, column word), a
        relation's over an entity's, the later annotated over the earlier, both rectangles of a symmetric relation's."""
        pieces = self.encoder.collate(sentences)
        longest = max(pieces.lengths)
        table = torch.zeros(len(sentences), longest, longest, dtype=torch.long)
        entity_label = {t: 1 + i for i, t in enumerate(self.labels.entity_types)}
        relation_label = {t: self.relation_start + i for i, t in enumerate(self.labels.relation_types)}
        for cells, sentence, length in zip(table, sentences, pieces.lengths, strict=True):
            for e in sentence.entities:
                if e.end <= length:
                    cells[e.start : e.end, e.start : e.end] = entity_label[e.type]
            for r in sentence.relations:
                head, tail = sentence.entities[r.head], sentence.entities[r.tail]
                if max(head.end, tail.end) <= length:
                    cells[head.start : head.end, tail.start : tail.end] = relation_label[r.type]
                    if r.type in self.labels.symmetric:
                        cells[tail.start : tail.end, head.start : head.end] = relation_label[r.type]
        return Batch(sentences, pieces.tensors() | {"table": table})

    def encode(self, batch: Batch) -> Tensor:
        """States of the words' first pieces, (words, hidden)."""
        types = batch["token_type_ids"] if self.encoder.window.leading else None
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"], token_type_ids=types)
        return hidden.flatten(0, 1).index_select(0, batch["word_start"])

    def scores(self, words: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Of `words` (words, hidden), the logits of all cells (batch, longest, longest, labels), [head; 1] U [tail; 1],
        and which words are real (batch, longest)."""
        sizes = lengths.tolist()
        head = pad_sequence(self.head(words).split(sizes), batch_first=True)
        # U [tail; 1] for all labels of a word, then with every head of its sentence
        tail = F.linear(self.tail(words), self.biaffine.flatten(0, 1))
        tail = pad_sequence(tail.split(sizes), batch_first=True).view(len(sizes), -1, head.shape[2])
        table = torch.bmm(head, tail.transpose(1, 2)).unflatten(2, (head.shape[1], -1)).float()
        return table, torch.arange(head.shape[1], device=lengths.device) < lengths.unsqueeze(1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Of cells: cross-entropy. Of implication, for every word: how much likelier the likeliest relation of each
        cell in its row and its column is than its own likeliest entity type. Of symmetry: the differences of mirrored
        cells in the labels that are symmetric."""
        scores, real = self.scores(self.encode(batch), batch["lengths"])
        inside = real.unsqueeze(2) & real.unsqueeze(1)
        cells = F.cross_entropy(self.logit_dropout(scores[inside]), batch["table"][inside], reduction="sum")
        likely = _probabilities(scores, inside)
        relation = self._of_relations(likely).max(-1).values
        entity = likely[..., 1 : self.relation_start].diagonal(dim1=1, dim2=2).max(1).values.unsqueeze(2)
        excess = F.relu(relation - entity).sum() + F.relu(relation.transpose(1, 2) - entity).sum()
        mirrored = likely[..., self.symmetric]
        difference = (mirrored - mirrored.transpose(1, 2)).abs().sum()
        return {"cells": cells, "implication": excess, "symmetry": difference}

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Means over the cells of a batch, over its words, and over its cells."""
        lengths = torch.cat([batch["lengths"] for batch in batches])
        words, cells = int(lengths.sum()), int(lengths.square().sum())
        return {"cells": cells, "implication": words, "symmetry": cells}

    def symmetrised(self, scores: Tensor, real: Tensor) -> Tensor:
        """Probabilities of the labels of cells, zero beyond a sentence, those of symmetric labels averaged with the
        mirrored cell's: like `scores` (batch, longest, longest, labels)."""
        likely = _probabilities(scores, real.unsqueeze(2) & real.unsqueeze(1))
        return torch.where(self.symmetric, (likely + likely.transpose(1, 2)) / 2, likely)

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Neighbouring words whose rows and columns differ by more than the threshold begin another span; a span's type
        is the likeliest in its square, that of two typed spans the likeliest in their rectangle, unless None is
        likelier. Scores are those means."""
        scores, real = self.scores(self.encode(batch), batch["lengths"])
        table = self.symmetrised(scores, real)
        begins = F.pad(distances(table) > self.settings.split_threshold, (1, 0), value=True)
        # of a word its span in the batch, of a span its first word and its place in the sentence
        span, first = begins[real].cumsum(0) - 1, begins[real].nonzero().squeeze(1)
        place = begins.cumsum(1) - 1
        spans, longest = len(first), int(place.max()) + 1
        column, sentence = place[real].index_select(0, first), batch["word_sentence"].index_select(0, first)
        width = torch.bincount(span, minlength=spans)
        # a cell's rectangle: the span of its row with one of the sentence; cells of padding add zero to one
        rectangle = (span.unsqueeze(1) * longest + place.index_select(0, batch["word_sentence"])).flatten()
        cells = table[real].flatten(0, 1)
        sums = cells.new_zeros(spans * longest, cells.shape[1])
        sums = sums.scatter_reduce(0, rectangle.unsqueeze(1).expand_as(cells), cells, "sum")

        def means(rows: Tensor, columns: Tensor) -> Tensor:
            area = width.index_select(0, rows) * width.index_select(0, columns)
            return sums.index_select(0, rows * longest + column.index_select(0, columns)) / area.unsqueeze(1)

        every = torch.arange(spans, device=first.device)
        square = means(every, every)
        score, kind = square[:, 1 : self.relation_start].max(1)
        typed = (score >= square[:, 0]).nonzero().squeeze(1)
        counts = torch.bincount(sentence.index_select(0, typed), minlength=len(batch))
        pairs = S.ordered_pairs(counts)
        between = means(*typed[pairs].unbind(1))
        relation_score, relation = self._of_relations(between).max(1)
        related = (relation_score >= between[:, 0]).nonzero().squeeze(1)
        start = batch["word_index"].index_select(0, first)
        entities = torch.stack([sentence, start, start + width, kind + 1], dim=1)
        return S.build_predictions(
            self.labels,
            len(batch),
            entities[typed],
            score[typed],
            torch.cat([pairs, relation.unsqueeze(1)], dim=1)[related],
            relation_score[related],
        )

    def _of_relations(self, likely: Tensor) -> Tensor:
        """The columns of relation types, and one that never wins, so that there is a maximum where there is no type."""
        return F.pad(likely[..., self.relation_start :], (0, 1), value=-1.0)


def _probabilities(scores: Tensor, inside: Tensor) -> Tensor:
    """Softmax over the labels of cells (..., labels), zero where they are not `inside` (...)."""
    return scores.softmax(-1).masked_fill(~inside.unsqueeze(-1), 0.0)


def distances(table: Tensor) -> Tensor:
    """Between each word and the next: the mean of the Euclidean distances of their rows and of their columns in `table`
    (batch, words, words, labels), each over all words and labels: (batch, words - 1)."""
    rows, columns = ((of[:, 1:] - of[:, :-1]).pow(2).sum((2, 3)).sqrt() for of in (table, table.transpose(1, 2)))
    return (rows + columns) / 2
