"""DyGIE: the spans of SciIE in a graph, along whose links of coreference and relations they are updated.

Luan et al., NAACL 2019, section 3; details follow the released code (luanyi/DyGIE, commit 23d24e8d, `model1`), read,
not run. Words, spans and networks are those of SciIE (`baselines.sciie`), predicted entities may overlap. First
coreference (with `coreference_weight` above 0), then relations:

- Coreference: candidates of a kept span are those before it with the best coarse scores
  f_ij = m_i + m_j + (W g_i + b) g_j, and s_ij = FFNN([g_i ; g_j ; g_i * g_j ; distance]) + f_ij. A round takes
  p = softmax([0 ; s]) and a_i = p_i0 g_i + sum_j p_ij g_j. In the paper g_i <- gate * g_i + (1 - gate) * a_i with
  gate = sigmoid(W [g_i ; a_i] + b); the released code mixes a_i with itself, so that its gate does nothing and
  g_i <- a_i (`gate: released`). f is that of the first g in all rounds.
- Relations: V_ij = FFNN([g_i ; g_j ; g_i * g_j]) + e_i + e_j between the spans kept of a sentence, a span with itself
  among them; u_i = sum_j (A ReLU(V_ij) + b) * g_j, f_i = sigmoid(W [u_i ; g_i] + b) and
  g_i <- f_i * u_i + (1 - f_i) * g_i. Relations are the last V, of before the last update; entities are scored of the
  last g.

What differs from the released code, besides what `baselines.sciie` lists: coreference is learnt in the same step
(released: in a step of its own, every second); for its loss, m, f and s are computed again of the updated g of the
kept spans, as in DyGIE++ (released: spans are chosen anew as well).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import dygiepp, sciie
from baselines._coreference import Coreference, antecedents
from baselines.settings import DyGIE
from sinet.contract import Labels
from sinet.encoders.encoder import Encoder
from sinet.model.concat import ConcatLinear


class CoarseCoreference(Coreference):
    """That of DyGIE."""

    settings: DyGIE

    def __init__(self, sizes: tuple[int, ...], settings: DyGIE) -> None:
        super().__init__(sizes, settings)
        size = sum(sizes)
        self.source = nn.Linear(size, size)
        self.dropout = nn.Dropout(settings.dropout)
        gated = settings.gate == "paper" and settings.coreference_rounds
        self.gate = ConcatLinear(size, size, outputs=size) if gated else None

    def linked(self, vectors: Tensor, mention: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        candidates = self.candidates(vectors, mention, groups)
        for _ in range(self.settings.coreference_rounds):
            share = self.scores(vectors, mention, *candidates).softmax(1).to(vectors.dtype)
            attended = share[:, :1] * vectors + share[:, 1:] @ vectors
            if self.gate is not None:
                gate = self.gate(vectors, attended).sigmoid()
                attended = gate * vectors + (1 - gate) * attended
            vectors = attended
        if self.settings.coreference_rounds:
            mention = self.mention(*vectors.split(self.sizes, dim=1)).squeeze(-1).float()
            candidates = self.candidates(vectors, mention, groups)
        scores = self.scores(vectors, mention, *candidates)
        before, known = antecedents(groups, len(groups))
        nearest_last = scores[:, 1:].gather(1, before.clamp(min=0)).masked_fill(~known, -torch.inf)
        return vectors, torch.cat([scores[:, :1], nearest_last], dim=1)

    def scores(self, vectors: Tensor, mention: Tensor, known: Tensor, coarse: Tensor) -> Tensor:
        """s of none, 0, and of every kept span, (kept, 1 + kept), minus infinity where it is no candidate."""
        every = torch.arange(len(known), device=known.device).expand_as(known)
        return self.antecedent_scores(vectors, mention, every, known) + F.pad(coarse, (1, 0))

    def candidates(self, vectors: Tensor, mention: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Which kept spans are candidates of each, and (W g_i + b) g_j of every two, both (kept, kept)."""
        before = torch.ones(len(groups), len(groups), dtype=torch.bool, device=groups.device).tril(-1)
        before = before & (groups == groups.unsqueeze(1))
        coarse = (self.dropout(self.source(vectors)) @ self.dropout(vectors).T).float()
        ranked = (coarse + mention).detach().masked_fill(~before, -torch.inf)
        best = ranked.topk(min(self.settings.max_antecedents, len(groups)), dim=1).indices
        return before & (torch.zeros_like(coarse).scatter(1, best, 1.0) > 0), coarse


class System(sciie.System):
    """DyGIE."""

    Settings = DyGIE
    settings: DyGIE
    links_by = CoarseCoreference
    citation = "Luan et al., NAACL 2019: A General Framework for Information Extraction using Dynamic Span Graphs"
    types = dygiepp.System.types

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        size, s = sum(self.sizes), self.settings
        self.updates = s.relation_rounds - (not s.relation_updates_entities)
        if self.updates > 0:
            self.transition = nn.Linear(len(labels.relation_types), size)
            self.relation_gate = ConcatLinear(size, size, outputs=size)
            for layer in (self.transition, self.relation_gate):
                nn.init.xavier_normal_(layer.weight)

    def related(self, spans: Tensor, mention: Tensor, pairs: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None]:
        scores = self.pair_scores(spans, mention, pairs)
        for number in range(self.updates):
            spans = self.updated(spans, scores, pairs, counts)
            if number < self.settings.relation_rounds - 1:
                scores = self.pair_scores(spans, mention, pairs)
        return scores, spans if self.settings.relation_updates_entities and self.updates > 0 else None

    def updated(self, spans: Tensor, scores: Tensor, pairs: Tensor, counts: Tensor) -> Tensor:
        """A round of propagation along relations: `spans` (kept, size), `scores` (pairs, types) of `pairs`.

        u_i = sum_t A_t * (sum_j ReLU(V_ijt) g_j) + b * sum_j g_j: the sums over the spans of a sentence come first, so
        that no pair needs a vector.
        """
        sentence = torch.arange(len(counts), device=spans.device).repeat_interleave(counts)
        place = torch.arange(len(spans), device=spans.device) - (counts.cumsum(0) - counts)[sentence]
        most, kinds = int(counts.max()), scores.shape[1] + 1
        table = spans.new_zeros(len(counts), most, kinds, most)
        head, tail = pairs.unbind(1)
        weights = F.pad(F.relu(scores), (0, 1), value=1.0).to(table.dtype)
        rows = (sentence[head].unsqueeze(1), place[head].unsqueeze(1))
        kind = torch.arange(kinds, device=spans.device)
        table = table.index_put((*rows, kind, place[tail].unsqueeze(1)), weights)
        others = spans.new_zeros(len(counts), most, spans.shape[1]).index_put((sentence, place), spans)
        sums = torch.bmm(table.flatten(1, 2), others).unflatten(1, (most, kinds))[sentence, place]
        factors = torch.cat([self.transition.weight.T, self.transition.bias.unsqueeze(0)])
        along = (sums * factors).sum(1)
        gate = self.relation_gate(along, spans).sigmoid()
        return gate * along + (1 - gate) * spans
