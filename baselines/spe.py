"""SPE without its pre-training: boundaries by tags, types of spans, relations by attention over a pair's five segments.

Wang et al., EMNLP 2020; details follow the released code (Receiling/PSPE, commit ffe9110). The encoder is a pretrained
one as it is: what the paper is about, its own pre-training of encoder and spans, is not here, nor are its weights.

A word is the last state of its first piece. Tags of words (B, I, E, O, U) give spans, a convolution over the words of
a span its features, and these its type or None. A pair of typed spans, the one that starts first on the left, has five
segments: left context, first span, middle, second span, right context. Attention over them, asked by the pooled [CLS],
gives the pair's features, and these one label: None, or a relation type with its direction. In training gold spans are
candidates too, and gold pairs; the first epochs see no others, later ones draw for each sentence whether its
boundaries, and its types, are gold.

What differs from the released code:
- Sentences with overlapping entities are not trained on, as released; dev and test keep theirs (released: dropped).
- A sentence longer than the encoder is read as far as it goes (released: dropped, as is one of more than 400 words).
- Relations are trained on also where no candidate of a batch is typed (released: they are skipped).
- Where a batch is cut (`micro_batch_size`), once predicted spans are candidates each part has the mean over its own,
  by its number of sentences.
- The pooler is that of the encoder's files; where they have none, a new layer of the same form.
- Of any window over a span the products are made once for a word, not for a span.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines._dense import Dense
from baselines._segments import TAGS, Segment, SegmentAttention, SpanConvolutions, Windows, boundaries, merged, tags_of
from baselines.settings import SPE
from sinet.contract import Batch, Extractor, Labels, Prediction, Sentence
from sinet.encoders.encoder import Encoder
from sinet.model import spans as S
from sinet.model.weights import initialise_normal

PAIRS = 8192
"""Pairs in one pass of prediction: those of a sentence grow with the square of its spans."""


class System(Extractor):
    """SPE. A pair's labels are None, and of each relation type from left to right and from right to left."""

    Settings = SPE
    settings: SPE
    encoders = ("encoder.", "pooler.")
    released_form = "convolutions over each span and context, attention over each pair's own five segments"
    citation = (
        "Wang et al., EMNLP 2020: Pre-training Entity Relation Encoder with Intra-span and Inter-span Information"
    )
    test_settings: ClassVar[dict] = {"channels": 12, "attention_size": 16, "hidden_size": 16, "gold_epochs": 1}

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s, inputs = self.settings, encoder.hidden_size
        features = s.channels * len(s.kernels)
        self.dropout = nn.Dropout(s.dropout)
        self.pooler = nn.Linear(inputs, inputs)
        self.tag = nn.Linear(inputs, len(TAGS))
        self.span_convolutions = SpanConvolutions(inputs, s.channels, s.kernels)
        self.span_hidden = Dense(features, features, s.dropout)
        self.entity = nn.Linear(features, 1 + len(labels.entity_types))
        self.context_convolutions = SpanConvolutions(inputs, s.channels, s.kernels)
        self.context_hidden = Dense(features, features, s.dropout)
        self.segment_attention = SegmentAttention(features, inputs, s.position_size, s.attention_size)
        self.pair_hidden = nn.Sequential(
            Dense(features, features, s.dropout), Dense(features, s.hidden_size, s.dropout)
        )
        self.relation = nn.Linear(s.hidden_size, 1 + 2 * len(labels.relation_types))
        initialise_normal(self, "encoder.")
        if encoder.pooler is not None:
            for parameter, pretrained in zip((self.pooler.weight, self.pooler.bias), encoder.pooler, strict=True):
                parameter.data.copy_(pretrained)

    # -- what is read of sentences ---------------------------------------------------------------------------

    def training_items(self, sentences: Sequence[Sentence]) -> Sequence[Sentence]:
        """The sentences without overlapping entities, which tags cannot hold."""
        spans = ({(e.start, e.end, e.type) for e in sentence.entities} for sentence in sentences)
        flat = (all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(found))) for found in spans)
        return list(itertools.compress(sentences, flat))

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Besides the pieces, of gold in word rows: `tags` (words); the distinct `spans` (spans, 2) in order, and their
        `span_types` (spans); `pairs` (pairs, 2) of `spans`, all of which the first starts before the second, in order,
        and their `pair_labels` (pairs). Of what is annotated twice the later counts; relations of arguments that
        overlap have no pair."""
        pieces = self.encoder.collate(sentences)
        kinds = {name: 1 + i for i, name in enumerate(self.labels.entity_types)}
        labels = {name: 1 + 2 * i for i, name in enumerate(self.labels.relation_types)}
        tags: list[int] = []
        spans: list[tuple[int, int]] = []
        types, pairs, pair_labels = [], [], []
        for sentence, length in zip(sentences, pieces.lengths, strict=True):
            typed = {(e.start, e.end): kinds[e.type] for e in sentence.entities if e.end <= length}
            ordered, related, row = sorted(typed), {}, len(tags)
            for relation in sentence.relations:
                head, tail = (
                    (e.start, e.end) for e in map(sentence.entities.__getitem__, (relation.head, relation.tail))
                )
                related[min(head, tail), max(head, tail)] = labels[relation.type] + (tail < head)
            tags += tags_of(length, ordered)
            for (i, left), (j, right) in itertools.combinations(enumerate(ordered, len(spans)), 2):
                if left[0] < right[0]:
                    pairs.append((i, j))
                    pair_labels.append(related.get((left, right), 0) if left[1] <= right[0] else 0)
            spans += [(row + start, row + end) for start, end in ordered]
            types += [typed[span] for span in ordered]
        gold = {"tags": tags, "span_types": types, "pair_labels": pair_labels}
        found = {"spans": spans, "pairs": pairs}
        tensors = {name: torch.tensor(values, dtype=torch.long) for name, values in gold.items()}
        tensors |= {name: torch.tensor(values, dtype=torch.long).view(-1, 2) for name, values in found.items()}
        return Batch(sentences, pieces.tensors() | tensors)

    # -- the network ---------------------------------------------------------------------------------------

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States of the words' first pieces, (words, hidden), and the pooled [CLS], (batch, hidden)."""
        hidden = self.encoder(batch["input_ids"], batch["attention_mask"])
        pooled = self.dropout(torch.tanh(self.pooler(hidden[:, 0])))
        return self.dropout(hidden.flatten(0, 1).index_select(0, batch["word_start"])), pooled

    def span_features(self, words: Tensor, spans: Tensor) -> Tensor:
        """What types and pairs are classified from, (spans, features), of `spans` (spans, 2) in word rows."""
        windows = self.span_convolutions(words)
        return self.span_hidden(self.dropout(self.span_convolutions.maxima(windows, spans)))

    def segments(
        self, windows: list[Windows], spans: Tensor, features: Tensor, pairs: Tensor, batch: Batch
    ) -> list[Segment]:
        """The five segments of `pairs` (pairs, 2), positions in `spans` (spans, 2), which have `features` (spans,
        features); `windows` are those of `context_convolutions`."""
        left, right = pairs.unbind(1)
        sentence, every = batch["word_sentence"][spans[:, 0]], torch.arange(len(pairs), device=pairs.device)
        ends = batch["lengths"].cumsum(0)
        contexts = [
            torch.stack([(ends - batch["lengths"])[sentence], spans[:, 0]], dim=1),
            torch.stack([spans[left, 1], spans[right, 0]], dim=1),
            torch.stack([spans[:, 1], ends[sentence]], dim=1),
        ]
        found = self.dropout(self.context_convolutions.maxima(windows, torch.cat(contexts)))
        of_pair, sizes = [left, every, right], list(map(len, contexts))
        sentences = [sentence, sentence[left], sentence]
        if self.training or self.released:  # each pair drops other features of a context that it shares
            found = torch.cat([rows[index] for rows, index in zip(found.split(sizes), of_pair, strict=True)])
            of_pair, sizes, sentences = [every] * 3, [len(pairs)] * 3, [sentence[left]] * 3
        rows = self.context_hidden(found).split(sizes)
        before, between, behind = (Segment(*of) for of in zip(rows, sentences, of_pair, strict=True))
        arguments = [Segment(features, sentence, index) for index in (left, right)]
        return [before, arguments[0], between, arguments[1], behind]

    def relation_scores(self, segments: Sequence[Segment], pooled: Tensor) -> Tensor:
        """Logits of pairs, (pairs, labels)."""
        return self.relation(self.pair_hidden(self.dropout(self.segment_attention(segments, pooled))))

    def left_to_right(self, spans: Tensor, batch: Batch) -> Tensor:
        """All pairs (pairs, 2) of `spans` (spans, 2) of a sentence of which the first starts before the second."""
        pairs = S.pairs_within(batch["word_sentence"][spans[:, 0]], len(batch))
        return pairs[spans[pairs[:, 0], 0] < spans[pairs[:, 1], 0]]

    # -- training ------------------------------------------------------------------------------------------

    @property
    def gold_share(self) -> float:
        """The probability that boundaries, or types, of a sentence are gold in this epoch: k / (k + e^(n / k)) in the
        n-th after those that see gold alone."""
        k, n = self.settings.sampling_decay, self.epoch + 1 - self.settings.gold_epochs
        return 1.0 if n <= 0 else 1 / (1 + math.exp(min(n / k - math.log(k), 700.0)))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of the tags of words, the types of candidate spans, and the labels of candidate pairs."""
        words, pooled = self.encode(batch)
        tags = self.tag(words).float()
        spans, types, pairs, labels = (batch[name] for name in ("spans", "span_types", "pairs", "pair_labels"))
        sampled = self.gold_share < 1
        if sampled:
            gold_boundaries, gold_types = torch.rand(2, len(batch), device=words.device) < self.gold_share
            decoded = boundaries(tags.argmax(1), batch)
            decoded = decoded[~gold_boundaries[batch["word_sentence"][decoded[:, 0]]]]
            spans, types, place = merged(spans, types, decoded)
        features = self.span_features(words, spans)
        logits = self.entity(features).float()
        if sampled:
            taken = gold_types[batch["word_sentence"][spans[:, 0]]]
            typed = torch.where(taken, types, logits.argmax(1)).nonzero().squeeze(1)
            related = labels > 0
            found = typed[self.left_to_right(spans[typed], batch)]
            pairs, labels, _ = merged(place[pairs[related]], labels[related], found)
        segments = self.segments(self.context_convolutions(words), spans, features, pairs, batch)
        terms = {
            "entities": F.cross_entropy(logits, types, reduction="sum"),
            "relations": F.cross_entropy(self.relation_scores(segments, pooled).float(), labels, reduction="sum"),
        }
        if sampled:  # how many candidates a whole batch has is not known: the mean over those of a part
            counts = {"entities": len(types), "relations": len(labels)}
            terms = {name: term * len(batch) / max(1, counts[name]) for name, term in terms.items()}
        return {"boundaries": F.cross_entropy(tags, batch["tags"], reduction="sum")} | terms

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Means over the words, the candidate spans and the candidate pairs of a batch; see `losses`."""
        over = {"boundaries": "tags", "entities": "span_types", "relations": "pair_labels"}
        counts: dict[str, float] = {
            term: max(1, sum(len(batch[name]) for batch in batches)) for term, name in over.items()
        }
        if self.gold_share < 1:
            counts |= dict.fromkeys(("entities", "relations"), sum(map(len, batches)))
        return counts

    # -- prediction ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(self, batch: Batch) -> list[Prediction]:
        """Spans by the likeliest tags, of each its likeliest type, of each pair of typed spans its likeliest label."""
        words, pooled = self.encode(batch)
        spans = batch["spans"] if batch.gold_entities else boundaries(self.tag(words).argmax(1), batch)
        features = self.span_features(words, spans)
        logits = self.entity(features).float()
        types = batch["span_types"] if batch.gold_entities else logits.argmax(1)
        typed = types.nonzero().squeeze(1)
        spans, types, features, logits = spans[typed], types[typed], features[typed], logits[typed]
        relations, scores = [spans.new_zeros(0, 3)], [logits.new_zeros(0)]
        for pairs, likely in self._related(words, pooled, spans, features, batch):
            score, label = likely.max(1)
            found = label.nonzero().squeeze(1)
            kind, backward = (label[found] - 1) // 2, (label[found] - 1) % 2 == 1
            arguments = torch.where(backward.unsqueeze(1), pairs[found].flip(1), pairs[found])
            relations.append(torch.cat([arguments, kind.unsqueeze(1)], dim=1))
            scores.append(score[found])
        return S.build_packed_predictions(
            self.labels, batch, spans, types, logits, torch.cat(relations), torch.cat(scores)
        )

    def _related(
        self, words: Tensor, pooled: Tensor, spans: Tensor, features: Tensor, batch: Batch
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of spans and the probabilities of their labels, so many at a time."""
        if len(pairs := self.left_to_right(spans, batch)):
            windows = self.context_convolutions(words)
            for some in pairs.split(PAIRS):
                used, own = some.unique(return_inverse=True)
                segments = self.segments(windows, spans[used], features[used], own, batch)
                yield some, self.relation_scores(segments, pooled).float().softmax(1)
