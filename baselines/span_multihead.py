"""SPAN Multi-Head: span-based joint extraction with attention-based span-specific and contextual representations.

Ji et al., COLING 2020 (no released code), sections 3.2 to 3.4. A span is [sentence context ; span-specific ; head ;
width]: attention of the span over the sentence, attention within the span, its first and last piece. A pair is
[both spans ; local context between them ; full sentence context].

Where the paper is silent or contradicts itself:
- Attention is the scaled dot product per head (the paper prints an element-wise product); queries and keys pass through
  feed-forward networks of their own, values through one linear map, all of `hidden_size`.
- Relations are scored by sigmoids without a None class, trained with binary cross-entropy and kept at `threshold` (the
  text says softmax, the loss says binary cross-entropy).
- The local context of a pair without a word piece between its spans is zero. The sentence is [CLS] and its pieces.
- All hidden layers have `hidden_size` units; a classifier is one hidden layer and a linear output.
- Symmetric relations are trained as SpERT does: the argument that starts first is the head, the reverse a possible
  negative.
- Gold spans wider than the candidates are not trained on. At most `max_arguments` predicted entities are paired.

Written for speed: attention within spans is accumulated word by word.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines.settings import SpanMultiHead
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.concat import ConcatLinear
from sinet.model.endpoints import endpoints


def feed_forward(inputs: int, hidden: int, layers: int, dropout: float) -> nn.Sequential:
    """`layers` linear layers, each with ReLU and dropout."""
    sizes = [inputs] + layers * [hidden]
    parts = [(nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)) for a, b in pairwise(sizes)]
    return nn.Sequential(*(module for part in parts for module in part))


class MultiHead(nn.Module):
    """Attention of vectors over the pieces of their sentence (section 3.2)."""

    def __init__(self, queries: int, keys: int, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.query = feed_forward(queries, hidden, 2, dropout)
        self.key = feed_forward(keys, hidden, 2, dropout)
        self.value = nn.Linear(keys, hidden)
        self.heads = heads

    def forward(
        self, queries: Tensor, counts: Tensor, sentence: Tensor, mask: Tensor, own: Tensor | None = None
    ) -> Tensor:
        """(queries, hidden); zero where a query may look at nothing.

        Args:
            queries: (queries, size), packed by sentence, `counts` (batch) of each; sentence: (batch, pieces, size);
            mask: (batch, pieces), which pieces belong to it; own: (queries, pieces), what each query may look at
            instead, if not the same for all of a sentence.
        """
        sizes = counts.tolist()
        padded = pad_sequence(self.query(queries).split(sizes), batch_first=True)
        allowed = mask.unsqueeze(1)
        if own is not None:
            allowed = pad_sequence(own.split(sizes), batch_first=True)
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x in (padded, self.key(sentence), self.value(sentence))
        )
        scores = (q @ k.transpose(-1, -2)).float() / q.shape[-1] ** 0.5
        # a finite floor: a row without any piece must not become 0/0, its result is set to zero instead
        weights = scores.masked_fill(~allowed.unsqueeze(1), torch.finfo(scores.dtype).min).softmax(-1)
        found = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        found = found[torch.arange(found.shape[1], device=counts.device) < counts.unsqueeze(1)]
        return found if own is None else found * own.any(1, keepdim=True)


class System(Extractor):
    """SPAN Multi-Head."""

    Settings = SpanMultiHead
    settings: SpanMultiHead
    citation = (
        "Ji et al., COLING 2020: Span-based Joint Entity and Relation Extraction with Attention-based Span-specific "
        "and Contextual Semantic Representations"
    )
    test_settings: ClassVar[dict] = {"max_span_width": 4, "width_size": 8, "hidden_size": 32, "heads": 4}
    released_form = "(its paper: no code was released) the entity network over the concatenation of every span"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        hidden = encoder.hidden_size
        s = self.settings
        hidden_size, heads, dropout = s.hidden_size, s.heads, s.dropout
        self.width = nn.Embedding(s.max_span_width + 1, s.width_size)
        self.span_weight = nn.Sequential(*feed_forward(hidden, hidden_size, 1, dropout), nn.Linear(hidden_size, 1))
        self.sentence_context = MultiHead(hidden, hidden, hidden_size, heads, dropout)
        parts = (hidden_size, hidden, hidden, hidden, s.width_size)
        self.entity_hidden = ConcatLinear(*parts, outputs=hidden_size, dropout=dropout)
        self.entity_output = nn.Linear(hidden_size, len(labels.entity_types) + 1)
        self.reduce = feed_forward(sum(parts), hidden_size, 2, dropout)
        self.local_context = MultiHead(2 * hidden_size, hidden, hidden_size, heads, dropout)
        self.full_context = MultiHead(2 * hidden_size, hidden, hidden_size, heads, dropout)
        self.local_reduce = feed_forward(hidden_size, hidden_size, 3, dropout)
        self.full_reduce = feed_forward(hidden_size, hidden_size, 3, dropout)
        self.relation = nn.Sequential(
            *feed_forward(4 * hidden_size, hidden_size, 1, dropout), nn.Linear(hidden_size, len(labels.relation_types))
        )
        self.dropout = nn.Dropout(dropout)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        return S.collate(sentences, self.encoder, self.labels)

    # -- representations -----------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encoder and attention within spans.

        Returns:
            `hidden` (batch, pieces, hidden); `sentence` (batch, pieces), which of them are [CLS] or a word's;
            `first`, `last` (words, hidden) pieces of every word; `specific` (words, max_span_width, hidden), F_s.
        """
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        sentence = batch["attention_mask"].bool()
        sentence = F.pad(sentence[:, 1:], (0, 1))  # without [SEP]
        first, last = endpoints(hidden, batch)
        specific = self.within_spans(hidden.flatten(0, 1), batch["word_start"], batch["word_end"])
        return {"hidden": hidden, "sentence": sentence, "first": first, "last": last, "specific": specific}

    def within_spans(self, rows: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """F_s of every span: the mean of its pieces weighted by a softmax of their scores, in float32.

        Args:
            rows: (rows, hidden) pieces; start, end: (words) rows of each word's pieces.
        """
        scores = self.span_weight(rows).squeeze(-1).float()
        # softmax sums of a word's pieces, then of spans one word wider at a time, each relative to its own maximum
        peak = S.range_max(scores.detach().unsqueeze(1), torch.stack([start, end], dim=1)).squeeze(1)
        row = torch.arange(len(rows), device=rows.device)
        word = torch.bucketize(row, end, right=True).clamp(max=len(start) - 1)
        inside = (row >= start[word]) & (row < end[word])
        piece, word = row[inside], word[inside]
        weight = (scores[piece] - peak[word]).exp().unsqueeze(1)
        total = weight.new_zeros(len(start), 1).index_add(0, word, weight)
        summed = weight.new_zeros(len(start), rows.shape[-1]).index_add(0, word, weight * rows[piece].float())
        peak, pooled = peak.unsqueeze(1), [summed / total]
        span_peak, span_total, span_sum = peak, total, summed
        for k in range(1, self.settings.max_span_width):
            # words past the end of the batch add nothing; spans past the end of a sentence are never read
            next_peak = F.pad(peak[k:], (0, 0, 0, min(k, len(peak))), value=-torch.inf)
            highest = torch.maximum(span_peak, next_peak)
            old, new = (span_peak - highest).exp(), (next_peak - highest).exp()
            span_total = span_total * old + F.pad(total[k:], (0, 0, 0, min(k, len(peak)))) * new
            span_sum = span_sum * old + F.pad(summed[k:], (0, 0, 0, min(k, len(peak)))) * new
            span_peak = highest
            pooled.append(span_sum / span_total)
        return torch.stack(pooled, dim=1)

    def context(self, states: dict[str, Tensor], specific: Tensor, counts: Tensor) -> Tensor:
        """T_s of spans packed by sentence: `specific` (spans, hidden) to (spans, hidden_size)."""
        return self.sentence_context(specific, counts, states["hidden"], states["sentence"])

    def entity_logits(self, states: dict[str, Tensor], spans: Tensor, specific: Tensor, context: Tensor) -> Tensor:
        """Scores of None and the types of `spans` (spans, 2) word rows: FFNN of [T_s ; F_s ; first ; last ; width]."""
        seen = self.entity_hidden(
            *(context, specific.to(context.dtype)),
            *((states["first"], spans[:, 0]), (states["last"], spans[:, 1] - 1)),
            (self.width.weight, self._width(spans)),
        )
        return self.entity_output(self.dropout(F.relu(seen)))

    def _width(self, spans: Tensor) -> Tensor:
        return (spans[:, 1] - spans[:, 0]).clamp(max=self.settings.max_span_width)

    def pair_logits(
        self, batch: Batch, states: dict[str, Tensor], spans: Tensor, specific: Tensor, context: Tensor, pairs: Tensor
    ) -> Tensor:
        """Relation scores (pairs, types) of `pairs` (pairs, 2), positions in `spans`, packed by sentence."""
        hidden = states["hidden"]
        parts = [context, specific.to(context.dtype), states["first"][spans[:, 0]], states["last"][spans[:, 1] - 1]]
        parts = [part.to(context.dtype) for part in (*parts, self.width(self._width(spans)))]
        reduced = self.reduce(self.dropout(torch.cat(parts, dim=-1)))
        head, tail = pairs.unbind(1)
        both = torch.cat([reduced.index_select(0, head), reduced.index_select(0, tail)], dim=-1)

        sentence = batch["word_sentence"][spans[head, 0]]
        counts = torch.bincount(sentence, minlength=len(batch))
        width = hidden.shape[1]
        # word rows to pieces; the piece after the first span's last, the first piece of the second
        begin = batch["word_end"][torch.minimum(spans[head, 1], spans[tail, 1]) - 1] - sentence * width
        end = batch["word_start"][torch.maximum(spans[head, 0], spans[tail, 0])] - sentence * width
        place = torch.arange(width, device=hidden.device)
        between = (place >= begin.unsqueeze(1)) & (place < end.unsqueeze(1))
        local = self.local_context(both, counts, hidden, states["sentence"], between)
        full = self.full_context(both, counts, hidden, states["sentence"])
        return self.relation(torch.cat([both, self.local_reduce(local), self.full_reduce(full)], dim=-1))

    # -- training ------------------------------------------------------------------------------------------

    def training_batch(self, items: Sequence[Sentence]) -> Batch:
        """Besides the sentences `candidate_spans` (spans, 2), sentence by sentence, with their `candidate_types`, and
        `candidate_pairs` (pairs, 2) of them, sentence by sentence, with their `candidate_relations` (pairs, types):
        the gold ones and, of each sentence, `negative_ratio` times as many negatives."""
        batch = self.collate(items)
        gold, sentence = batch["gold_spans"], batch["word_sentence"]
        spans = S.negative_spans(batch, self.settings.max_span_width)
        limit = self.settings.negative_ratio * batch["gold_counts"]
        spans = spans[S.sample_per_group(sentence[spans[:, 0]], limit)]
        # a gold span wider than the candidates has no row in the grid of spans and takes no part
        known = gold[:, 1] - gold[:, 0] <= self.settings.max_span_width
        spans = torch.cat([gold[known], spans])
        order = sentence[spans[:, 0]].argsort(stable=True)
        number = torch.full((len(gold),), -1)
        number[known] = order.argsort()[: int(known.sum())]

        pairs, types, negative = S.fold_pairs(batch, self.labels)
        usable = known[pairs].all(1)
        pairs, types, negative = pairs[usable], types[usable], negative[known[negative].all(1)]
        limit = self.settings.negative_ratio * torch.bincount(sentence[gold[pairs[:, 0], 0]], minlength=len(batch))
        negative = negative[S.sample_per_group(sentence[gold[negative[:, 0], 0]], limit)]
        pairs, types = torch.cat([pairs, negative]), F.pad(types, (0, 0, 0, len(negative)))
        by_sentence = sentence[gold[pairs[:, 0], 0]].argsort(stable=True)
        batch.tensors |= {
            "candidate_spans": spans[order],
            "candidate_types": F.pad(batch["gold_types"][known], (0, len(spans) - int(known.sum())))[order],
            "candidate_pairs": number[pairs[by_sentence]],
            "candidate_relations": types[by_sentence],
        }
        return batch

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted: cross-entropy over the candidate spans, and binary cross-entropy over the candidate pairs, averaged
        over the types of a pair."""
        states = self.encode(batch)
        spans, pairs, sentence = batch["candidate_spans"], batch["candidate_pairs"], batch["word_sentence"]
        if not len(spans):
            return {"entity": 0.0 * states["hidden"].sum()}
        specific = states["specific"][spans[:, 0], spans[:, 1] - spans[:, 0] - 1]
        context = self.context(states, specific, torch.bincount(sentence[spans[:, 0]], minlength=len(batch)))
        logits = self.entity_logits(states, spans, specific, context).float()
        weight = self.settings.entity_weight
        terms = {"entity": weight * F.cross_entropy(logits, batch["candidate_types"], reduction="sum")}
        if len(pairs):
            logits = self.pair_logits(batch, states, spans, specific, context, pairs)
            terms["relation"] = (1 - weight) * S.pair_loss(logits, batch["candidate_relations"])
        return terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Both terms are means over all candidates of a batch."""
        return S.candidate_counts(batches)

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Argmax over every span, then every ordered pair of predicted entities at the threshold."""
        states = self.encode(batch)
        lengths = batch["lengths"]
        fits = S.span_grid(batch["words_left"], self.settings.max_span_width)
        row, width = fits.nonzero(as_tuple=True)
        spans = torch.stack([row, row + width + 1], dim=1)
        sentence = batch["word_sentence"][row]
        specific = states["specific"][row, width]
        context = self.context(states, specific, torch.bincount(sentence, minlength=len(lengths)))
        logits = self.entity_logits(states, spans, specific, context).float()
        types = logits.argmax(-1)
        if batch.gold_entities:
            types = S.gold_grid(fits, batch)[row, width]
        found = types.nonzero().squeeze(1)
        spans, logits, sentence, types = spans[found], logits[found], sentence[found], types[found]

        pairs = S.likeliest_pairs(sentence, logits.softmax(-1).amax(-1), len(lengths), self.settings.max_arguments)
        relations, probabilities = pairs.new_zeros(0, 2), logits.new_zeros(0)
        if len(pairs):
            scores = self.pair_logits(batch, states, spans, specific[found], context[found], pairs)
            probabilities = scores.float().sigmoid()
            relations = (probabilities >= self.relation_threshold).nonzero()
            probabilities = probabilities[relations.unbind(1)]
        return S.build_packed_predictions(
            self.labels,
            batch,
            spans,
            types,
            logits,
            torch.cat([pairs[relations[:, 0]], relations[:, 1:]], dim=1),
            probabilities,
        )
