"""Spans by their endpoints: [first ; last ; width], where a system has it with a mean of the words, and a feed-forward
network over it.

What PURE (Zhong and Chen, NAACL 2021, section 3.2), DyGIE++ (Wadden et al., EMNLP 2019, section 3), DyGIE and SciIE
share.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch
from sinet.model.concat import ConcatLinear, Part, WindowMeans

DISTANCES = (1, 2, 3, 4, 5, 8, 16, 32, 64)
"""Where the second to the last bucket of distances begin."""


def distance_buckets(distance: Tensor) -> Tensor:
    """The bucket of each distance, 0 to `len(DISTANCES)`."""
    return torch.bucketize(distance, torch.tensor(DISTANCES, device=distance.device), right=True)


class FeedForward(nn.Module):
    """Two hidden layers with ReLU and dropout, and a linear output, over a concatenation of parts of these `sizes`."""

    def __init__(self, *sizes: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first = ConcatLinear(*sizes, outputs=hidden)
        self.second = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, *parts: Part) -> Tensor:
        """(..., outputs)."""
        hidden = self.dropout(F.relu(self.first(*parts)))
        return self.output(self.dropout(F.relu(self.second(hidden))))


def endpoints(hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """First and last piece of every word, each (words, hidden), of `hidden` (batch, pieces, hidden)."""
    rows = hidden.flatten(0, 1)
    return rows.index_select(0, batch["word_start"]), rows.index_select(0, batch["word_end"] - 1)


def word_means(hidden: Tensor, batch: Batch) -> Tensor:
    """The mean of every word's pieces, (words, hidden), of `hidden` (batch, pieces, hidden)."""
    rows, pieces = hidden.flatten(0, 1), batch["word_end"] - batch["word_start"]
    later = rows.index_select(0, batch["later_pieces"])
    sums = rows.index_select(0, batch["word_start"]).index_add(0, batch["later_words"], later)
    return sums / pieces.unsqueeze(1)


def span_vectors(words: Tensor, widths: Tensor, spans: Tensor, means: WindowMeans | None = None) -> Tensor:
    """[first ; last ; width ; mean] of spans (spans, 2), word row and width less one: (spans, size).

    Args:
        words: (words, hidden); widths: (max_span_width, width_size); means: of the words of every span (words,
            max_span_width), or None.
    """
    row, width = spans.unbind(1)
    parts = [words[row], words[row + width], F.embedding(width, widths).to(words.dtype)]
    return torch.cat(parts if means is None else [*parts, means.at(row, width)], dim=1)


def span_scores(
    network: FeedForward, first: Tensor, last: Tensor, widths: Tensor, means: WindowMeans | None = None
) -> Tensor:
    """`network` over [first ; last ; width ; mean] of every span, `(words, max_span_width, outputs)`.

    Args:
        first, last: (words, hidden) of `endpoints`; widths: (max_span_width, width_size); means: as for `span_vectors`.
            Entry [a, k] is the span of k + 1 words from word a; those that run past the last word mean nothing.
    """
    end = torch.arange(len(last), device=last.device).unsqueeze(1) + torch.arange(len(widths), device=last.device)
    parts = (first.unsqueeze(1), (last, end.clamp(max=len(last) - 1)), widths)
    return network(*parts, *(() if means is None else (means,)))
