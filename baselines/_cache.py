"""Tensors remembered by key: in memory up to a bound, in an unnamed temporary file beyond it."""

import os
import tempfile
from collections.abc import Hashable
from typing import IO

import torch
from torch import Tensor


class TensorCache:
    """Keeps CPU tensors; what does not fit into `memory` bytes is written to disk, and vanishes with the process."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.clear()

    def clear(self) -> None:
        self._kept: dict[Hashable, tuple[Tensor, ...]] = {}
        self._stored: dict[Hashable, list[tuple[int, torch.Size, torch.dtype]]] = {}
        self._bytes = self._end = 0
        self._file: IO[bytes] | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept or key in self._stored

    def put(self, key: Hashable, tensors: tuple[Tensor, ...]) -> None:
        """Remember copies of `tensors`."""
        tensors = tuple(t.detach().to("cpu", copy=True).contiguous() for t in tensors)
        size = sum(t.nbytes for t in tensors)
        if self._bytes + size <= self.memory:
            self._bytes += size
            self._kept[key] = tensors
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the cache
        places = []
        for tensor in tensors:
            # any dtype as bytes: NumPy has no bfloat16
            data = tensor.reshape(-1).view(torch.uint8).numpy().data
            os.pwrite(self._file.fileno(), data, self._end)
            places.append((self._end, tensor.shape, tensor.dtype))
            self._end += tensor.nbytes
        self._stored[key] = places

    def get(self, key: Hashable) -> tuple[Tensor, ...]:
        """What was put under `key`; raises `KeyError` when nothing was."""
        if key in self._kept:
            return self._kept[key]
        return tuple(self._read(*place) for place in self._stored[key])

    def _read(self, offset: int, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        assert self._file is not None
        data = bytearray(os.pread(self._file.fileno(), shape.numel() * dtype.itemsize, offset))
        return torch.frombuffer(data, dtype=dtype).view(shape)
