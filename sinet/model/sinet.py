"""SINET: Synergetic Interaction Network with Cross-task Attention, and its five ablation settings.

Luo et al., LREC-COLING 2024 (2024.lrec-main.1343), sections on task-aware projection (TAP), cross-task attention
(CTAM) and the span and pair classifiers; details that the paper omits follow the released code
(AONE-NLP/RTE-SINET, commit 5f67fda): no bias in the projections, an output projection and dropout in the
attention, one attention module for both directions.

What differs: [PAD] is masked in the cross-task attention ([SEP] is kept), so a batch gives each sentence the
figures it has alone; the released code attends over padding.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.model import spans as S
from sinet.model.dropout import Dropout

WIDTHS = 100
"""Rows of the width embedding; wider spans share the last one."""


class CrossTaskAttention(nn.Module):
    """CTAM: a task's [CLS] attends over the other task's projection (eqs. of section 3.3).

    Z = [other without its [CLS] ; own [CLS]], q = c W_q, K = Z W_k, V = Z W_v, out = LN(A V W_o + b_o + c).
    There is one query a sentence, so W_k is folded into the query and W_v is applied after the weighted sum:
    the same figures for O(n d) instead of O(n d^2).
    """

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

    def forward(self, other: Tensor, own_cls: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Let `own_cls` (batch, hidden) attend over `other` (batch, pieces, hidden).

        Returns:
            the enriched [CLS] (batch, hidden), and the attention (batch, heads, pieces) in which position 0
            stands for the task's own [CLS].
        """
        batch, hidden = own_cls.shape
        size = hidden // self.heads
        query = self.query(own_cls).view(batch, self.heads, size)
        folded = (query.transpose(0, 1) @ self.key.weight.view(self.heads, size, hidden)).transpose(0, 1)
        own = own_cls.unsqueeze(1)
        scores = torch.cat([folded @ own.transpose(1, 2), folded @ other[:, 1:].transpose(1, 2)], dim=-1)
        scores = scores.float() / size**0.5
        weights = scores.masked_fill(~mask.bool().unsqueeze(1), float("-inf")).softmax(dim=-1)
        kept = self.dropout(weights).to(other.dtype)
        mixed = kept[..., 1:] @ other[:, 1:] + kept[..., :1] * own
        values = mixed.transpose(0, 1) @ self.value.weight.view(self.heads, size, hidden).transpose(1, 2)
        out = self.dropout(self.output(values.transpose(0, 1).reshape(batch, hidden)))
        return self.norm(out + own_cls), weights


