"""DyGIE++ without coreference: span enumeration, mention-score pruning, pair scores.

Wadden et al., EMNLP 2019, section 3; details follow the released code (dwadden/dygiepp, commit
b55dec4520a7f4cfa560db51ee32e9dd684e558b). A word is the mean of its pieces, a span
g = [first word ; last word ; width]; entities and mention scores come from feed-forward networks over g, relations from
one over [g_i ; g_j ; g_i * g_j] of the spans with the best mention scores, the pair of a span with itself among them.
Labels are as annotated, whether a relation is symmetric or not; of several of one pair the last counts.

What differs from the released configuration for SciERC:
- No coreference: that configuration propagates it once (`coref_prop: 1`) and trains it with weight 1. This is the
  light form, equal to the released code with a coreference weight of 0.
- A relation of a span with itself, or of spans that are no predicted entities, has no place in the common format and
  is not predicted; both are trained on.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.settings import DyGIEpp
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.endpoints import FeedForward, span_scores, word_means


class System(Extractor):
    """DyGIE++."""

    Settings = DyGIEpp
    settings: DyGIEpp
    released_form = "first layers over the concatenation of every span and pair"
    citation = (
        "Wadden et al., EMNLP 2019: Entity, Relation, and Event Extraction with Contextualized Span Representations"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 32, "spans_per_word": 1.0}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        parts = (encoder.hidden_size, encoder.hidden_size, s.width_size)
        network = functools.partial(FeedForward, hidden=s.hidden_size, dropout=s.dropout)
        self.width = nn.Embedding(s.max_span_width, s.width_size)
        self.entity = network(*parts, outputs=len(labels.entity_types))
        self.mention = network(*parts, outputs=1)
        self.relation = network(*3 * [sum(parts)], outputs=len(labels.relation_types))
        for name, weight in self.named_parameters():
            if name.endswith("weight") and not name.startswith("encoder."):
                nn.init.xavier_normal_(weight)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    # -- the network ---------------------------------------------------------------------------------------

    def prune(self, batch: Batch, mention: Tensor, fits: Tensor) -> Tensor:
        """Spans with the best mention scores of each sentence, in order of position.

        Args:
            mention: (words, max_span_width); fits: the same, whether the span stays inside its sentence.

        Returns:
            (kept, 2) word row and width less one.
        """
        keep = (batch["lengths"] * self.settings.spans_per_word).ceil().long().clamp(min=1)
        row, width = fits.nonzero(as_tuple=True)
        sentence = batch["word_sentence"][row]
        by_score = mention[row, width].argsort(descending=True, stable=True)
        kept = by_score[S.first_per_group(sentence[by_score], keep)].sort().values
        return torch.stack([row[kept], width[kept]], dim=1)

    def pair_scores(self, words: Tensor, mention: Tensor, kept: Tensor, pairs: Tensor) -> Tensor:
        """Relation scores, `(pairs, types)`; none has the score 0. `pairs` (pairs, 2) are positions in `kept`."""
        row, width = kept.unbind(1)
        spans = torch.cat([words[row], words[row + width], self.width(width).to(words.dtype)], dim=1)
        head, tail = pairs.unbind(1)
        product = spans.index_select(0, head) * spans.index_select(0, tail)
        scores = self.relation((spans, head), (spans, tail), product)
        mention = mention[row, width]
        return scores + (mention[head] + mention[tail]).unsqueeze(1)

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Entity scores (words, max_span_width, None and types), which spans fit, those kept (kept, 2), their ordered
        pairs (pairs, 2), and relation scores (pairs, none and types)."""
        words = word_means(self.encoder(batch["input_ids"], batch["attention_mask"]), batch)
        fits = S.span_grid(batch["words_left"], self.settings.max_span_width)
        mention = span_scores(self.mention, words, words, self.width.weight).squeeze(-1).float()
        ranked = mention.detach()
        if batch.gold_entities:
            ranked = ranked.masked_fill(S.gold_grid(fits, batch) > 0, torch.inf)  # given ones are not pruned
        kept = self.prune(batch, ranked, fits)
        counts = torch.bincount(batch["word_sentence"][kept[:, 0]], minlength=len(batch))
        pairs = S.ordered_pairs(counts, itself=True)
        relation = self.pair_scores(words, mention, kept, pairs)
        entity = span_scores(self.entity, words, words, self.width.weight)
        return F.pad(entity.float(), (1, 0)), fits, kept, pairs, F.pad(relation.float(), (1, 0))

    # -- training and prediction ---------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted: cross-entropies summed over all spans and over all pairs of kept spans."""
        entity, fits, kept, pairs, relation = self.scores(batch)
        gold = batch["gold_spans"]
        target = S.gold_grid(fits, batch)
        entity_loss = self.settings.entity_weight * F.cross_entropy(entity[fits], target[fits], reduction="sum")

        # which kept span a gold span is; the relations of one that was pruned are lost
        place = S.index_grid(fits.shape, kept)
        width = gold[:, 1] - gold[:, 0] - 1
        inside = width < self.settings.max_span_width
        number = torch.full((len(gold),), -1, device=fits.device)
        number[inside] = place[gold[inside, 0], width[inside]]
        triples = batch["gold_triples"][batch["gold_last_of_pair"]]
        arguments = number[triples[:, :2]]
        found = (arguments >= 0).all(1)
        table = torch.zeros(len(kept), len(kept), dtype=torch.long, device=fits.device)
        table[arguments[found].unbind(1)] = triples[found, 2] + 1
        labels = table[pairs.unbind(1)]
        return {"entity": entity_loss, "relation": F.cross_entropy(relation, labels, reduction="sum")}

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The best type of every span, and the best relation of every pair of kept spans that are entities."""
        entity, fits, kept, pairs, relation = self.scores(batch)
        types = S.gold_grid(fits, batch) if batch.gold_entities else entity.argmax(-1).masked_fill(~fits, 0)
        found = types.nonzero()
        start, width = found.unbind(1)
        kinds = types[start, width]
        number = S.index_grid(fits.shape, found)
        best = relation.argmax(-1)
        arguments = number[kept.unbind(1)][pairs]
        linked = (best > 0) & (arguments >= 0).all(1) & (pairs[:, 0] != pairs[:, 1])
        return S.build_packed_predictions(
            self.labels,
            batch,
            torch.stack([start, start + width + 1], dim=1),
            kinds,
            entity[start, width],
            torch.cat([arguments[linked], best[linked].unsqueeze(1) - 1], dim=1),
            relation[linked].softmax(-1).amax(1),
        )
