"""Batches prepared ahead, in a thread, so that a GPU does not wait for them; on a CPU one after another."""

import collections
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from sinet.contract import Batch

AHEAD = 2
"""Batches that are ready before they are asked for."""
T = TypeVar("T")
Prepared = tuple[T, list[Batch]]


@contextlib.contextmanager
def prefetched(
    prepare: Callable[[T], list[Batch]], items: Iterable[T], device: torch.device
) -> Iterator[Iterator[Prepared]]:
    """Within it each item in turn with the batches that `prepare` makes of it on the CPU, for a GPU in pinned memory.

    `prepare` may draw from torch's CPU generator, as nothing else does meanwhile where the model has a GPU: afterwards
    the generator is as the last item taken has left it, as though none had been prepared ahead. What `prepare` raises
    is raised where the item would be taken.
    """
    if device.type == "cpu":
        yield ((item, prepare(item)) for item in items)
        return
    drawn = torch.get_rng_state()

    def prepare_one(item: T) -> tuple[Prepared, torch.Tensor]:
        batches = prepare(item)
        if device.type == "cuda":
            batches = [batch.pinned() for batch in batches]
        return (item, batches), torch.get_rng_state()

    def taken() -> Iterator[Prepared]:
        nonlocal drawn
        waiting: collections.deque[Future[tuple[Prepared, torch.Tensor]]] = collections.deque()
        for item in items:
            waiting.append(thread.submit(prepare_one, item))
            if len(waiting) > AHEAD:
                made, drawn = waiting.popleft().result()
                yield made
        while waiting:
            made, drawn = waiting.popleft().result()
            yield made

    with ThreadPoolExecutor(1, "prefetch") as thread:
        try:
            yield taken()
        finally:
            thread.shutdown(cancel_futures=True)
            torch.set_rng_state(drawn)
