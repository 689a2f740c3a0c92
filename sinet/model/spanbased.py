"""Span-based joint extraction: classify every span, then every ordered pair of predicted entities.

The part that SpERT (Eberts and Ulges, ECAI 2020) and SINET share, word for word in their released code: candidate
spans, width embedding, max-pooled spans and context, sampled negatives, loss, and decoding at a threshold. A system
says what the classifiers see (`encode`).
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.model import spans as S
from sinet.model.dropout import Dropout
from sinet.model.packed import Packable, PackedLinear

WIDTHS = 100
"""Rows of the width embedding; wider spans share the last one."""
PAIRS = 1 << 14
"""Unordered pairs scored at once in decoding; bounds its memory."""


class SpanBased(Packable, Extractor):
    """Span and pair classifiers over the states that `encode` gives.

    Args:
        relation_cls: whether the relation classifier sees a [CLS] vector too.
        max_span_width: widest candidate, in words. width_size: size of the width embedding.
        dropout: on classifier inputs. negative_spans, negative_pairs: sampled per sentence in training.
        negative_reverses: whether the reverse of a symmetric gold pair may be a negative.
        threshold: of a relation's sigmoid.
    """

    def __init__(
        self,
        labels: Labels,
        encoder: nn.Module,
        *,
        relation_cls: bool,
        max_span_width: int,
        width_size: int,
        dropout: float,
        negative_spans: int,
        negative_pairs: int,
        negative_reverses: bool,
        threshold: float,
    ) -> None:
        super().__init__(labels, encoder)
        hidden = encoder.hidden_size
        self.max_span_width = max_span_width
        self.negative_spans, self.negative_pairs = negative_spans, negative_pairs
        self.negative_reverses, self.threshold = negative_reverses, threshold
        self.kinds = 1
        """Kinds of piece rows of which `encode` takes the word maxima at once."""
        self.width = nn.Embedding(WIDTHS, width_size)
        self.entity_classifier = nn.Linear(2 * hidden + width_size, len(labels.entity_types) + 1)
        self.relation_classifier = nn.Linear(
            (4 if relation_cls else 3) * hidden + 2 * width_size, len(labels.relation_types)
        )
        self.dropout = Dropout(dropout)

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """What the classifiers see.

        Returns:
            `entity`, `relation`, `context`: word maxima (words, hidden) from which spans, the spans of a pair and what
            lies between them are pooled; `entity_cls` and, where the relation classifier sees one, `relation_cls`
            (batch, hidden).
        """
        raise NotImplementedError  # abstract: each system's own

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        batch = S.collate(sentences, self.encoder, self.labels)
        batch.tensors |= S.word_rows(batch["word_start"], batch["word_end"], batch["input_ids"].numel(), self.kinds)
        return batch

    # -- classifiers ---------------------------------------------------------------------------------------

    def entity_logits(self, pooled: Tensor, cls: Tensor, width: Tensor) -> Tensor:
        """Scores of None and the entity types; the parts need only broadcast against each other.

        Args:
            pooled: (..., hidden) span maxima of H^e; cls: (..., hidden) of each span's sentence;
            width: (...) in words.
        """
        return self._classify(self.entity_classifier, cls, pooled, self._width(width))

    def relation_logits(
        self, context: Tensor, cls: Tensor | None, head: Tensor, tail: Tensor, head_width: Tensor, tail_width: Tensor
    ) -> Tensor:
        """Scores of the relation types, `(pairs, types)`; vectors are (pairs, hidden), widths (pairs) in words."""
        seen = (context, head, tail) if cls is None else (context, cls, head, tail)
        return self._classify(self.relation_classifier, *seen, self._width(head_width), self._width(tail_width))

    def _width(self, width: Tensor) -> Tensor:
        return self.width(width.clamp(max=self.width.num_embeddings - 1))

    def _classify(self, classifier: nn.Linear, *parts: Tensor) -> Tensor:
        if self.released:
            return classifier(S.concatenated(*parts))
        # a linear map of a concatenation is a sum of linear maps: nothing is concatenated, and a part that many
        # spans share (the sentence's [CLS], a width) is multiplied once
        columns = classifier.weight.split([part.shape[-1] for part in parts], dim=1)
        logits = sum(F.linear(self.dropout(part), weight) for part, weight in zip(parts, columns, strict=True))
        return logits + classifier.bias

    def pair_logits(
        self,
        batch: Batch,
        states: dict[str, Tensor],
        spans: Tensor,
        pooled: Tensor,
        pairs: Tensor,
    ) -> Tensor:
        """Relation scores of `pairs` (pairs, 2), positions in `spans` (spans, 2) with maxima `pooled` of H^r."""
        head, tail = pairs.unbind(1)
        sentence = batch["word_sentence"][spans[head, 0]]
        begin, stop = S.between(spans, head, tail)
        context = S.range_max(states["context"], begin, stop, int((stop - begin).max()))
        width = spans[:, 1] - spans[:, 0]
        cls = states.get("relation_cls")
        return self.relation_logits(
            context,
            None if cls is None else cls.index_select(0, sentence),
            pooled.index_select(0, head),
            pooled.index_select(0, tail),
            width[head],
            width[tail],
        )

    # -- training ------------------------------------------------------------------------------------------

    def training_batch(self, items: Sequence[Sentence]) -> Batch:
        """Besides the sentences `candidate_spans` (spans, 2) and their `candidate_types`, `candidate_pairs` (pairs, 2),
        positions in `gold_spans`, and their `candidate_relations` (pairs, types) 0/1: all gold ones and of each
        sentence as many sampled negatives as there may be."""
        batch = self.collate(items)
        gold, sentence = batch["gold_spans"], batch["word_sentence"]
        spans = S.negative_spans(batch, self.max_span_width)
        spans = spans[S.sample_per_group(sentence[spans[:, 0]], torch.full((len(batch),), self.negative_spans))]
        pairs, types, negative = S.fold_pairs(batch, self.labels, self.negative_reverses)
        of_pair = sentence[gold[negative[:, 0], 0]]
        negative = negative[S.sample_per_group(of_pair, torch.full((len(batch),), self.negative_pairs))]
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
        spans, gold, pairs = batch["candidate_spans"], batch["gold_spans"], batch["candidate_pairs"]
        width = spans[:, 1] - spans[:, 0]
        pooled = S.range_max(states["entity"], *spans.unbind(1), int(width.max()))
        cls = states["entity_cls"].index_select(0, batch["word_sentence"][spans[:, 0]])
        logits = self.entity_logits(pooled, cls, width).float()
        terms = {"entity": F.cross_entropy(logits, batch["candidate_types"], reduction="sum")}
        if len(pairs):
            pooled = S.range_max(states["relation"], *gold.unbind(1), int((gold[:, 1] - gold[:, 0]).max()))
            logits = self.pair_logits(batch, states, gold, pooled, pairs)
            terms["relation"] = S.pair_loss(logits, batch["candidate_relations"])
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both terms are means over all candidates of a batch."""
        return S.candidate_counts(batches)

    # -- prediction ----------------------------------------------------------------------------------------

    def prepare(self, dtype: torch.dtype) -> dict[str, PackedLinear | Tensor]:
        return self._split(dtype)

    def _split(self, dtype: torch.dtype, layout: bool = True) -> dict[str, PackedLinear | Tensor]:
        """Both classifiers by the parts of their input, so that each is multiplied once for all spans or pairs that
        share it; widths become tables of scores."""
        hidden, size = self.encoder.hidden_size, self.width.embedding_dim
        widths = self.width.weight[[min(w, WIDTHS - 1) for w in range(self.max_span_width + 1)]]
        cls, span, width = self.entity_classifier.weight.split([hidden, hidden, size], dim=1)
        relation, columns = self.relation_classifier, [hidden, hidden, hidden, size, size]
        if relation.in_features > sum(columns):
            columns = [hidden, *columns]
        context, *relation_cls, head, tail, head_width, tail_width = relation.weight.split(columns, dim=1)
        linear = functools.partial(PackedLinear, dtype=dtype, layout=layout)
        parts = {
            "entity": linear(span, self.entity_classifier.bias),
            "entity_cls": linear(cls, None),
            "entity_width": F.linear(widths, width).float()[1:],
            "arguments": linear(torch.cat([head, tail]), None),
            "argument_width": F.linear(widths, torch.cat([head_width, tail_width])).float(),
            "context": linear(context, relation.bias),
        }
        if relation_cls:
            parts["relation_cls"] = linear(relation_cls[0], None)
        return parts

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Argmax over every span, then every ordered pair of predicted entities at the threshold."""
        states = self.encode(batch)
        fits = S.span_grid(batch["word_room"], self.max_span_width)
        windows = S.window_maxima(states["entity"], self.max_span_width)
        # by width and start: the released order, in which the first of two folded relations keeps its score
        if self.released:
            parts = {}
            width, start = fits.T.nonzero(as_tuple=True)
            cls = states["entity_cls"].index_select(0, batch["word_sentence"][start])
            scores = self.entity_logits(torch.cat(list(windows))[width, start], cls, width + 1)
            logits = scores.new_zeros(*fits.T.shape, scores.shape[1])
            logits[width, start] = scores
        else:
            parts = self.ready or self._split(self.width.weight.dtype, layout=False)
            logits = torch.cat([parts["entity"](pooled) for pooled in windows]).float()
            of_sentence = parts["entity_cls"](states["entity_cls"]).float().index_select(0, batch["word_sentence"])
            logits += of_sentence + parts["entity_width"].unsqueeze(1)
        types = logits.argmax(-1).masked_fill_(~fits.T, 0)
        if batch.given:
            types = S.gold_grid(fits, batch).T
        width, start = types.nonzero(as_tuple=True)
        spans = torch.stack([start, start + width + 1], dim=1)
        sentence = batch["word_sentence"].index_select(0, start)
        pairs, relations, probabilities = self._related(batch, states, parts, spans, sentence)
        return S.assemble_packed(
            self.labels,
            batch,
            spans,
            types[width, start],
            logits[width, start],
            torch.cat([pairs, relations.unsqueeze(1)], dim=1),
            probabilities,
        )

    def _related(
        self,
        batch: Batch,
        states: dict[str, Tensor],
        parts: dict[str, PackedLinear | Tensor],
        spans: Tensor,
        sentence: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs (relations, 2) of `spans` (spans, 2) word rows, relation types and probabilities (relations) of those
        at the threshold; `sentence` (spans)."""
        pairs = S.pairs_within(sentence, len(batch))
        if not len(pairs):
            return pairs, pairs.new_zeros(0), self.width.weight.new_zeros(0)
        start, end = spans.unbind(1)
        pooled = S.range_max(states["relation"], start, end, self.max_span_width)
        found = []
        if not self.released:
            arguments = parts["arguments"](pooled).float() + parts["argument_width"].index_select(0, end - start)
            arguments = arguments.unflatten(1, (2, -1))  # as head, as tail
            if "relation_cls" in parts:
                arguments[:, 0] += parts["relation_cls"](states["relation_cls"]).float().index_select(0, sentence)
            swapped = arguments.flip(1)
        # a chunk at a time: an untrained model takes every span for an entity
        for chunk in pairs.split(PAIRS):
            # (pairs, 2, types): the first as head and the second as tail, and the other way about
            if self.released:
                ways = (self.pair_logits(batch, states, spans, pooled, way) for way in (chunk, chunk.flip(1)))
                logits = torch.stack(list(ways), dim=1)
            else:
                first, second = chunk.unbind(1)
                begin, stop = S.between(spans, first, second)
                context = S.range_max(states["context"], begin, stop, int((stop - begin).max()))
                logits = arguments.index_select(0, first) + swapped.index_select(0, second)
                logits += parts["context"](context).float().unsqueeze(1)
            probabilities = logits.sigmoid_()
            pair, way, kind = (probabilities >= self.threshold).nonzero(as_tuple=True)
            ends = chunk[pair].gather(1, torch.stack([way, 1 - way], dim=1))
            found.append((ends, kind, probabilities[pair, way, kind]))
        return tuple(map(torch.cat, zip(*found, strict=True)))
