"""Span-based joint extraction: classify every span, then every ordered pair of predicted entities.

The part that SpERT (Eberts and Ulges, ECAI 2020) and SINET share, word for word in their released code: candidate
spans, width embedding, max-pooled spans and context, sampled negatives, loss, and decoding at a threshold. A system
says what the classifiers see (`encode`).
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear
from sinet.model.settings import SpanBasedSettings

WIDTHS = 100
"""Rows of the width embedding; wider spans share the last one."""
PAIRS = 1 << 14
"""Pairs scored at once in decoding; bounds its memory."""


class SpanBased(Extractor):
    """Span and pair classifiers over the states that `encode` gives."""

    settings: SpanBasedSettings
    relation_cls: ClassVar[bool] = False
    """Whether the relation classifier sees a [CLS] vector too."""

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        self.width = nn.Embedding(WIDTHS, self.settings.width_size)
        self.add_classifiers(labels, encoder.hidden_size)

    def add_classifiers(self, labels: Labels, hidden: int) -> None:
        """The classifiers of spans and of pairs."""
        s = self.settings
        self.entity_classifier = ConcatLinear(
            *(hidden, hidden, s.width_size), outputs=len(labels.entity_types) + 1, dropout=s.dropout
        )
        parts = (4 if self.relation_cls else 3) * [hidden] + 2 * [s.width_size]
        self.relation_classifier = ConcatLinear(*parts, outputs=len(labels.relation_types), dropout=s.dropout)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the classifiers see.

        Returns:
            `entity`, `relation`, `context`: word maxima (words, hidden) from which spans, the spans of a pair and what
            lies between them are pooled; `entity_cls` and, where the relation classifier sees one, `relation_cls`
            (batch, hidden).
        """
        raise NotImplementedError  # abstract: each system's own

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    # -- classifiers ---------------------------------------------------------------------------------------

    def entity_logits(self, batch: Batch, states: dict[str, Tensor], spans: Tensor) -> Tensor:
        """W [c^e ; s^e ; w] + b of `spans` (spans, 2) in word rows: scores (spans, None and entity types)."""
        sentence = batch["word_sentence"][spans[:, 0]]
        pooled = S.range_max(states["entity"], spans)
        return self.entity_classifier((states["entity_cls"], sentence), pooled, self._widths(batch, spans))

    def relation_logits(self, batch: Batch, states: dict[str, Tensor], spans: Tensor, pairs: Tensor) -> Tensor:
        """W [context ; (c^r) ; s^r_head ; s^r_tail ; w_head ; w_tail] + b of `pairs` (pairs, 2), positions of head and
        tail in `spans` (spans, 2): scores (pairs, relation types)."""
        head, tail = pairs.unbind(1)
        between = S.context_span(spans[head], spans[tail])
        # one table of maxima for both, in which the rows of context lie behind the others
        rows, ranges = torch.cat([states["relation"], states["context"]]), [spans, between + len(states["relation"])]
        pooled, context = S.range_max(rows, torch.cat(ranges)).split([len(spans), len(pairs)])
        widths, width = self._widths(batch, spans)
        cls = [(states["relation_cls"], batch["word_sentence"][spans[head, 0]])] if "relation_cls" in states else []
        return self.relation_classifier(
            context, *cls, (pooled, head), (pooled, tail), (widths, width[head]), (widths, width[tail])
        )

    def _widths(self, batch: Batch, spans: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of all widths that fit into a sentence of `batch`, and the row of each of `spans`."""
        longest = max(len(sentence.tokens) for sentence in batch.sentences)
        return self.width.weight[: longest + 1], (spans[:, 1] - spans[:, 0]).clamp(max=WIDTHS - 1)

    # -- training ------------------------------------------------------------------------------------------

    def training_batch(self, items: Sequence[Sentence]) -> Batch:
        """Besides the sentences `candidate_spans` (spans, 2) and their `candidate_types`, `candidate_pairs` (pairs, 2),
        positions in `gold_spans`, and their `candidate_relations` (pairs, types) 0/1: all gold ones and of each
        sentence as many sampled negatives as there may be."""
        batch = self.collate(items)
        gold, sentence = batch["gold_spans"], batch["word_sentence"]
        s = self.settings
        spans = S.negative_spans(batch, s.max_span_width)
        spans = spans[S.sample_per_group(sentence[spans[:, 0]], torch.full((len(batch),), s.negative_spans))]
        pairs, types, negative = S.fold_pairs(batch, self.labels, s.negative_reverses)
        of_pair = sentence[gold[negative[:, 0], 0]]
        negative = negative[S.sample_per_group(of_pair, torch.full((len(batch),), s.negative_pairs))]
        batch.tensors |= {
            "candidate_spans": torch.cat([gold, spans]),
            "candidate_types": F.pad(batch["gold_types"], (0, len(spans))),
            "candidate_pairs": torch.cat([pairs, negative]),
            "candidate_relations": F.pad(types, (0, 0, 0, len(negative))),
        }
        return batch

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy over the candidate spans, and binary cross-entropy over the candidate pairs, averaged over the
        types of a pair."""
        states = self.encode(batch)
        logits = self.entity_logits(batch, states, batch["candidate_spans"]).float()
        terms = {"entity": F.cross_entropy(logits, batch["candidate_types"], reduction="sum")}
        if len(pairs := batch["candidate_pairs"]):
            logits = self.relation_logits(batch, states, batch["gold_spans"], pairs)
            terms["relation"] = S.pair_loss(logits, batch["candidate_relations"])
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both terms are means over all candidates of a batch."""
        return S.candidate_counts(batches)

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Argmax over every span, then every ordered pair of predicted entities at the threshold."""
        states = self.encode(batch)
        spans, given = self.every_span(batch)
        logits = self.entity_logits(batch, states, spans).float()
        types = given if batch.gold_entities else logits.argmax(-1)
        found = types.nonzero().squeeze(1)
        spans, types, logits = spans[found], types[found], logits[found]
        pairs = S.pairs_within(batch["word_sentence"][spans[:, 0]], len(batch))
        related = self.related(lambda chunk: self.relation_logits(batch, states, spans, chunk), pairs)
        return S.build_packed_predictions(self.labels, batch, spans, types, logits, *related)

    def every_span(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """All spans of a batch, (spans, 2) in word rows, and their gold classes (spans), None = 0. By width, then by
        start: the released order, in which the first of two folded relations keeps its score."""
        fits = S.span_grid(batch["words_left"], self.settings.max_span_width)
        width, start = fits.T.nonzero(as_tuple=True)
        return torch.stack([start, start + width + 1], dim=1), S.gold_grid(fits, batch)[start, width]

    def related(self, logits: Callable[[Tensor], Tensor], pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The relations of `pairs` (pairs, 2) at the threshold, (relations, 3) with their types, and their scores
        (relations); `logits` gives those of some pairs, (pairs, types)."""
        relations, probabilities = [pairs.new_zeros(0, 3)], [torch.zeros(0, device=pairs.device)]
        for chunk in pairs.split(PAIRS) if len(pairs) else ():  # an untrained model takes every span for an entity
            scores = logits(chunk).float().sigmoid()
            pair, kind = (scores >= self.relation_threshold).nonzero(as_tuple=True)
            relations.append(torch.cat([chunk[pair], kind.unsqueeze(1)], dim=1))
            probabilities.append(scores[pair, kind])
        return torch.cat(relations), torch.cat(probabilities)
