"""What SPE is made of: spans by tags, convolutions over a span's words, attention over the five segments of a pair.

Wang et al., EMNLP 2020, as released (Receiling/PSPE, commit ffe9110).
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch
from sinet.model import spans as S

PAD, B, I, E, O, U = range(6)  # noqa: E741 - as the paper writes tags
TAGS = ("PAD", "B", "I", "E", "O", "U")
"""Classes of a word; PAD is the released code's label of padding, which no word has and the softmax counts."""
SUBJECT, OBJECT = slice(2, 7), slice(0, 5)
"""Distances of the five segments from the first and from the second span, -1 to 3 and -3 to 1, as rows of a table."""


class Windows(NamedTuple):
    """Of one kernel what it gives over words, GELU applied. `inside` (words, channels): of the window that begins at a
    word. `opening` (words, widest, channels): the largest of the windows that reach beyond the first word of a span, of
    the span of so many words (from 1 on) that begins at a word; `closing`: beyond its last word, that ends with it.
    """

    kernel: int
    inside: Tensor
    opening: Tensor
    closing: Tensor


class SpanConvolutions(nn.Module):
    """Convolutions over the words of a span from the last to the first, as many zeros on either side as the kernel is
    wide, GELU, maximum over the places: (spans, channels * kernels), zeros where a span is empty.

    A window inside a span is the same for all spans, and one over its edge depends on the few words there: `forward`
    makes all of them once, `maxima` looks them up.
    """

    released = False

    def __init__(self, inputs: int, channels: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(inputs, channels, kernel, padding=kernel) for kernel in kernels)
        self.widest = max(1, *(kernel - 1 for kernel in kernels))

    def forward(self, words: Tensor) -> list[Windows]:
        """The windows over `words` (words, inputs), whose sentences lie end to end, of each kernel."""
        if self.released:  # the words themselves, which `maxima` multiplies for every span
            return [Windows(0, words, words, words)]
        # of each place in each kernel, from the first word of a window to its last, (words, channels)
        layers: list[Any] = [*self.layers]  # convolutions, for which torch has no type of list
        weights = [weight for layer in layers for weight in reversed(layer.weight.unbind(2))]
        places = iter(F.linear(words, torch.cat(weights)).chunk(len(weights), dim=1))
        found = []
        for layer in layers:
            kernel, bias = layer.kernel_size[0], layer.bias
            parts = list(itertools.islice(places, kernel))
            opening = self._opening(parts, bias)
            closing = self._opening([part.flip(0) for part in reversed(parts)], bias).flip(0)  # the mirror image
            found.append(Windows(kernel, F.gelu(_sums(parts)[-1] + bias), opening, closing))
        return found

    def _opening(self, parts: list[Tensor], bias: Tensor) -> Tensor:
        """`Windows.opening` of what each place of a kernel gives of a word; the window of zeros is one of them."""
        largest = F.gelu(bias).expand(len(parts[0]), self.widest, -1)
        for before in range(1, len(parts)):
            sums = _sums(parts[before:])
            sums += sums[-1:] * (self.widest - len(sums))  # words beyond the window add nothing
            largest = torch.maximum(largest, F.gelu(torch.stack(sums, dim=1) + bias))
        return largest

    def maxima(self, windows: list[Windows], spans: Tensor) -> Tensor:
        """The features of `spans` (spans, 2) in word rows."""
        start, end = spans.unbind(1)
        width = end - start
        if self.released:
            return self._padded(windows[0].inside, spans)
        edge = width.clamp(1, self.widest) - 1
        first, last = (start.clamp(max=len(windows[0].inside) - 1), (end - 1).clamp(min=0))
        features = []
        for kernel, inside, opening, closing in windows:
            edges = torch.maximum(
                F.embedding(first * self.widest + edge, opening.flatten(0, 1)),
                F.embedding(last * self.widest + edge, closing.flatten(0, 1)),
            )
            largest = S.range_max(inside, torch.stack([start, end - kernel + 1], dim=1))
            features.append(torch.where((width >= kernel).unsqueeze(1), torch.maximum(edges, largest), edges))
        return torch.cat(features, dim=1).masked_fill((width <= 0).unsqueeze(1), 0.0)

    def _padded(self, words: Tensor, spans: Tensor) -> Tensor:
        """The same, each span's words multiplied anew, padded to the widest span and one."""
        start, end = spans.unbind(1)
        widest = int((end - start).clamp(min=0).max()) if len(spans) else 0
        rows = end.unsqueeze(1) - 1 - torch.arange(widest + 1, device=spans.device)
        there = (rows >= start.unsqueeze(1)).unsqueeze(2)
        padded = words[rows.clamp(min=0)].masked_fill(~there, 0.0).transpose(1, 2)
        features = torch.cat([F.gelu(layer(padded)).amax(2) for layer in self.layers], dim=1)
        return features.masked_fill((end <= start).unsqueeze(1), 0.0)


