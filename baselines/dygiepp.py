"""DyGIE++: span enumeration, mention-score pruning, pair scores; with coreference between the spans of a document, or
without.

Wadden et al., EMNLP 2019, section 3; details follow the released code (dwadden/dygiepp, commit
b55dec4520a7f4cfa560db51ee32e9dd684e558b). A word is the mean of its pieces, a span
g = [first word ; last word ; width]; entities and mention scores come from feed-forward networks over g, relations from
one over [g_i ; g_j ; g_i * g_j] of the spans with the best mention scores, the pair of a span with itself among them.
With `coreference_weight` above 0 a batch is a document, whose coreference is learnt as well; the networks for entities
and relations then read the g that were updated along it (`baselines._coreference`).
Labels are as annotated, whether a relation is symmetric or not; of several of one pair the last counts.
SciIE and DyGIE, of which it came, are made of it (`baselines.sciie`, `baselines.dygie`).

The released configuration for SciERC propagates coreference once and trains it with weight 1 (its light form: 0). What
differs: a relation of a span with itself, or of spans that are no predicted entities, has no place in the common format
and is not predicted; both are trained on. Nothing is predicted of the rows that pad the spans kept of a sentence (the
released code repeats relations there). A document of one word is read, on which the released code fails.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._coreference import Coreference, Links, PropagatedCoreference, clusters, gold_tensors, link_loss
from baselines.settings import DocumentSpanSettings, DyGIEpp
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.concat import WindowMeans
from sinet.model.endpoints import FeedForward, span_scores, span_vectors, word_means


class Scores(NamedTuple):
    """Of a batch: `entity` scores (words, max_span_width, None and types), which spans `fits`, those `kept` for
    relations (kept, 2), word row and width less one, their ordered `pairs` (pairs, 2), `relation` scores (pairs, none
    and types), and coreference."""

    entity: Tensor
    fits: Tensor
    kept: Tensor
    pairs: Tensor
    relation: Tensor
    links: Links | None


class System(Extractor):
    """DyGIE++."""

    Settings: ClassVar[type[DocumentSpanSettings]] = DyGIEpp
    settings: DocumentSpanSettings
    links_by: ClassVar[type[Coreference]] = PropagatedCoreference
    """How the spans of a document are linked."""
    released_form = "first layers over the concatenation of every span and pair"
    citation = (
        "Wadden et al., EMNLP 2019: Entity, Relation, and Event Extraction with Contextualized Span Representations"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 32, "spans_per_word": 1.0}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        self.sizes = self.part_sizes()
        network = functools.partial(FeedForward, hidden=s.hidden_size, dropout=s.dropout)
        self.width = nn.Embedding(s.max_span_width, s.width_size)
        self.entity = network(*self.sizes, outputs=len(labels.entity_types))
        self.mention = network(*self.sizes, outputs=1)
        self.relation = network(*3 * [sum(self.sizes)], outputs=len(labels.relation_types))
        self.coreference = self.links_by(self.sizes, s) if s.coreference_weight else None
        for name, weight in self.named_parameters():
            if name.endswith("weight") and not name.startswith("encoder."):
                nn.init.xavier_normal_(weight)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """With coreference also `document` and `gold_mentions` (`baselines._coreference.gold_tensors`)."""
        batch = S.collate(sentences, self.encoder, self.labels)
        if self.coreference is not None:
            batch.tensors |= gold_tensors(batch)
        return batch

    # -- the network ---------------------------------------------------------------------------------------

    def part_sizes(self) -> tuple[int, ...]:
        """Of the parts of a span's representation."""
        return self.encoder.hidden_size, self.encoder.hidden_size, self.settings.width_size

    def words(self, batch: Batch) -> tuple[Tensor, WindowMeans | None]:
        """What the ends of spans are read of, (words, hidden), and a mean of the words of every span, if there is."""
        return word_means(self.encoder(batch["input_ids"], batch["attention_mask"]), batch), None

    def span_scores(
        self, network: FeedForward, words: Tensor, links: Links | None, means: WindowMeans | None = None
    ) -> Tensor:
        """`network` over every span, (words, max_span_width, outputs), the updated ones among them."""
        scores = span_scores(network, words, words, self.width.weight, means)
        if links is None:
            return scores
        updated = network(*links.vectors.split(self.sizes, dim=1))
        return scores.index_put(links.spans.unbind(1), updated.to(scores.dtype))

    def span_vectors(
        self, words: Tensor, spans: Tensor, links: Links | None, means: WindowMeans | None = None
    ) -> Tensor:
        """The representations of `spans` (spans, 2), (spans, size), the updated ones among them."""
        vectors = span_vectors(words, self.width.weight, spans, means)
        if links is None:
            return vectors
        grid = torch.Size([len(words), self.settings.max_span_width])
        updated = S.index_grid(grid, links.spans)[spans.unbind(1)]
        return torch.where((updated < 0).unsqueeze(1), vectors, links.vectors[updated.clamp(min=0)])

    def pair_scores(self, spans: Tensor, mention: Tensor, pairs: Tensor) -> Tensor:
        """Relation scores, `(pairs, types)`; none has the score 0. `pairs` (pairs, 2) are positions in `spans` (kept,
        size), which have the mention scores `mention` (kept)."""
        head, tail = pairs.unbind(1)
        product = spans.index_select(0, head) * spans.index_select(0, tail)
        scores = self.relation((spans, head), (spans, tail), product)
        return scores + (mention[head] + mention[tail]).unsqueeze(1)

    def related(self, spans: Tensor, mention: Tensor, pairs: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
        """`pair_scores`, and the representations (kept, size) that entities are scored of after it, if others; `counts`
        (batch) of `spans`."""
        return self.pair_scores(spans, mention, pairs), None

    def links(self, words: Tensor, fits: Tensor, batch: Batch, means: WindowMeans | None = None) -> Links | None:
        """Coreference between the spans of the batch's documents; None of the light form."""
        if self.coreference is None:
            return None
        return self.coreference(words, self.width.weight, fits, batch, means)

    def kept_counts(self, lengths: Tensor) -> Tensor:
        """Spans of a sentence that are kept for relations, for `lengths` (batch)."""
        return (lengths * self.settings.spans_per_word).ceil().long().clamp(min=1)

    def scores(self, batch: Batch) -> Scores:
        """What the losses are computed of, and what is decoded."""
        words, means = self.words(batch)
        fits = S.span_grid(batch["words_left"], self.settings.max_span_width)
        links = self.links(words, fits, batch, means)
        mention = self.span_scores(self.mention, words, links, means).squeeze(-1).float()
        ranked = mention.detach()
        if batch.gold_entities:
            ranked = ranked.masked_fill(S.gold_grid(fits, batch) > 0, torch.inf)  # given ones are not pruned
        kept = S.best_spans(ranked, fits, batch["word_sentence"], self.kept_counts(batch["lengths"]))
        counts = torch.bincount(batch["word_sentence"][kept[:, 0]], minlength=len(batch))
        pairs = S.ordered_pairs(counts, itself=True)
        vectors = self.span_vectors(words, kept, links, means)
        relation, updated = self.related(vectors, mention[kept.unbind(1)], pairs, counts)
        entity = self.span_scores(self.entity, words, links, means)
        if updated is not None:
            scores = self.entity(*updated.split(self.sizes, dim=1))
            entity = entity.index_put(kept.unbind(1), scores.to(entity.dtype))
        return Scores(F.pad(entity.float(), (1, 0)), fits, kept, pairs, F.pad(relation.float(), (1, 0)), links)

    # -- training and prediction ---------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted: cross-entropies summed over all spans and over all pairs of kept spans, and the loss of
        coreference."""
        entity, fits, kept, pairs, relation, links = self.scores(batch)
        gold = batch["gold_spans"]
        target = S.gold_grid(fits, batch)
        entity_loss = self.settings.entity_weight * F.cross_entropy(entity[fits], target[fits], reduction="sum")

        # which kept span a gold span is; the relations of one that was pruned are lost
        number = S.found_in_grid(S.index_grid(fits.shape, kept), gold)
        triples = batch["gold_triples"][batch["gold_last_of_pair"]]
        arguments = number[triples[:, :2]]
        found = (arguments >= 0).all(1)
        table = torch.zeros(len(kept), len(kept), dtype=torch.long, device=fits.device)
        table[arguments[found].unbind(1)] = triples[found, 2] + 1
        labels = table[pairs.unbind(1)]
        losses = {"entity": entity_loss, "relation": F.cross_entropy(relation, labels, reduction="sum")}
        if links is not None:
            losses["coreference"] = self.settings.coreference_weight * link_loss(links, fits, batch)
        return losses

    def types(self, entity: Tensor, fits: Tensor, batch: Batch) -> Tensor:
        """The class of every span, None = 0, like `fits`: the best of its scores."""
        return entity.argmax(-1).masked_fill(~fits, 0)

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best type of every span, the best relation of every pair of kept spans that are entities, and the
        clusters of spans that are linked to their best antecedents."""
        entity, fits, kept, pairs, relation, links = self.scores(batch)
        types = S.gold_grid(fits, batch) if batch.gold_entities else self.types(entity, fits, batch)
        found = types.nonzero()
        start, width = found.unbind(1)
        kinds = types[start, width]
        number = S.index_grid(fits.shape, found)
        best = relation.argmax(-1)
        arguments = number[kept.unbind(1)][pairs]
        linked = (best > 0) & (arguments >= 0).all(1) & (pairs[:, 0] != pairs[:, 1])
        predictions = S.build_packed_predictions(
            self.labels,
            batch,
            torch.stack([start, start + width + 1], dim=1),
            kinds,
            entity[start, width],
            torch.cat([arguments[linked], best[linked].unsqueeze(1) - 1], dim=1),
            relation[linked].softmax(-1).amax(1),
        )
        if links is None:
            return predictions
        return [replace(p, coreference=c) for p, c in zip(predictions, clusters(links, batch), strict=True)]
