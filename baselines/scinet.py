"""SCI-Net: aspect sentiment triplets by a view for aspects, a view for opinions, and attention of both to relations.

By the group of SINET ("Revisiting Aspect Sentiment Triplet Extraction", Expert Systems with Applications 268, 2025, of
which the title alone could be read); everything follows the released code (Enronld/SCI-Net, commit 9a09359). Heads are
here the first of two entity types (Aspect), tails the second (Opinion), relations the polarities from head to tail:

    H_r = H W_r,  H_h = H W_h,  H_t = H W_t
    m_v = CTAM_v(c_v, H_r) + CTAM_v(c_r, H_v)          of either view v in {h, t}, c its projection's [CLS]
    view v of a span: W_v [m_v ; max of H_v ; width] + b, over None and the type of v
    pair: W [context ; m_h ; m_t ; head ; tail ; width ; width] + b, the context of H, each span by the view that is
    judged right for it

The judge takes the view that claims a span; where both do, or neither, the one with the greater logit, at a tie that of
heads. A pair is a span that the view of heads claims and another that the view of tails claims, whatever the judge
decides; it may have several types. So a predicted relation can begin at an entity of the second type.

What differs from the released code:
- [PAD] is masked in the attention, as in SINET; training attends over it with `mask_padding: false`.
- An aspect that is its own opinion has no pair; the released code trains on such a pair, and predicts none.
- Between given entities (not in the released code) pairs are heads with tails as they are given; the view that stands
  for a span is judged as ever.
- Negatives by torch's generator. The released encoder is built as BERT whatever its configuration names.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.settings import SCINet
from sinet.contract import Batch, Labels, Prediction, Sentence
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear
from sinet.model.sinet import CrossTaskAttention, over_words
from sinet.model.spanbased import SpanBased
from sinet.model.weights import initialise_normal

VIEWS = ("head", "tail")


class System(SpanBased):
    """SCI-Net; tensors of both views have the view first, that of heads and that of tails."""

    Settings = SCINet
    settings: SCINet
    citation = (
        "Revisiting Aspect Sentiment Triplet Extraction (SCI-Net), Expert Systems with Applications 268, 2025; "
        "its authors as in Enronld/SCI-Net"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "heads": 2, "negative_spans": 20}
    released_form = (
        "keys and values of every word piece, the projection of relations for either view, classifiers over the "
        "concatenation of every span and pair"
    )

    def add_classifiers(self, labels: Labels, hidden: int) -> None:
        s = self.settings
        self.project_relations = nn.Linear(hidden, hidden, bias=False)
        self.project = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in VIEWS)
        self.cross_attention = nn.ModuleList(CrossTaskAttention(hidden, s.heads, s.attention_dropout) for _ in VIEWS)
        self.entity_classifiers = nn.ModuleList(
            ConcatLinear(hidden, hidden, s.width_size, outputs=2, dropout=s.dropout) for _ in VIEWS
        )
        parts = 5 * [hidden] + 2 * [s.width_size]
        self.relation_classifier = ConcatLinear(*parts, outputs=len(labels.relation_types), dropout=s.dropout)
        initialise_normal(self, "encoder.")

    # -- the network ---------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder, projections and attention.

        Returns:
            `head`, `tail`, `context`: word maxima of H_h, H_t and H (words, hidden); of either view V `V_mixed`, its m,
            and `V_cls`, `V_relation_cls`, whose sum that is (batch, hidden), `V_attention`, `V_relation_attention`
            (batch, heads, pieces).
        """
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        relation = self.project_relations(hidden)
        padding = batch["attention_mask"] == 0
        if self.training and not self.mask_padding:
            padding = torch.zeros_like(padding)
        states, projected = {}, []
        for name, project, attend in zip(VIEWS, self.project, self.cross_attention, strict=True):
            view = project(hidden)
            if self.released and name == "tail":
                relation = self.project_relations(hidden)
            cls, states[f"{name}_attention"] = attend(view[:, 0], relation, padding)
            relation_cls, states[f"{name}_relation_attention"] = attend(relation[:, 0], view, padding)
            states |= {f"{name}_cls": cls, f"{name}_relation_cls": relation_cls, f"{name}_mixed": cls + relation_cls}
            projected.append(view)
        maxima = S.word_maxima(batch, *projected, hidden)
        return states | dict(zip((*VIEWS, "context"), maxima, strict=True))

    def entity_logits(self, batch: Batch, states: dict[str, Tensor], spans: Tensor) -> Tensor:
        """Of `spans` (spans, 2) in word rows the scores of None and the view's type, (2, spans, 2)."""
        sentence, widths = batch["word_sentence"][spans[:, 0]], self._widths(batch, spans)
        return torch.stack(
            [
                classify((states[f"{name}_mixed"], sentence), S.range_max(states[name], spans), widths)
                for name, classify in zip(VIEWS, self.entity_classifiers, strict=True)
            ]
        ).float()

    def relation_logits(self, batch: Batch, states: dict[str, Tensor], spans: Tensor, pairs: Tensor) -> Tensor:
        """Scores (pairs, types) of `pairs` (pairs, 2), positions of head and tail in `spans` (spans, 2); besides the
        states of `encode`, `by_tail` (spans): whether the view of tails stands for a span."""
        head, tail = pairs.unbind(1)
        between = S.context_span(spans[head], spans[tail])
        # one table of maxima, in which the rows of tails and of context lie behind those of heads
        rows = torch.cat([states["head"], states["tail"], states["context"]])
        words = len(states["head"])
        ranges = torch.cat([spans + states["by_tail"].unsqueeze(1) * words, between + 2 * words])
        pooled, context = S.range_max(rows, ranges).split([len(spans), len(pairs)])
        widths, width = self._widths(batch, spans)
        sentence = batch["word_sentence"][spans[head, 0]]
        mixed = [(states[f"{name}_mixed"], sentence) for name in VIEWS]
        return self.relation_classifier(
            context, *mixed, (pooled, head), (pooled, tail), (widths, width[head]), (widths, width[tail])
        )

    # -- training and prediction ---------------------------------------------------------------------------

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of either view over the candidate spans, of which its own type's alone are no None, and binary
        cross-entropy over all ordered pairs of gold entities, averaged over the types of a pair."""
        states = self.encode(batch)
        logits = self.entity_logits(batch, states, batch["candidate_spans"])
        terms = {
            name: F.cross_entropy(scores, (batch["candidate_types"] == kind).long(), reduction="sum")
            for kind, (name, scores) in enumerate(zip(VIEWS, logits, strict=True), 1)
        }
        if len(pairs := batch["candidate_pairs"]):
            gold = batch["gold_spans"]  # the first of the candidates
            states["by_tail"] = judged(logits[:, : len(gold)])
            scores = self.relation_logits(batch, states, gold, pairs)
            terms["relation"] = S.pair_loss(scores, batch["candidate_relations"])
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Means over all candidates of a batch."""
        counts = S.candidate_counts(batches)
        return {"head": counts["entity"], "tail": counts["entity"], "relation": counts["relation"]}

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """The type of the view that is judged right for a span, then every span claimed as head with every other
        claimed as tail, at the threshold."""
        states = self.encode(batch)
        spans, given = self.every_span(batch)
        logits = self.entity_logits(batch, states, spans)
        by_tail, claims = judged(logits), logits.argmax(-1) > 0
        typed = by_tail  # by the view of tails
        if batch.gold_entities:
            claims, typed = torch.stack([given == 1, given == 2]), given == 2
        found = claims.any(0).nonzero().squeeze(1)
        spans, claims, typed = spans[found], claims[:, found], typed[found]
        states["by_tail"] = by_tail[found]
        none, own = logits[typed.long(), found].unbind(1)
        impossible = float("-inf")  # the type of the other view
        classes = [none, own.masked_fill(typed, impossible), own.masked_fill(~typed, impossible)]
        sentence = batch["word_sentence"][spans[:, 0]]
        # the claimed spans of either view, sentence by sentence
        order = [(of := claim.nonzero().squeeze(1))[sentence[of].argsort(stable=True)] for claim in claims]
        counts = [torch.bincount(sentence[of], minlength=len(batch)) for of in order]
        head, tail = S.cross_pairs(*counts).unbind(1)
        pairs = torch.stack([order[0][head], order[1][tail]], dim=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
        related = self.related(lambda chunk: self.relation_logits(batch, states, spans, chunk), pairs)
        return S.build_packed_predictions(self.labels, batch, spans, typed + 1, torch.stack(classes, dim=1), *related)

    @torch.no_grad()
    def attention(self, sentence: Sentence) -> dict[str, Tensor]:
        """Of either view [CLS] over the projection of relations, and the [CLS] of relations over the view's."""
        batch = self.collate([sentence]).to(next(self.parameters()).device)
        names = [f"{view}{direction}" for view in VIEWS for direction in ("", "_relation")]
        return over_words(batch, self.encode(batch), names)


def judged(logits: Tensor) -> Tensor:
    """Whether the view of tails stands for a span: the view that claims it, else that of the greater logit, at a tie
    that of heads; `logits` (2, spans, 2), (spans)."""
    greatest, claims = logits.max(-1)
    return (claims[1] > claims[0]) | ((claims[1] == claims[0]) & (greatest[1] > greatest[0]))
