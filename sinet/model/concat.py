"""A linear map of a concatenation, W [x_1 ; x_2 ; ...] + b = W_1 x_1 + W_2 x_2 + ... + b.

What many spans or pairs share (the sentence's [CLS], a width, an argument) is multiplied once, and no tensor of the
size of the concatenation is made: the same figures by fewer products.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WindowMeans(NamedTuple):
    """Weighted means of rows: entry [i, j] is the sum over k of shares[i, j, k] * rows[i + k].

    `rows` (n, size); `shares` (n, m, window), which add up to 1; a mean that reaches past the last row means nothing.
    """

    rows: Tensor
    shares: Tensor

    def windows(self) -> Tensor:
        """The rows of each window, zeros beyond the last row: a view, (n, window, size)."""
        reach = self.shares.shape[2]
        return F.pad(self.rows, (0, 0, 0, reach - 1)).unfold(0, reach, 1).transpose(1, 2)

    def table(self) -> Tensor:
        """All means, (n, m, size)."""
        return torch.bmm(self.shares, self.windows())

    def at(self, row: Tensor, column: Tensor) -> Tensor:
        """The means of these entries (entries), (entries, size)."""
        return torch.bmm(self.shares[row, column].unsqueeze(1), self.windows()[row]).squeeze(1)


Part = Tensor | tuple[Tensor, Tensor] | WindowMeans
"""Vectors (..., size); or (rows, index), which stand for rows[index]: (n, size), and an index (...) of any shape; or
means (n, m)."""


class ConcatLinear(nn.Linear):
    """A linear layer over the concatenation of parts of the given `sizes`, with `dropout` on the concatenation.

    With `released` set the concatenation is made and multiplied, as in the authors' code; to count its FLOPs alone.
    """

    released = False

    def __init__(self, *sizes: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__(sum(sizes), outputs)
        self.sizes = sizes
        self.dropout = nn.Dropout(dropout)

    def forward(self, *parts: Part) -> Tensor:
        """(..., outputs); the parts need only broadcast against each other."""
        if self.released or (self.training and self.dropout.p):  # each item drops other elements of what it shares
            tensors = [_vectors(part) for part in parts]
            if self.released:
                return super().forward(self.dropout(concatenated(*tensors)))
            parts = tuple(tensors)
        biases = [None] * (len(parts) - 1) + [self.bias]
        products = []
        for part, weight, bias in zip(parts, self.weight.split(self.sizes, dim=1), biases, strict=True):
            if isinstance(part, Tensor):
                products.append(F.linear(self.dropout(part), weight, bias))
            elif isinstance(part, WindowMeans):
                products.append(part._replace(rows=F.linear(part.rows, weight, bias)).table())
            else:
                rows, index = part
                products.append(F.embedding(index, F.linear(rows, weight, bias)))
        # from the last part on: it is often small (a width, a sentence), and the sum grows as it meets larger ones
        return functools.reduce(torch.add, reversed(products))


def _vectors(part: Part) -> Tensor:
    """What a part stands for, (..., size)."""
    if isinstance(part, WindowMeans):
        return part.table()
    return part if isinstance(part, Tensor) else F.embedding(part[1], part[0])


def concatenated(*parts: Tensor) -> Tensor:
    """[part ; part ; ...] on the last axis, (..., sizes together); the other axes only broadcast against each other."""
    shape = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
    return torch.cat([part.expand(*shape, -1) for part in parts], dim=-1)
