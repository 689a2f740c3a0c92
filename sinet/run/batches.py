"""Which sentences go together: padding is the great cost, so batches hold sentences of nearly equal length."""

from collections.abc import Sequence

import torch

from sinet.contract import Sentence

POOL = 40
"""Batches sorted together in training: large enough for even lengths, small enough to keep epochs different."""


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches for inference: positions sorted by length in pieces, longest first, so that memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def bucketed(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of one training epoch: shuffled, sorted by length within pools of `POOL` batches, shuffled again.

    A function of its arguments alone, so a resumed run sees the same batches.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for begin in range(0, len(order), POOL * size):
        pool = sorted(order[begin : begin + POOL * size], key=lambda i: lengths[i])
        batches.extend(pool[i : i + size] for i in range(0, len(pool), size))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def sample_by_length(sentences: Sequence[Sentence], lengths: Sequence[int], count: int | None) -> list[Sentence]:
    """`count` sentences at even steps through the split sorted by length, so that lengths are spread as in all of it;
    the whole split for None or where it has no more."""
    if count is None or count >= len(sentences):
        return list(sentences)
    order = sorted(range(len(sentences)), key=lambda i: (lengths[i], i))
    return [sentences[order[(2 * k + 1) * len(order) // (2 * count)]] for k in range(count)]