class System(Extractor):
    """SINET. `interaction` chooses the ablation setting; the default is the full model.

    Settings:
        max_span_width: widest candidate, in words. width_size: size of the width embedding.
        heads: attention heads of CTAM. dropout: on classifier inputs; attention_dropout: inside CTAM.
        negative_spans, negative_pairs: sampled per sentence in training. threshold: of a relation's sigmoid.
        interaction: "base" (one representation for both tasks), "tap" (one projection a task), "ctam_ner",
        "ctam_re" or "ctam" (besides, cross-task attention for the entity, the relation or both classifiers).
    """

    cites = (
        "Luo et al., LREC-COLING 2024: Synergetic Interaction Network with Cross-task Attention for Joint "
        "Relational Triple Extraction"
    )
    tiny: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "heads": 2, "negative_spans": 20}
    allowed: ClassVar[dict] = {
        "max_span_width": (1, 100),
        "width_size": (1, 10_000),
        "heads": (1, 1024),
        "dropout": (0.0, 0.99),
        "attention_dropout": (0.0, 0.99),
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
        threshold: float = 0.5,
        interaction: str = "ctam",
    ) -> None:
        super().__init__(labels, encoder)
        if interaction not in self.allowed["interaction"]:
            raise ValueError(f"interaction: {interaction!r} should be one of {', '.join(self.allowed['interaction'])}")
        hidden = encoder.hidden_size
        self.max_span_width = max_span_width
        self.negative_spans, self.negative_pairs = negative_spans, negative_pairs
        self.threshold = threshold
        self.ctam_entities, self.ctam_relations = (interaction in (task, "ctam") for task in ("ctam_ner", "ctam_re"))
        tap, ctam = interaction != "base", self.ctam_entities or self.ctam_relations
        self.project_entities = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.project_relations = nn.Linear(hidden, hidden, bias=False) if tap else None
        self.cross_attention = CrossTaskAttention(hidden, heads, attention_dropout) if ctam else None
        self.width = nn.Embedding(WIDTHS, width_size)
        self.entity_classifier = nn.Linear(2 * hidden + width_size, len(labels.entity_types) + 1)
        self.relation_classifier = nn.Linear(4 * hidden + 2 * width_size, len(labels.relation_types))
        self.dropout = Dropout(dropout)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding) and not name.startswith("encoder."):
                nn.init.normal_(module.weight, std=0.02)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)

    # -- input ---------------------------------------------------------------------------------------------

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        pieces = self.encoder.collate(sentences)
        return Batch(sentences, pieces.tensors() | S.gold_tensors(sentences, pieces.lengths, self.labels))

    # -- the network ---------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder, TAP and CTAM.

        Returns:
            `raw`, `entity`, `relation`: word maxima (words, hidden) of H, H^e and H^r; `entity_cls`,
            `relation_cls` (batch, hidden); with CTAM `entity_attention`, `relation_attention`
            (batch, heads, pieces).
        """
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        mask = batch["attention_mask"]
        entity = hidden if self.project_entities is None else self.project_entities(hidden)
        relation = hidden if self.project_relations is None else self.project_relations(hidden)
        states = {"entity_cls": entity[:, 0], "relation_cls": relation[:, 0]}
        if self.ctam_entities:
            states["entity_cls"], states["entity_attention"] = self.cross_attention(relation, entity[:, 0], mask)
        if self.ctam_relations:
            states["relation_cls"], states["relation_attention"] = self.cross_attention(entity, relation[:, 0], mask)
        start, end = batch["word_start"], batch["word_end"]
        longest = int((end - start).max())
        for name, task in (("raw", hidden), ("entity", entity), ("relation", relation)):
            states[name] = S.RangeMax(task.flatten(0, 1), longest)(start, end)
        return states

    def entity_logits(self, pooled: Tensor, cls: Tensor, width: Tensor) -> Tensor:
        """Scores of None and the entity types; the parts need only broadcast against each other.

        Args:
            pooled: (..., hidden) span maxima of H^e; cls: (..., hidden) of each span's sentence;
            width: (...) in words.
        """
        return self._classify(self.entity_classifier, cls, pooled, self._width(width))

    def relation_logits(
        self, context: Tensor, cls: Tensor, head: Tensor, tail: Tensor, head_width: Tensor, tail_width: Tensor
    ) -> Tensor:
        """Scores of the relation types, `(pairs, types)`; vectors are (pairs, hidden), widths (pairs) in words."""
        parts = (context, cls, head, tail, self._width(head_width), self._width(tail_width))
        return self._classify(self.relation_classifier, *parts)

    def _width(self, width: Tensor) -> Tensor:
        return self.width(width.clamp(max=self.width.num_embeddings - 1))

    def _classify(self, classifier: nn.Linear, *parts: Tensor) -> Tensor:
        # a linear map of a concatenation is a sum of linear maps: nothing is concatenated, and a part that many
        # spans share (the sentence's [CLS], a width) is multiplied once
        columns = classifier.weight.split([part.shape[-1] for part in parts], dim=1)
        logits = sum(F.linear(self.dropout(part), weight) for part, weight in zip(parts, columns, strict=True))
        return logits + classifier.bias

    def pair_logits(
        self,
        states: dict[str, Tensor],
        spans: Tensor,
        pooled: Tensor,
        pairs: Tensor,
        sentence: Tensor,
        longest: int,
    ) -> Tensor:
        """Relation scores of `pairs` (pairs, 2), positions in `spans` (spans, 2) with maxima `pooled` of H^r."""
        head, tail = pairs.unbind(1)
        starts, ends = spans.unbind(1)
        between = torch.minimum(ends[head], ends[tail]), torch.maximum(starts[head], starts[tail])
        context = S.RangeMax(states["raw"], longest)(*between)
        width = ends - starts
        return self.relation_logits(
            context,
            states["relation_cls"].index_select(0, sentence),
            pooled.index_select(0, head),
            pooled.index_select(0, tail),
            width[head],
            width[tail],
        )

    # -- training ------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross-entropy over gold and sampled spans plus mean binary cross-entropy over gold and sampled pairs."""
        states = self.encode(batch)
        lengths, gold = batch["lengths"], batch["gold_spans"]
        sentence_of_word = S.group_index(lengths)

        fits = S.span_grid(lengths, self.max_span_width)
        in_grid = gold[:, 1] - gold[:, 0] <= self.max_span_width
        fits[gold[in_grid, 0], gold[in_grid, 1] - gold[in_grid, 0] - 1] = False
        start, width = fits.nonzero(as_tuple=True)
        chosen = S.sample_per_group(sentence_of_word[start], len(lengths), self.negative_spans)
        negative = torch.stack([start[chosen], start[chosen] + width[chosen] + 1], dim=1)
        spans = torch.cat([gold, negative])
        span_width = spans[:, 1] - spans[:, 0]
        pooled = S.RangeMax(states["entity"], int(span_width.max()))(*spans.unbind(1))
        cls = states["entity_cls"].index_select(0, sentence_of_word[spans[:, 0]])
        target = F.pad(batch["gold_types"], (0, len(negative)))
        loss = F.cross_entropy(self.entity_logits(pooled, cls, span_width).float(), target)

        pairs = S.ordered_pairs(batch["gold_counts"])
        unrelated = ~torch.isin(pairs[:, 0] * len(gold) + pairs[:, 1], batch["not_negative"])
        unrelated &= (gold[pairs[:, 0]] != gold[pairs[:, 1]]).any(1)
        pairs = pairs[unrelated]
        pairs = pairs[S.sample_per_group(sentence_of_word[gold[pairs[:, 0], 0]], len(lengths), self.negative_pairs)]
        related = batch["gold_relations"]
        pairs = torch.cat([batch["gold_pairs"], pairs])
        if len(pairs):
            pooled = S.RangeMax(states["relation"], int((gold[:, 1] - gold[:, 0]).max()))(*gold.unbind(1))
            sentence = sentence_of_word[gold[pairs[:, 0], 0]]
            logits = self.pair_logits(states, gold, pooled, pairs, sentence, int(lengths.max()))
            target = F.pad(related, (0, 0, 0, len(pairs) - len(related)))
            loss = loss + F.binary_cross_entropy_with_logits(logits.float(), target)
        return loss

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Argmax over every span, then every ordered pair of predicted entities at the threshold."""
        states = self.encode(batch)
        lengths = batch["lengths"]
        sentence_of_word = S.group_index(lengths)
        widths = torch.arange(1, self.max_span_width + 1, device=lengths.device)
        cls = states["entity_cls"].index_select(0, sentence_of_word).unsqueeze(1)
        logits = self.entity_logits(S.sliding_max(states["entity"], self.max_span_width), cls, widths).float()
        types = logits.argmax(-1).masked_fill(~S.span_grid(lengths, self.max_span_width), 0)
        start, width = types.nonzero(as_tuple=True)
        spans = torch.stack([start, start + width + 1], dim=1)
        types = types[start, width]
        scores = logits[start, width].softmax(-1).gather(1, types.unsqueeze(1)).squeeze(1)
        sentence = sentence_of_word[start]

        pairs = S.ordered_pairs(torch.bincount(sentence, minlength=len(lengths)))
        relations = pairs.new_zeros(0, 2)
        probabilities = logits.new_zeros(0)
        if len(pairs):
            pooled = S.RangeMax(states["relation"], self.max_span_width)(*spans.unbind(1))
            logits = self.pair_logits(states, spans, pooled, pairs, sentence[pairs[:, 0]], int(lengths.max()))
            probabilities = logits.float().sigmoid()
            relations = (probabilities >= self.threshold).nonzero()
            probabilities = probabilities[relations[:, 0], relations[:, 1]]
        first_word = lengths.cumsum(0) - lengths
        local = spans - first_word[sentence].unsqueeze(1)
        return S.assemble(
            self.labels,
            len(batch),
            torch.cat([sentence.unsqueeze(1), local, types.unsqueeze(1)], dim=1),
            scores,
            torch.cat([pairs[relations[:, 0]], relations[:, 1:]], dim=1),
            probabilities,
        )

    # -- explanation ---------------------------------------------------------------------------------------

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
