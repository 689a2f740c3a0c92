"""What PFN and TCRE share: a table of every two positions for each task, its gold cells, its loss, and its decoding.

Yan et al., EMNLP 2021, section 3.3 (NER and RE units). Positions are word pieces, [CLS] and [SEP] included. Labels sit
on first pieces: an entity on the cell of its first and its last word, a relation on that of its arguments' first words.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines.settings import TableFillingSettings
from sinet.contract import Batch, Extractor, Prediction, Sentence
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear

PER_START = 4
"""Entities that a relation cell can hold for at either word: more start at one word only in an untrained model, whose
relations would otherwise grow with the fourth power of the length."""


class PairTable(nn.Module):
    """The NER or RE unit: scores of every pair of positions (eqs. 9 to 12).

    Args:
        features: size of the task's features; hidden: of a pair.
        shared: size of features of both tasks that the summary of a sentence reads beside the task's own; 0 for none.
    """

    def __init__(self, features: int, hidden: int, types: int, dropout: float, shared: int = 0) -> None:
        super().__init__()
        if shared:
            self.combine = nn.Linear(shared + features, features)
        self.pair = ConcatLinear(*3 * [features], outputs=hidden)
        self.norm = nn.LayerNorm(hidden)
        self.classify = nn.Linear(hidden, types)
        self.dropout = nn.Dropout(dropout)

    def summary(self, share: Tensor | None, task: Tensor, mask: Tensor | None) -> Tensor:
        """The global feature (batch, features), a maximum over positions: of both combined, (batch, length, ...), or
        of the task's own; without a mask over padding too."""
        combined = task if share is None else self.combine(torch.cat([share, task], dim=-1)).tanh()
        if mask is not None:
            least = -torch.inf if share is None else -1.0  # that tanh can give
            combined = combined.masked_fill(~mask.bool().unsqueeze(-1), least)
        return combined.max(1).values

    def forward(self, task: Tensor, summary: Tensor, ordered: bool) -> Tensor:
        """Logits of the pairs (i, j) of positions, (batch, length, length, types).

        Args:
            task: (batch, length, features); summary: (batch, features).
            ordered: only pairs with i <= j; the others get minus infinity.
        """
        if not ordered:
            return self._score(self.pair(task.unsqueeze(2), task.unsqueeze(1), summary[:, None, None]))
        length = task.shape[1]
        i, j = torch.triu_indices(length, length, device=task.device)
        scores = self.of_pairs(task, summary, i, j)
        table = scores.new_full((len(task), length, length, scores.shape[-1]), -torch.inf)
        table[:, i, j] = scores
        return table

    def of_pairs(self, task: Tensor, summary: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Logits of the pairs (i, j) only, both (pairs): (batch, pairs, types)."""
        rows, origin = task.flatten(0, 1), task.shape[1] * torch.arange(len(task), device=task.device).unsqueeze(1)
        return self._score(self.pair((rows, origin + i), (rows, origin + j), summary.unsqueeze(1)))

    def _score(self, pairs: Tensor) -> Tensor:
        return self.classify(F.elu(self.dropout(self.norm(pairs))))


class TableFilling(Extractor):
    """A system of one table a task: a subclass makes them by `tables` and says in `encode` what they read."""

    settings: TableFillingSettings
    test_settings: ClassVar[dict] = {"hidden_size": 32}
    released_form = "both tables over the concatenation of every two word pieces"
    entity_table: PairTable
    relation_table: PairTable

    def tables(self, features: int, shared: int = 0) -> list[PairTable]:
        """New tables of entities and relations."""
        s, types = self.settings, (self.labels.entity_types, self.labels.relation_types)
        return [PairTable(features, s.hidden_size, len(kinds), s.dropout, shared) for kinds in types]

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Besides the pieces, `gold_entities` and `gold_relations` (cells, 4): sentence, two positions, type."""
        pieces = self.encoder.collate(sentences, self.max_words)
        width = pieces.input_ids.shape[1]
        first_piece = (pieces.word_start % width).tolist()
        entity_type = {t: i for i, t in enumerate(self.labels.entity_types)}
        relation_type = {t: i for i, t in enumerate(self.labels.relation_types)}
        entities: list[tuple[int, ...]] = []
        relations: list[tuple[int, ...]] = []
        row = 0
        for b, (sentence, length) in enumerate(zip(sentences, pieces.lengths, strict=True)):
            at = first_piece[row : row + length]
            fitting = [e for e in sentence.entities if e.end <= length]
            entities.extend((b, at[e.start], at[e.end - 1], entity_type[e.type]) for e in fitting)
            for r in sentence.relations:
                head, tail = sentence.entities[r.head], sentence.entities[r.tail]
                if max(head.end, tail.end) <= length:
                    relations.append((b, at[head.start], at[tail.start], relation_type[r.type]))
            row += length
        gold = {"gold_entities": entities, "gold_relations": relations}
        return Batch(
            sentences,
            pieces.tensors()
            | {name: torch.tensor(cells, dtype=torch.long).view(-1, 4) for name, cells in gold.items()},
        )

    def encode(self, batch: Batch) -> tuple[tuple[PairTable, Tensor, Tensor], tuple[PairTable, Tensor, Tensor]]:
        """For entities and relations the table, its features (batch, pieces, features) and their summary."""
        raise NotImplementedError  # abstract: each system's own

    def seen(self, batch: Batch) -> Tensor | None:
        """What is no padding, (batch, pieces); None where padding is computed with, as in the released code."""
        return batch["attention_mask"] if self.mask_padding or not self.training else None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Binary cross-entropy summed over the cells of both tables."""
        mask = batch["attention_mask"].bool()
        both = mask.unsqueeze(2) & mask.unsqueeze(1)
        i, j = torch.triu_indices(*both.shape[1:], device=mask.device)
        (entities, features, summary), (relations, *relation) = self.encode(batch)
        logits = entities.of_pairs(features, summary, i, j)
        gold = _filled(batch["gold_entities"], logits.new_zeros(*both.shape, logits.shape[-1]))
        entity_loss = self._cells(logits, gold[:, i, j], both[:, i, j])
        logits = relations(*relation, ordered=False)
        relation_loss = self._cells(logits, _filled(batch["gold_relations"], torch.zeros_like(logits)), both)
        return {"entity": entity_loss, "relation": relation_loss}

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both sums are divided by the length of the batch, its longest sentence in word pieces."""
        longest = max(batch["input_ids"].shape[1] for batch in batches)
        return {"entity": longest, "relation": longest}

    @staticmethod
    def _cells(logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
        """Binary cross-entropy summed over the cells (..., types) that are `inside` (...)."""
        weight = inside.unsqueeze(-1).float()
        return F.binary_cross_entropy_with_logits(logits.float(), target.float(), weight=weight, reduction="sum")

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Entity cells at the threshold; a relation cell holds for the entities that start at its two words."""
        entity, relation = (
            self._word_table(batch, *parts, ordered)
            for parts, ordered in zip(self.encode(batch), (True, False), strict=True)
        )
        entities = (entity >= self.settings.entity_threshold).nonzero()
        sentence, start, last, kind = entities.unbind(1)
        number = S.index_grid(entity.shape, entities)
        likeliest = entity.flatten(2).topk(min(PER_START, entity.shape[2] * entity.shape[3]), dim=2).indices
        starting = number.flatten(2).gather(2, likeliest)
        cells = (relation >= self.relation_threshold).nonzero()
        head = starting[cells[:, 0], cells[:, 1]].unsqueeze(2)
        tail = starting[cells[:, 0], cells[:, 2]].unsqueeze(1)
        linked = ((head >= 0) & (tail >= 0) & (head != tail)).nonzero()
        cell, head, tail = linked[:, 0], head[linked[:, 0], linked[:, 1], 0], tail[linked[:, 0], 0, linked[:, 2]]
        return S.build_predictions(
            self.labels,
            len(batch),
            torch.stack([sentence, start, last + 1, kind + 1], dim=1),
            entity[entities.unbind(1)],
            torch.stack([head, tail, cells[cell, 3]], dim=1),
            relation[cells.unbind(1)][cell],
        )

    def _word_table(self, batch: Batch, table: PairTable, task: Tensor, summary: Tensor, ordered: bool) -> Tensor:
        """Probabilities over pairs of words, -1 beyond a sentence and, where they are `ordered`, below the diagonal:
        (batch, words, words, types)."""
        lengths = batch["lengths"].tolist()
        if not self.released:
            words = pad_sequence(task.flatten(0, 1)[batch["word_start"]].split(lengths), batch_first=True)
            logits = table(words, summary, ordered)
        else:  # every two pieces
            logits = table(task, summary, ordered=False)
            column = pad_sequence((batch["word_start"] % task.shape[1]).split(lengths), batch_first=True)
            rows = torch.arange(len(column), device=column.device)[:, None, None]
            logits = logits[rows, column.unsqueeze(2), column.unsqueeze(1)]
        inside = torch.arange(logits.shape[1], device=logits.device) < batch["lengths"].unsqueeze(1)
        both = inside.unsqueeze(2) & inside.unsqueeze(1)
        if ordered:
            both = both.triu()
        return logits.float().sigmoid().masked_fill(~both.unsqueeze(-1), -1.0)


def _filled(cells: Tensor, table: Tensor) -> Tensor:
    """`table` with ones at `cells` (cells, dimensions)."""
    table[cells.unbind(1)] = 1
    return table
