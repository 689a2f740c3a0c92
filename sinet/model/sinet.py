"""SINET: Synergetic Interaction Network with Cross-task Attention, and its five ablation settings.

Luo et al., LREC-COLING 2024 (2024.lrec-main.1343), sections on task-aware projection (TAP), cross-task attention
(CTAM) and the span and pair classifiers; details that the paper omits follow the released code
(AONE-NLP/RTE-SINET, commit 5f67fda): no bias in the projections, an output projection and dropout in the
attention, one attention module for both directions.

What differs: [PAD] is masked in the cross-task attention ([SEP] is kept), so a batch gives each sentence the
figures it has alone; the released code attends over padding, as training here does with `mask_padding: false`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sinet.contract import Batch, Labels, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.settings import SINET
from sinet.model.spanbased import SpanBased
from sinet.model.weights import initialise_normal


class CrossTaskAttention(nn.Module):
    """CTAM: a task's [CLS] c attends over the other task's projection T.

    Z = [c ; T without its [CLS]], q = c W_q, K = Z W_k, V = Z W_v; per head A = softmax(q K^T / sqrt(size));
    c' = LN(A V W_o + b_o + c). There is one query a sentence, so W_k is multiplied with the query and W_v with the
    weighted sum: q (Z W_k)^T = (q W_k^T) Z^T and A (Z W_v) = (A Z) W_v, O(n d) instead of O(n d^2). With `released` set
    every row of Z is multiplied by both, as in the authors' code.
    """

    released = False

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"{heads} attention heads do not divide the hidden size {hidden}")
        self.heads = heads
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-5)
        self.dropout = nn.Dropout(dropout)

    def forward(self, cls: Tensor, other: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Let `cls` (batch, hidden) attend over `other` (batch, pieces, hidden) where there is no `padding` (batch,
        pieces).

        Returns:
            c' (batch, hidden), and A (batch, heads, pieces), in which position 0 stands for the task's own [CLS].
        """
        z = torch.cat([cls.unsqueeze(1), other[:, 1:]], dim=1)  # the place of c in Z makes no difference
        key, value = (linear.weight.unflatten(0, (self.heads, -1)) for linear in (self.key, self.value))
        query = self.query(cls * key.shape[1] ** -0.5).unflatten(1, (self.heads, -1))
        if self.released:
            scores = (self._by_head(self.key(z)) @ query.unsqueeze(3)).squeeze(3)
        else:
            scores = (query.transpose(0, 1) @ key).transpose(0, 1) @ z.transpose(1, 2)
        weights = scores.float().masked_fill(padding.unsqueeze(1), float("-inf")).softmax(dim=-1)
        mixing = self.dropout(weights).to(z.dtype)
        if self.released:
            mixed = (mixing.unsqueeze(2) @ self._by_head(self.value(z))).squeeze(2)
        else:
            mixed = ((mixing @ z).transpose(0, 1) @ value.transpose(1, 2)).transpose(0, 1)
        return self.norm(self.dropout(self.output(mixed.flatten(1))) + cls), weights

    def _by_head(self, rows: Tensor) -> Tensor:
        """(batch, pieces, hidden) as (batch, heads, pieces, size)."""
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


class System(SpanBased):
    """SINET; `interaction` chooses the ablation setting."""

    Settings = SINET
    settings: SINET
    relation_cls = True
    citation = (
        "Luo et al., LREC-COLING 2024: Synergetic Interaction Network with Cross-task Attention for Joint "
        "Relational Triple Extraction"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "heads": 2, "negative_spans": 20}
    released_form = "keys and values of every word piece, classifiers over the concatenation of every span and pair"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s, hidden = self.settings, encoder.hidden_size
        self.ctam_entities, self.ctam_relations = (s.interaction in (task, "ctam") for task in ("ctam_ner", "ctam_re"))
        tap, ctam = s.interaction != "base", self.ctam_entities or self.ctam_relations
        self.project_entities = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.project_relations = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.cross_attention = CrossTaskAttention(hidden, s.heads, s.attention_dropout) if ctam else None
        initialise_normal(self, "encoder.")

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder, TAP and CTAM.

        Returns:
            `context`, `entity`, `relation`: word maxima of H, H^e and H^r (words, hidden); `entity_cls`, `relation_cls`
            (batch, hidden); with CTAM `entity_attention`, `relation_attention` (batch, heads, pieces).
        """
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])  # H (batch, pieces, hidden)
        entity = relation = hidden
        if self.project_entities is not None and self.project_relations is not None:  # TAP: H^e = H W_e, H^r = H W_r
            entity, relation = self.project_entities(hidden), self.project_relations(hidden)
        entity_cls, relation_cls = entity[:, 0], relation[:, 0]
        attention = {}
        padding = batch["attention_mask"] == 0
        if self.training and not self.mask_padding:
            padding = torch.zeros_like(padding)
        if self.cross_attention is not None and self.ctam_entities:  # c'^e = CTAM(c^e, H^r)
            entity_cls, attention["entity_attention"] = self.cross_attention(entity[:, 0], relation, padding)
        if self.cross_attention is not None and self.ctam_relations:  # c'^r = CTAM(c^r, H^e)
            relation_cls, attention["relation_attention"] = self.cross_attention(relation[:, 0], entity, padding)
        context, entity, relation = S.word_maxima(batch, hidden, entity, relation)
        return {
            **{"context": context, "entity": entity, "relation": relation},
            **{"entity_cls": entity_cls, "relation_cls": relation_cls},
            **attention,
        }

    @torch.no_grad()
    def attention(self, sentence: Sentence) -> dict[str, Tensor]:
        """Cross-task attention of both directions over the words of a sentence, each `(heads, words + 2)`.

        Columns are the task's own [CLS], the words (their pieces summed) and [SEP].
        """
        batch = self.collate([sentence]).to(next(self.parameters()).device)
        return over_words(batch, self.encode(batch), ("entity", "relation"))


def over_words(batch: Batch, states: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """By name, those of the attention maps `NAME_attention` (1, heads, pieces) that there are, over the words of a
    batch of one sentence, (heads, words + 2): the task's own [CLS], the words (their pieces summed) and [SEP]."""
    columns = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
    word = torch.bucketize(columns, batch["word_start"], right=True)
    word[-1] = batch["lengths"][0] + 1
    maps = {}
    for name in names:
        if (weights := states.get(f"{name}_attention")) is not None:
            summed = weights.new_zeros(weights.shape[1], int(word[-1]) + 1)
            maps[name] = summed.index_add_(1, word, weights[0])
    return maps
