"""Inference with weights made ready once: the same products as in training, arranged for speed.

`packed(model, dtype)` packs every linear map of a model, and whatever else has a `packed(dtype)` of its own, as an
encoder (`sinet.model.fast_encoder`). Weights are held in the precision of the products and, on a CPU with AVX-512, in
the layout that its kernels want, with the activation fused into the product before it. `torch.nn.Linear` would cast or
reorder them at every call.

In float32 the results equal the modules' to rounding. The modules keep their weights, of which packed ones are copies
or views.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS, FEW_OUTPUTS = 32, 16
"""For so few rows, or a map onto so few figures, oneDNN's layout is slower in float32 than a product of plain ones: its
call takes twenty microseconds by itself."""


@contextlib.contextmanager
def packed(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within it, inference in `dtype` uses the weights of this moment: nothing may train meanwhile.

    A module with `packed(dtype)`, a context manager, looks after itself and the modules inside it.
    """
    with contextlib.ExitStack() as stack:
        if hasattr(module, "packed"):
            stack.enter_context(module.packed(dtype))
        else:
            _pack_children(module, dtype, stack)
        yield


class Packable:
    """A module that makes more of its weights than its parts do: `prepare(dtype)` is kept in `ready` while packed."""

    ready: object = None

    def prepare(self, dtype: torch.dtype) -> object:
        """What inference in `dtype` takes from the weights."""
        raise NotImplementedError  # abstract: each module's own

    @contextlib.contextmanager
    def packed(self, dtype: torch.dtype) -> Iterator[None]:
        """Inside, the module and all that it holds are packed."""
        with contextlib.ExitStack() as stack:
            _pack_children(self, dtype, stack)
            self.ready = self.prepare(dtype)
            stack.callback(delattr, self, "ready")
            yield


def _pack_children(module: nn.Module, dtype: torch.dtype, stack: contextlib.ExitStack) -> None:
    for child in module.children():
        if hasattr(child, "packed"):
            stack.enter_context(child.packed(dtype))
        elif type(child) is nn.Linear:
            child.forward = _in_precision(child, PackedLinear(child.weight, child.bias, dtype))
            stack.callback(child.__delattr__, "forward")
        else:
            _pack_children(child, dtype, stack)


def _in_precision(linear: nn.Linear, packed: "PackedLinear") -> Callable[[Tensor], Tensor]:
    """The packed map, and the module's own where a system leaves the precision (autocast off around a recurrence)."""
    dtype, plain = packed.dtype, linear.forward
    if dtype == torch.float32:
        return packed
    device = linear.weight.device.type
    return lambda rows: packed(rows) if torch.is_autocast_enabled(device) else plain(rows)


class PackedLinear:
    """`activation(x W^T + b)` of rows (..., inputs), with weights cast and laid out once."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        approximate: str | None = None,
        layout: bool = True,
    ) -> None:
        """`approximate` is torch's word for the kind of GELU that follows, None for no activation; without `layout`
        the weights stay as they are, as for a single call."""
        self.dtype, self.plain = dtype, not layout
        self.weight = weight.detach().to(dtype).contiguous()
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.approximate = approximate
        # the operators behind inductor's frozen CPU linear; private to torch, whose version is pinned
        self.reordered = layout and weight.device.type == "cpu" and _has_fast_layout(dtype)
        self.transposed = self.weight.T.contiguous() if self.reordered and dtype == torch.float32 else None
        self.few_rows = math.inf if len(weight) <= FEW_OUTPUTS else FEW_ROWS
        if self.transposed is not None and self.few_rows == math.inf:
            self.weight = self.transposed  # the only one that is read
        elif self.reordered:
            try:
                self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)
            except RuntimeError:  # a CPU that cannot multiply bfloat16 has no layout for it
                self.reordered = False

    def __call__(self, rows: Tensor) -> Tensor:
        if not self.plain:
            rows = rows.to(self.dtype)
        if self.transposed is not None and rows.numel() <= self.few_rows * rows.shape[-1]:
            flat = rows.reshape(-1, rows.shape[-1])
            out = flat @ self.transposed if self.bias is None else torch.addmm(self.bias, flat, self.transposed)
            out = out.view(*rows.shape[:-1], out.shape[-1])  # there may be no rows
        elif self.reordered:
            kind = ("none", "") if self.approximate is None else ("gelu", self.approximate)
            return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, kind[0], [], kind[1])
        else:
            out = F.linear(rows, self.weight, self.bias)
        return out if self.approximate is None else torch._C._nn.gelu_(out, approximate=self.approximate)


@functools.cache
def _has_fast_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN's layout is worth it: in float32 without AVX-512 the plain product, and GELU after it, take a
    fifth less time for the linear maps of a small encoder."""
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.backends.mkldnn.is_available() and (wide or dtype != torch.float32)