def _sums(parts: list[Tensor]) -> list[Tensor]:
    """What places of a kernel, each (words, channels), add up to over the first 1, 2, ... words from each word on."""
    return list(itertools.accumulate(F.pad(p[n:], (0, 0, 0, min(n, len(p)))) for n, p in enumerate(parts)))


class Segment(NamedTuple):
    """One of the five segments of pairs: `rows` (rows, features), the `sentence` of each (rows), and which of them is
    that of a pair, `of_pair` (pairs)."""

    rows: Tensor
    sentence: Tensor
    of_pair: Tensor


class SegmentAttention(nn.Module):
    """Attention over the five segments of a pair, asked by its sentence's pooled [CLS]; no layer has a bias."""

    released = False

    def __init__(self, features: int, query: int, places: int, size: int) -> None:
        super().__init__()
        self.distance = nn.Embedding(7, places)
        self.input = nn.Linear(features, size, bias=False)
        self.query = nn.Linear(query, size, bias=False)
        self.place = nn.Linear(2 * places, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def weights(self, segments: Sequence[Segment], pooled: Tensor) -> Tensor:
        """Of every pair how much each segment counts, (pairs, 5); `pooled` (batch, query). A score depends on the
        segment and its place alone, so that pairs share it."""
        distance = self.distance.weight
        places = torch.cat([distance[SUBJECT], distance[OBJECT]], dim=1).unsqueeze(1)
        if self.released:  # all is multiplied for each pair
            every = torch.arange(len(segments[0].of_pair), device=pooled.device)
            pooled = pooled[segments[0].sentence[segments[0].of_pair]]
            segments = [Segment(s.rows[s.of_pair], every, every) for s in segments]
            places = places.expand(-1, len(every), -1)
        query, scores = self.query(pooled), []
        for segment, place in zip(segments, self.place(places), strict=True):
            hidden = F.gelu(self.input(segment.rows) + query.index_select(0, segment.sentence) + place)
            scores.append(self.score(hidden).index_select(0, segment.of_pair))
        return torch.cat(scores, dim=1).float().softmax(1)

    def forward(self, segments: Sequence[Segment], pooled: Tensor) -> Tensor:
        """The weighted sum of the segments of every pair, (pairs, features)."""
        weights = self.weights(segments, pooled).unsqueeze(2).unbind(1)
        parts = (weight * s.rows.index_select(0, s.of_pair) for weight, s in zip(weights, segments, strict=True))
        return functools.reduce(torch.add, parts)


def tags_of(words: int, spans: Iterable[tuple[int, int]]) -> list[int]:
    """The tags of so many words with these spans, half-open."""
    tags = [O] * words
    for start, end in spans:
        tags[start:end] = [U] if end - start == 1 else [B, *[I] * (end - start - 2), E]
    return tags


def boundaries(tags: Tensor, batch: Batch) -> Tensor:
    """The spans (spans, 2) that `tags` (words) give, in word rows.

    One opens at B and U, at I and E after E and U, and at any tag but O after O and where a sentence begins; it goes on
    until the next opens, or O, or the end of the sentence.
    """
    first = batch["word_index"] == 0
    before = F.pad(tags[:-1], (1, 0), value=O).masked_fill(first, O)
    after_end = torch.isin(before, tags.new_tensor([E, U])) & torch.isin(tags, tags.new_tensor([I, E]))
    opens = (tags != O) & ((before == O) | torch.isin(tags, tags.new_tensor([B, U])) | after_end)
    start, stops = opens.nonzero().squeeze(1), (opens | first | (tags == O)).nonzero().squeeze(1)
    ends = F.pad(stops, (0, 1), value=len(tags))
    return torch.stack([start, ends[torch.bucketize(start, stops, right=True)]], dim=1)


def merged(gold: Tensor, labels: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`gold` (gold, 2) and `others` (others, 2), each once, in order; the label of each, that of gold (gold) or 0; and
    where the gold ones are."""
    found, place = torch.cat([gold, others]).unique(dim=0, return_inverse=True)
    place = place[: len(gold)]
    return found, labels.new_zeros(len(found)).index_put((place,), labels), place
