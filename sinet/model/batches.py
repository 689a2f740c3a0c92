"""Which sentences go together: padding is the great cost, so batches hold sentences of nearly equal length, unless a
recipe says otherwise."""

from collections.abc import Sequence

import torch

from sinet.contract import Extractor, Sentence
from sinet.data.sentence import by_document
from sinet.schema import TrainingRecipe

POOL = 40
"""Batches sorted together in training: large enough for even lengths, small enough to keep epochs different."""


def by_length(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Batches for inference: positions sorted by length in pieces, longest first, so that memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[i : i + size] for i in range(0, len(order), size)]


def inference_batches(model: Extractor, sentences: Sequence[Sentence], size: int) -> list[list[int]]:
    """Positions of the sentences of each batch: of like length, or documents where the model reads those whole."""
    if model.settings.whole_documents:
        return by_document([sentence.document for sentence in sentences])
    return by_length(model.encoder.piece_counts(sentences), size)


def training_batches(
    lengths: Sequence[int], recipe: TrainingRecipe, seed: int, epoch: int, documents: Sequence[str | None] = ()
) -> list[list[int]]:
    """The batches of one training epoch, positions of items; a function of its arguments alone, so a resumed run sees
    the same batches.

    `order` of the recipe: `shuffled`; `bucketed`, shuffled, sorted by length within pools of `POOL` batches, the
    batches shuffled; `sorted`, batches of like length made once, their order shuffled; `data`, as the items come,
    every epoch. With `batch_size: document` a batch is a document, in the order of the data or shuffled.
    """
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    size, order = recipe.batch_size, recipe.order
    count = len(lengths)
    if isinstance(size, str):  # document
        batches = by_document(documents)
        return batches if order == "data" else _shuffled(batches, generator)
    if order == "data":
        items = list(range(count))
    elif order == "sorted":
        items = sorted(range(count), key=lambda i: lengths[i])
    else:
        items = torch.randperm(count, generator=generator).tolist()
    if recipe.drop_last:
        items = items[: count - count % size]
    if order == "bucketed":
        pools = [items[i : i + POOL * size] for i in range(0, len(items), POOL * size)]
        items = [i for pool in pools for i in sorted(pool, key=lambda i: lengths[i])]
    batches = [items[i : i + size] for i in range(0, len(items), size)]
    return _shuffled(batches, generator) if order in ("bucketed", "sorted") else batches


def _shuffled(batches: list[list[int]], generator: torch.Generator) -> list[list[int]]:
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def sample_by_length(
    sentences: Sequence[Sentence], lengths: Sequence[int], count: int | None, whole_documents: bool = False
) -> list[Sentence]:
    """`count` sentences at even steps through the split sorted by length, so that lengths are spread as in all of it;
    the whole split for None or where it has no more. With `whole_documents` as many documents as hold about so many
    sentences, at least one, at even steps of their lengths."""
    if count is None or count >= len(sentences):
        return list(sentences)
    units = by_document([s.document if whole_documents else None for s in sentences])
    number = max(1, count * len(units) // len(sentences))
    order = sorted(units, key=lambda unit: sum(lengths[i] for i in unit))
    chosen = (order[(2 * k + 1) * len(order) // (2 * number)] for k in range(number))
    return [sentences[i] for unit in chosen for i in unit]
