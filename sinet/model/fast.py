"""The switch between a model's modules and what is faster than they are in inference.

A module that has a faster form of itself says so by `packed(dtype)`, a context manager: the encoder does
(`sinet.model.packed`). Without the switch every prediction is the same, to rounding.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def fast_inference(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within it, inference in `dtype` uses copies of the weights of this moment: nothing may train meanwhile."""
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if hasattr(module, "packed"):
                stack.enter_context(module.packed(dtype))
        yield
