"""Span-ASTE: aspect sentiment triplets by spans, pruned apart as targets and as opinions, and pairs of both.

Xu, Chia and Bing, ACL 2021, sections 3.2 (spans, their types), 3.3 (dual-channel pruning) and 3.4 (pairs); details
follow the released code (chiayewken/Span-ASTE, commit b252f8b), which is made of DyGIE++'s. Targets are here the first
of two entity types (Aspect), which are heads of relations, opinions the second, which are tails:

    g = [first word ; last word ; width]
    P(type) = softmax(FFNN(g)) over None, target and opinion
    half as many spans as there are words are kept by P(target), and as many by P(opinion)
    P(relation) = softmax(FFNN([g_opinion ; g_target ; distance])) over None and the polarities, of all pairs of both

A word is the mean of its pieces; the distance is that from the end of one to the start of the other, the lesser of both
ways round, in ten buckets. No gradient goes through the pruning.

What differs from the released code: whatever a triplet names as its target or opinion is an entity of that type, beside
those that P(type) finds, as in the common format relations need entities; the released scorer takes triplets alone. Of
several polarities of a pair, and types of a span, the last annotated counts. Nothing is predicted of the rows that pad
the spans kept of a sentence (the released code repeats triplets there).
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.settings import SpanASTE
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.endpoints import DISTANCES, FeedForward, distance_buckets, span_scores, span_vectors, word_means

TARGET, OPINION = 1, 2
"""Their classes; None is 0."""


class Scores(NamedTuple):
    """Of a batch: `entity` scores (words, max_span_width, None and types), which spans `fits`, those kept as `opinions`
    and as `targets` (kept, 2), word row and width less one, all `pairs` of both (pairs, 2), positions in them, and
    their `relation` scores (pairs, None and types)."""

    entity: Tensor
    fits: Tensor
    opinions: Tensor
    targets: Tensor
    pairs: Tensor
    relation: Tensor


class System(Extractor):
    """Span-ASTE."""

    Settings = SpanASTE
    settings: SpanASTE
    citation = "Xu, Chia and Bing, ACL 2021: Learning Span-Level Interactions for Aspect Sentiment Triplet Extraction"
    test_settings: ClassVar[dict] = {
        **{"max_span_width": 4, "width_size": 8, "distance_size": 8, "hidden_size": 32, "spans_per_word": 1.0}
    }
    released_form = "first layers over the concatenation of every span and pair"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        sizes = (encoder.hidden_size, encoder.hidden_size, s.width_size)
        network = functools.partial(FeedForward, hidden=s.hidden_size, dropout=s.dropout)
        self.width = nn.Embedding(s.max_span_width, s.width_size)
        self.distance = nn.Embedding(len(DISTANCES) + 1, s.distance_size)
        self.entity = network(*sizes, outputs=1 + len(labels.entity_types))
        self.relation = network(sum(sizes), sum(sizes), s.distance_size, outputs=1 + len(labels.relation_types))
        for name, weight in self.named_parameters():
            if name.endswith("weight") and not name.startswith("encoder."):
                nn.init.xavier_normal_(weight)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    def scores(self, batch: Batch) -> Scores:
        """What the losses are computed of, and what is decoded."""
        words = word_means(self.encoder(batch["input_ids"], batch["attention_mask"]), batch)
        fits = S.span_grid(batch["words_left"], self.settings.max_span_width)
        entity = span_scores(self.entity, words, words, self.width.weight).float()
        likely = entity.softmax(-1)
        keep = (batch["lengths"] * self.settings.spans_per_word).ceil().long()
        kept, counts = [], []
        for kind in (OPINION, TARGET):
            kept.append(S.best_spans(likely[..., kind], fits, batch["word_sentence"], keep))
            counts.append(torch.bincount(batch["word_sentence"][kept[-1][:, 0]], minlength=len(batch)))
        opinions, targets = kept
        pairs = S.cross_pairs(*counts)
        opinion, target = pairs.unbind(1)
        relation = self.relation(
            (span_vectors(words, self.width.weight, opinions), opinion),
            (span_vectors(words, self.width.weight, targets), target),
            (self.distance.weight, distance_buckets(distances(opinions[opinion], targets[target]))),
        )
        return Scores(entity, fits, opinions, targets, pairs, relation.float())

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies summed over all spans, and over all pairs of kept ones."""
        entity, fits, opinions, targets, pairs, relation = self.scores(batch)
        gold = S.gold_grid(fits, batch)
        # which kept spans the arguments of a triplet are; one of which an argument was pruned is lost
        triples = batch["gold_triples"][batch["gold_last_of_pair"]]
        spans = batch["gold_spans"][triples[:, :2]]
        target = S.found_in_grid(S.index_grid(fits.shape, targets), spans[:, 0])
        opinion = S.found_in_grid(S.index_grid(fits.shape, opinions), spans[:, 1])
        found = (target >= 0) & (opinion >= 0)
        table = torch.zeros(len(opinions), len(targets), dtype=torch.long, device=fits.device)
        table[opinion[found], target[found]] = triples[found, 2] + 1
        return {
            "entity": F.cross_entropy(entity[fits], gold[fits], reduction="sum"),
            "relation": F.cross_entropy(relation, table[pairs.unbind(1)], reduction="sum"),
        }

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best relation of every pair of kept spans, its arguments as entities, and the best type of every span."""
        entity, fits, opinions, targets, pairs, relation = self.scores(batch)
        score, best = relation.softmax(-1).max(-1)
        related = best.nonzero().squeeze(1)
        opinion, target = opinions[pairs[related, 0]], targets[pairs[related, 1]]
        best_type = entity.argmax(-1).masked_fill(~fits, 0)
        typed = torch.stack([best_type == kind for kind in (TARGET, OPINION)], dim=2)
        typed[..., TARGET - 1][target.unbind(1)] = True
        typed[..., OPINION - 1][opinion.unbind(1)] = True
        found = typed.nonzero()
        number = S.index_grid(typed.shape, found)
        start, width, kind = found.unbind(1)
        head, tail = number[..., TARGET - 1][target.unbind(1)], number[..., OPINION - 1][opinion.unbind(1)]
        return S.build_packed_predictions(
            self.labels,
            batch,
            torch.stack([start, start + width + 1], dim=1),
            kind + 1,
            entity[start, width],
            torch.stack([head, tail, best[related] - 1], dim=1),
            score[related],
        )


def distances(one: Tensor, other: Tensor) -> Tensor:
    """From the last word of one span to the first of the other, the lesser of both ways round: (pairs). Both are
    (pairs, 2), word row and width less one."""
    start, other_start = one[:, 0], other[:, 0]
    return torch.minimum((other_start - start - one[:, 1]).abs(), (start - other_start - other[:, 1]).abs())
