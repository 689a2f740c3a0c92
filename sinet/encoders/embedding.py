"""An embedding whose gradient costs what a batch's rows cost, not what the vocabulary does.

torch's gradient of an embedding is a new tensor of its whole size: 30,000 rows are filled with zeros and given back at
every step, of which a batch of eight sentences touches two hundred; that slows the training of a small encoder on a CPU
by up to a tenth. Here one tensor is kept, and before each step only the rows that the last one touched are cleared.
Whoever reads the gradient sees the same dense one as ever.
"""

import weakref
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class Reader(Protocol):
    """Who has to see to a row before it is read: an optimiser that lets rows wait."""

    def reads(self, weight: Tensor, rows: Tensor) -> None: ...


class RowEmbedding(nn.Embedding):
    """`nn.Embedding` whose weight no other module uses; its gradient is accumulated by `backward()` alone,
    `torch.autograd.grad` finds none. `reader`, if it still lives, is told which rows a training step is about to read;
    a copy has none."""

    reader: weakref.ref[Reader] | None = None

    def __init__(self, embedding: nn.Embedding) -> None:
        rows, size = embedding.weight.shape
        super().__init__(rows, size, embedding.padding_idx, _weight=embedding.weight.data)
        self.weight = embedding.weight
        self._kept: Tensor | None = None
        self._touched: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or not self.weight.requires_grad or self.weight.device.type != "cpu":
            return super().forward(input)
        if self.reader is not None and (reader := self.reader()) is not None:
            reader.reads(self.weight, input)
        return _Rows.apply(self.weight, input, self)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "reader"}

    def touched(self) -> Tensor:
        """The rows, each once and in ascending order, of which the gradient may differ from zero.

        Raises:
            RuntimeError: a gradient that does not come from reading rows, as that of a weight shared with a linear map.
        """
        gradient = self.weight.grad
        if gradient is None or self._kept is None or gradient.data_ptr() != self._kept.data_ptr():
            raise RuntimeError("the gradient of an embedding that is treated by rows was not made by reading rows")
        return torch.cat(self._touched).unique()

    def accumulate(self, rows: Tensor, gradient: Tensor) -> None:
        """Add the gradient (..., size) of the rows (...) to the weight's."""
        rows = rows.flatten()
        if self.weight.grad is None:
            if self._kept is None:
                self._kept = torch.zeros_like(self.weight)
            for touched in self._touched:
                self._kept.index_fill_(0, touched, 0.0)
            self._touched.clear()
            self.weight.grad = self._kept.view_as(self._kept)
        self._touched.append(rows)
        self.weight.grad.index_add_(0, rows, gradient.flatten(0, -2))


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, embedding: RowEmbedding) -> Tensor:
        ctx.rows, ctx.embedding = rows, embedding
        return F.embedding(rows, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        padding = ctx.embedding.padding_idx
        if padding is not None:
            gradient = gradient.masked_fill((ctx.rows == padding).unsqueeze(-1), 0.0)
        ctx.embedding.accumulate(ctx.rows, gradient)
        return None, None, None


def replace_embeddings(model: PreTrainedModel) -> None:
    """Put this embedding in the place of every plain `nn.Embedding` that lies beside a model's word pieces; others may
    be read whole, as DeBERTa's table of distances."""
    for module in list(model.modules()):
        children = dict(module.named_children())
        if model.get_input_embeddings() in children.values():
            for name, child in children.items():
                if type(child) is not nn.Embedding or child.max_norm is not None:
                    continue
                if not child.sparse and not child.scale_grad_by_freq:
                    setattr(module, name, RowEmbedding(child))
