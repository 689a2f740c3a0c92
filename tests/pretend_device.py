"""A device that is none: tensors that hold CPU data, say that they live elsewhere, and refuse what a GPU refuses.

An index left on the CPU, or NumPy asked for a GPU's figures, shows nowhere but on a GPU. Here every operator is looked
at before it runs, by torch's own rules for CUDA. Where a tensor of this device takes part:

- no CPU tensor may, except in copies, a scalar (no dimensions) that an element-wise operator reads or that fills, and
  the indices of `tensor[indices]` (not those of `index_select`, `gather` or an embedding);
- what comes out is there too, unless `device=` says otherwise; made from nothing, it is on the CPU unless that says so;
- figures go to Python (`item`, `tolist`, `bool`), but to NumPy only by way of `cpu()`.

Random numbers are drawn there: the same ones every time, and the CPU's generator stays as it is. torch knows the
device as "meta", which autograd takes without hardware; meta tensors themselves do not exist meanwhile. There is no
bfloat16: autocast works by torch's own devices.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from transformers import AutoModel

DEVICE, CPU = torch.device("meta"), torch.device("cpu")
COPIES = {"_to_copy", "copy_", "copy"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
FILLED = {"fill", "fill_", "masked_fill", "masked_fill_", "index_fill", "index_fill_"}
OPTIMIZERS = sys.modules["torch.optim.optimizer"]  # which the function of that name hides


class PretendTensor(Tensor):
    """A tensor of the device; what it holds is `held`, on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> "PretendTensor":
        assert held.device == CPU, f"a real tensor of {held.device}"
        layout = (held.size(), held.stride(), held.storage_offset())
        with torch.inference_mode(False):  # a view of a parameter is none of inference's tensors
            made = Tensor._make_wrapper_subclass(cls, *layout, dtype=held.dtype, device=DEVICE)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        return _run(operator, args, kwargs or {})

    # what torch does without asking an operator, and not for subclasses

    def tolist(self) -> list:
        return self.cpu().tolist()

    def new_tensor(self, figures: object, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(figures, dtype=dtype or self.dtype, device=DEVICE)

    def __reduce_ex__(self, protocol: int) -> tuple:
        return self.detach().cpu().__reduce_ex__(protocol)  # as `map_location="cpu"` reads it back

    def __repr__(self, **options: object) -> str:
        return f"pretend {self.held}"


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, operator: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        with self:  # in inference mode torch leaves it to us to take an operator to pieces
            made = operator.decompose(*args, **kwargs or {})
        return _run(operator, args, kwargs or {}) if made is NotImplemented else made


class _Constants(TorchFunctionMode):
    """torch makes a meta tensor of Python's figures without asking an operator."""

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None):
        kwargs = kwargs or {}
        if function is torch.tensor and kwargs.get("device") == DEVICE:
            return torch.tensor(*args, **kwargs | {"device": CPU}).to(DEVICE)
        if function is Tensor.__getitem__ and isinstance(args[0], PretendTensor) and isinstance(args[1], list):
            args = (args[0], torch.tensor(args[1]).to(DEVICE))
        return function(*args, **kwargs)


@contextlib.contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, which exists within it, in this thread: as `device=`, for `.to` of tensors and modules."""
    autocast, supported = torch.autocast, OPTIMIZERS._get_fused_kernels_supported_devices

    def no_autocast(device: str, *args: object, enabled: bool = True, **kwargs: object):
        if device == DEVICE.type and not enabled:
            return contextlib.nullcontext()
        return autocast(device, *args, enabled=enabled, **kwargs)

    def load(*args: object, original: Callable = AutoModel.from_pretrained, **kwargs: object) -> object:
        with _disable_current_modes():  # transformers loads weights by way of meta tensors
            return original(*args, **kwargs)

    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            mock.patch.object(torch, "autocast", no_autocast),
            mock.patch.object(OPTIMIZERS, supported.__name__, lambda: [*supported(), DEVICE.type]),
            mock.patch.object(AutoModel, "from_pretrained", load),
            _Constants(),
            _Operators(),
        ):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _run(operator: Callable, args: tuple, kwargs: dict) -> object:
    tensors = list(_tensors((*args, *kwargs.values())))
    assert all(isinstance(t, PretendTensor) or t.device == CPU for t in tensors), f"{operator}: a real meta tensor"
    there = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, PretendTensor)}
    name = operator._overloadpacket.__name__
    device = kwargs.get("device") or (DEVICE if there else CPU)
    if name == "copy_":
        device = args[0].device
    elif there and name not in COPIES:
        changed = args[0] if torch.Tag.inplace in operator.tags else kwargs.get("out")
        indices = list(_tensors(args[1])) if name in INDEXED and isinstance(args[0], PretendTensor) else []
        scalars = name in FILLED or name in INDEXED or torch.Tag.pointwise in operator.tags
        for tensor in tensors:
            alone = isinstance(tensor, PretendTensor) or any(tensor is index for index in indices)
            if not alone and (tensor.dim() or not scalars or tensor is changed):
                raise RuntimeError(f"{operator}: all tensors should be on one device; one is on the {tensor.device}")
    if kwargs.get("device") == DEVICE:
        kwargs = kwargs | {"device": CPU}
    args, kwargs = _mapped(lambda t: t.held if isinstance(t, PretendTensor) else t, (args, kwargs))
    if device != DEVICE:
        return operator(*args, **kwargs)
    if torch.Tag.nondeterministic_seeded in operator.tags:
        operator = getattr(operator._overloadpacket, "generator", operator)
        kwargs = kwargs | {"generator": torch.Generator().manual_seed(0)}
    made = operator(*args, **kwargs)
    # what an operator changes, it returns
    return _mapped(lambda t: there[id(t)] if id(t) in there else PretendTensor(t), made)


def _tensors(found: object) -> Iterator[Tensor]:
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, (list, tuple)):
        for item in found:
            yield from _tensors(item)


def _mapped(function: Callable[[Tensor], Tensor], found: object) -> object:
    if isinstance(found, Tensor):
        return function(found)
    if isinstance(found, (list, tuple)):
        return type(found)(_mapped(function, item) for item in found)
    return {key: _mapped(function, item) for key, item in found.items()} if isinstance(found, dict) else found
