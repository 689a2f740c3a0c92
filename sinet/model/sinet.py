"""SINET: Synergetic Interaction Network with Cross-task Attention, and its five ablation settings.

Luo et al., LREC-COLING 2024 (2024.lrec-main.1343), sections on task-aware projection (TAP), cross-task attention
(CTAM) and the span and pair classifiers; details that the paper omits follow the released code
(AONE-NLP/RTE-SINET, commit 5f67fda): no bias in the projections, an output projection and dropout in the
attention, one attention module for both directions.

What differs: [PAD] is masked in the cross-task attention ([SEP] is kept), so a batch gives each sentence the
figures it has alone; the released code attends over padding, as training here does with `mask_padding: false`.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from sinet.contract import Batch, Labels, Sentence
from sinet.model import spans as S
from sinet.model.dropout import Dropout
from sinet.model.initial import initialise_normal
from sinet.model.packed import Packable, PackedLinear
from sinet.model.spanbased import SpanBased


class CrossTaskAttention(Packable, nn.Module):
    """CTAM: a task's [CLS] attends over the other task's projection (eqs. of section 3.3).

    Z = [other without its [CLS] ; own [CLS]], q = c W_q, K = Z W_k, V = Z W_v, out = LN(A V W_o + b_o + c).
    There is one query a sentence, so W_k is folded into the query and W_v is applied after the weighted sum:
    the same figures for O(n d) instead of O(n d^2). `released` multiplies every row of Z by both.
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
        self.dropout = Dropout(dropout)

    def prepare(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """W_k (heads, size, hidden) and W_v (heads, hidden, size)."""
        key, value = (linear.weight.to(dtype).unflatten(0, (self.heads, -1)) for linear in (self.key, self.value))
        return key, value.transpose(1, 2)

    def forward(self, other: Tensor, own_cls: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Let `own_cls` (batch, hidden) attend over `other` (batch, pieces, hidden) where there is no `padding`.

        `padding` (sentences, pieces) serves a batch of several times these sentences, one task after the other. `other`
        is changed: its [CLS] gives way to `own_cls`, whose place in Z makes no difference.

        Returns:
            the enriched [CLS] (batch, hidden), and the attention (batch, heads, pieces) in which position 0
            stands for the task's own [CLS].
        """
        key, value = self.ready or self.prepare(self.key.weight.dtype)
        query = self.query(own_cls * key.shape[1] ** -0.5).unflatten(1, (self.heads, -1))
        other[:, 0] = own_cls
        if self.released:
            keys, values = (z(other).unflatten(2, (self.heads, -1)).transpose(1, 2) for z in (self.key, self.value))
            scores = (keys @ query.unsqueeze(3)).squeeze(3)
        else:
            folded = (query.transpose(0, 1) @ key).transpose(0, 1)
            scores = torch.bmm(folded, other.transpose(1, 2)).float()
        scores.unflatten(0, (-1, len(padding))).masked_fill_(padding.unsqueeze(1), float("-inf"))
        weights = scores.softmax(dim=-1)
        if self.released:
            values = (weights.unsqueeze(2) @ values).flatten(1)
        else:
            mixed = torch.bmm(self.dropout(weights).to(other.dtype), other)
            values = (mixed.transpose(0, 1) @ value).transpose(0, 1).flatten(1)
        return self.norm(self.dropout(self.output(values)) + own_cls), weights


class System(SpanBased):
    """SINET. `interaction` chooses the ablation setting; the default is the full model.

    Settings:
        max_span_width: widest candidate, in words. width_size: size of the width embedding.
        heads: attention heads of CTAM. dropout: on classifier inputs; attention_dropout: inside CTAM.
        negative_spans, negative_pairs: sampled per sentence in training. negative_reverses: whether the reverse of a
        symmetric gold pair may be one of them. threshold: of a relation's sigmoid.
        mask_padding: whether CTAM leaves padding out in training; the released code does not. Prediction always does.
        interaction: "base" (one representation for both tasks), "tap" (one projection a task), "ctam_ner",
        "ctam_re" or "ctam" (besides, cross-task attention for the entity, the relation or both classifiers).
    """

    cites = (
        "Luo et al., LREC-COLING 2024: Synergetic Interaction Network with Cross-task Attention for Joint "
        "Relational Triple Extraction"
    )
    tiny: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "heads": 2, "negative_spans": 20}
    released_form = "keys and values of every word piece, classifiers over the concatenation of every span and pair"
    allowed: ClassVar[dict] = {
        "max_span_width": (1, 100),
        "width_size": (1, 10_000),
        "heads": (1, 1024),
        "dropout": (0.0, 0.99),
        "attention_dropout": (0.0, 0.99),
        "negative_spans": (1, 1_000_000),
        "threshold": (0.0, 1.0),
        "interaction": ("base", "tap", "ctam_ner", "ctam_re", "ctam"),
    }

    def __init__(
        self,
        labels: Labels,
        encoder: nn.Module,
        *,
        max_span_width: int = 8,
        width_size: int = 100,
        heads: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.2,
        negative_spans: int = 100,
        negative_pairs: int = 100,
        negative_reverses: bool = True,
        threshold: float = 0.5,
        mask_padding: bool = True,
        interaction: str = "ctam",
    ) -> None:
        if interaction not in self.allowed["interaction"]:
            raise ValueError(f"interaction: {interaction!r} should be one of {', '.join(self.allowed['interaction'])}")
        super().__init__(
            labels,
            encoder,
            relation_cls=True,
            max_span_width=max_span_width,
            width_size=width_size,
            dropout=dropout,
            negative_spans=negative_spans,
            negative_pairs=negative_pairs,
            negative_reverses=negative_reverses,
            threshold=threshold,
        )
        hidden = encoder.hidden_size
        self.mask_padding = mask_padding
        self.ctam_entities, self.ctam_relations = (interaction in (task, "ctam") for task in ("ctam_ner", "ctam_re"))
        self.kinds = 1 if interaction == "base" else 3  # H, H^r, H^e
        tap, ctam = interaction != "base", self.ctam_entities or self.ctam_relations
        self.project_entities = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.project_relations = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.cross_attention = CrossTaskAttention(hidden, heads, attention_dropout) if ctam else None
        initialise_normal(self, "encoder.")

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder, TAP and CTAM.

        Returns:
            `context`, `entity`, `relation`: word maxima (words, hidden) of H, H^e and H^r; `entity_cls`, `relation_cls`
            (batch, hidden); with CTAM `entity_attention`, `relation_attention` (batch, heads, pieces).
        """
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        pieces = hidden.flatten(0, 1)
        if self.project_entities is None:
            words, cls = S.word_maxima(batch, pieces), hidden[:, 0]
            return {"context": words, "entity": words, "relation": words, "entity_cls": cls, "relation_cls": cls}
        projected, words = self._project(batch, pieces)
        states = dict(zip(("context", "relation", "entity"), words, strict=True))
        others = projected.unflatten(1, hidden.shape[:2])
        cls = others[:, :, 0].clone()  # attending puts a task's own in the other's place
        states |= zip(("relation_cls", "entity_cls"), cls, strict=True)
        # over H^r the entities attend, over H^e the relations
        attending = slice(1 - self.ctam_entities, 1 + self.ctam_relations)
        if tasks := ("entity", "relation")[attending]:
            own = cls.flip(0)[attending].flatten(0, 1)
            padding = batch["attention_mask"] == 0
            if self.training and not self.mask_padding:
                padding = torch.zeros_like(padding)
            out = self.cross_attention(others[attending].flatten(0, 1), own, padding)
            for task, enriched, weights in zip(tasks, *(part.chunk(len(tasks)) for part in out), strict=True):
                states |= {f"{task}_cls": enriched, f"{task}_attention": weights}
        return states

    def _project(self, batch: Batch, pieces: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """H^r and H^e of H (rows, hidden), one behind the other, so that the rows over which both tasks attend are a
        view: (2, rows, hidden), and word maxima of H, H^r and H^e, (words, hidden) each."""
        projections = self.ready["projections"] if self.ready else self._projections()
        if torch.is_grad_enabled():  # no gradient goes through `out`
            projected = torch.bmm(pieces.expand(2, -1, -1), projections)
            return projected, (S.word_maxima(batch, pieces), *S.word_maxima(batch, projected))
        rows = projections.new_empty(3, *pieces.shape)  # side by side they are pooled at once
        rows[0] = pieces
        torch.bmm(rows[0].expand(2, -1, -1), projections, out=rows[1:])
        return rows[1:], S.word_maxima(batch, rows).unbind(0)

    def _projections(self) -> Tensor:
        """Of H^r and H^e, (2, inputs, outputs)."""
        return torch.stack([self.project_relations.weight, self.project_entities.weight]).transpose(1, 2)

    def prepare(self, dtype: torch.dtype) -> dict[str, PackedLinear | Tensor]:
        parts = super().prepare(dtype)
        if self.project_entities is not None:
            parts["projections"] = self._projections().to(dtype).contiguous()
        return parts

    @torch.no_grad()
    def attention(self, sentence: Sentence) -> dict[str, Tensor]:
        """Cross-task attention of both directions over the words of a sentence, each `(heads, words + 2)`.

        Columns are the task's own [CLS], the words (their pieces summed) and [SEP].
        """
        batch = self.collate([sentence]).to(next(self.parameters()).device)
        states = self.encode(batch)
        columns = torch.arange(batch["input_ids"].shape[1], device=batch["input_ids"].device)
        word = torch.bucketize(columns, batch["word_start"], right=True)
        word[-1] = batch["lengths"][0] + 1
        maps = {}
        for name in ("entity", "relation"):
            if (weights := states.get(f"{name}_attention")) is not None:
                summed = weights.new_zeros(weights.shape[1], int(word[-1]) + 1)
                maps[name] = summed.index_add_(1, word, weights[0])
        return maps
