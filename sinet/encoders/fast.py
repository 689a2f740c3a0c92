"""Inference with an encoder's weights made ready once: the same products as in training, arranged for speed.

- Rows of padding take no part: the pieces of a batch lie end to end. On a CPU neighbouring sentences of one length
  attend as a block, which is a view of these rows, without a mask; a GPU, for which many small products would be slow,
  pads them for attention.
- Queries, keys and values come out of one product; the scale of the scores is folded into its weights.
- Weights are held in the precision of the products and, on a CPU with AVX-512, in the layout that its kernels want,
  with the activation fused into the product before it. `torch.nn.Linear` would cast or reorder them at every call.

`fast_inference` is the switch; without it every prediction is the same, to rounding. The modules keep their weights, of
which packed ones are copies or views.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

ACTIVATIONS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""The configuration's activation -> torch's `approximate`; other activations are not packed."""
FEW_ROWS = 32
"""For so few rows oneDNN's layout is slower in float32 than a product of plain ones: its call takes twenty microseconds
by itself."""


@contextlib.contextmanager
def fast_inference(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within it, inference in `dtype` uses copies of the weights of this moment: nothing may train meanwhile."""
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if (packed := getattr(module, "packed", None)) is not None:
                stack.enter_context(packed(dtype))
        yield


class PackedLinear:
    """`activation(x W^T + b)` of rows (..., inputs), with weights cast and laid out once."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, approximate: str | None = None) -> None:
        """`approximate` is torch's word for the kind of GELU that follows, None for no activation."""
        self.dtype = dtype
        self.weight = weight.detach().to(dtype).contiguous()
        self.bias = bias.detach().to(dtype)
        self.approximate = approximate
        # the operators behind inductor's frozen CPU linear; private to torch, whose version is pinned
        self.reordered = weight.device.type == "cpu" and _has_fast_layout(dtype)
        self.transposed = self.weight.T.contiguous() if self.reordered and dtype == torch.float32 else None
        if self.reordered:
            try:
                self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)
            except RuntimeError:  # a CPU that cannot multiply bfloat16 has no layout for it
                self.reordered = False

    def __call__(self, rows: Tensor) -> Tensor:
        rows = rows.to(self.dtype)
        if self.transposed is not None and rows.numel() <= FEW_ROWS * rows.shape[-1]:
            flat = rows.reshape(-1, rows.shape[-1])
            out = torch.addmm(self.bias, flat, self.transposed).view(*rows.shape[:-1], -1)
        elif self.reordered:
            kind = ("none", "") if self.approximate is None else ("gelu", self.approximate)
            return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, kind[0], [], kind[1])
        else:
            out = F.linear(rows, self.weight, self.bias)
        if self.approximate is None:
            return out
        return torch._C._nn.gelu_(out, approximate=self.approximate)  # type: ignore[attr-defined]  # private to torch


@functools.cache
def _has_fast_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN's layout is worth it: in float32 without AVX-512 the plain product, and GELU after it, take a
    fifth less time for the linear maps of a small encoder."""
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return torch.backends.mkldnn.is_available() and (wide or dtype != torch.float32)


class Layer(NamedTuple):
    """The modules of one transformer layer, wherever an architecture keeps them."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attended: nn.Linear
    attended_norm: nn.LayerNorm
    wide: nn.Linear
    narrow: nn.Linear
    norm: nn.LayerNorm


def _bert(model: Any) -> list[Layer]:
    return [
        Layer(
            *(layer.attention.self.query, layer.attention.self.key, layer.attention.self.value),
            *(layer.attention.output.dense, layer.attention.output.LayerNorm),
            *(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm),
        )
        for layer in model.encoder.layer
    ]


def _mpnet(model: Any) -> list[Layer]:
    return [
        Layer(
            *(layer.attention.attn.q, layer.attention.attn.k, layer.attention.attn.v),
            *(layer.attention.attn.o, layer.attention.LayerNorm),
            *(layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm),
        )
        for layer in model.encoder.layer
    ]


def _albert(model: Any) -> list[Layer]:
    layers, groups = model.config.num_hidden_layers, model.encoder.albert_layer_groups
    chosen = [groups[i * len(groups) // layers] for i in range(layers)]
    return [
        Layer(
            *(layer.attention.query, layer.attention.key, layer.attention.value),
            *(layer.attention.dense, layer.attention.LayerNorm),
            *(layer.ffn, layer.ffn_output, layer.full_layer_layer_norm),
        )
        for group in chosen
        for layer in group.albert_layers
    ]


ARCHITECTURES: dict[str, Callable[[Any], list[Layer]]] = {
    "bert": _bert,
    "roberta": _bert,
    "mpnet": _mpnet,
    "albert": _albert,
}


class _PackedLayer:
    def __init__(self, layer: Layer, heads: int, dtype: torch.dtype, approximate: str) -> None:
        scale = 1 / math.sqrt(layer.query.out_features // heads)
        projections = ((layer.query, scale), (layer.key, 1.0), (layer.value, 1.0))
        self.heads = heads
        self.qkv = PackedLinear(
            torch.cat([linear.weight * factor for linear, factor in projections]),
            torch.cat([linear.bias * factor for linear, factor in projections]),
            dtype,
        )
        self.attended = PackedLinear(layer.attended.weight, layer.attended.bias, dtype)
        self.wide = PackedLinear(layer.wide.weight, layer.wide.bias, dtype, approximate)
        self.narrow = PackedLinear(layer.narrow.weight, layer.narrow.bias, dtype)
        self.norms = [
            ((len(norm.weight),), norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.eps)
            for norm in (layer.attended_norm, layer.norm)
        ]

    def __call__(
        self, rows: Tensor, packing: "_Packing", mask: Tensor | None, keep: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The next rows, and the attention (batch, heads, pieces, pieces) where it is to be kept."""
        projected, weights = self.qkv(rows), None
        if packing.blocks is None:
            mixed, weights = self._attend(packing.padded(projected), mask, keep)
            mixed = packing.packed(mixed)
        else:
            mixed = torch.empty_like(rows)
            for block, (sentences, pieces) in packing.blocks:
                bias = None if mask is None else mask[..., :pieces, :pieces]
                found, _ = self._attend(projected[block].unflatten(0, (sentences, pieces)), bias, keep)
                mixed[block].unflatten(0, (sentences, pieces)).copy_(found)
        rows = F.layer_norm(self.attended(mixed).add_(rows), *self.norms[0])
        return F.layer_norm(self.narrow(self.wide(rows)).add_(rows), *self.norms[1]), weights

    def _attend(self, projected: Tensor, mask: Tensor | None, keep: bool) -> tuple[Tensor, Tensor | None]:
        """What queries, keys and values (batch, pieces, 3 hidden) give, (batch, pieces, hidden), and the attention."""
        query, key, value = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        # torch's fused attention is the faster one in half precision, its separate steps are in float32
        if keep or query.dtype == torch.float32:
            scores = query @ key.transpose(-1, -2)
            weights = (scores if mask is None else scores + mask).softmax(-1)
            return (weights @ value).transpose(1, 2).flatten(2), weights
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=1.0)
        return mixed.transpose(1, 2).flatten(2), None


class _Packing:
    """Between (batch, pieces, ...) with padding and (rows, ...) without.

    `blocks`: rows of neighbouring sentences of the same length, with their number and length; None where attention is
    to be padded.
    """

    def __init__(self, attention_mask: Tensor, by_length: bool) -> None:
        self.shape = attention_mask.shape
        real = attention_mask.flatten().bool()
        self.full = bool(real.all())
        self.blocks = list(_blocks(attention_mask.sum(1).tolist())) if by_length else None
        if not self.full:
            self.rows = real.nonzero().squeeze(1)
            self.back = (real.cumsum(0) - 1).clamp(min=0)  # a cell of padding repeats a piece: masked, never read

    def packed(self, cells: Tensor) -> Tensor:
        cells = cells.flatten(0, 1)
        return cells if self.full else cells.index_select(0, self.rows)

    def padded(self, rows: Tensor) -> Tensor:
        return (rows if self.full else rows.index_select(0, self.back)).unflatten(0, self.shape)


def _blocks(lengths: Sequence[int]) -> Iterator[tuple[slice, tuple[int, int]]]:
    start = 0
    for length, group in itertools.groupby(lengths):
        sentences = len(list(group))
        yield slice(start, start := start + sentences * length), (sentences, length)


class PackedEncoder:
    """A snapshot of a Hugging Face encoder's weights, in `dtype`, and its forward."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        config = model.config
        self.model, self.dtype = model, dtype
        mapping = getattr(model.encoder, "embedding_hidden_mapping_in", None)  # ALBERT's embeddings are narrower
        self.mapping = None if mapping is None else PackedLinear(mapping.weight, mapping.bias, dtype)
        approximate = ACTIVATIONS[config.hidden_act]
        made: dict[int, _PackedLayer] = {}  # ALBERT's layers share their weights
        self.layers = []
        for layer in ARCHITECTURES[config.model_type](model):
            if id(layer.query) not in made:
                made[id(layer.query)] = _PackedLayer(layer, config.num_attention_heads, dtype, approximate)
            self.layers.append(made[id(layer.query)])

    @staticmethod
    def supports(model: PreTrainedModel) -> bool:
        """Whether a model's architecture and activation are known here; any other runs as it is."""
        return model.config.model_type in ARCHITECTURES and model.config.hidden_act in ACTIVATIONS

    @torch.no_grad()
    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        keep: bool = False,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden states (batch, pieces, hidden) in `dtype`, and attentions (batch, heads, pieces, pieces).

        Of both only the last state unless `keep`, which gives the embeddings, every layer and every attention.
        Cells of padding hold figures that mean nothing. A mask (batch, pieces, pieces) says what each piece (row) sees;
        one that sees nothing is padding. `position_ids` (batch, pieces) are the model's own, `token_type_ids`
        of a model that has types.
        """
        of_pairs = attention_mask.dim() == 3
        real = attention_mask.any(2) if of_pairs else attention_mask
        packing = _Packing(real, by_length=input_ids.device.type == "cpu" and not keep and not of_pairs)
        with torch.autocast(input_ids.device.type, enabled=False):
            types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            embedded = self.model.embeddings(input_ids=input_ids, position_ids=position_ids, **types)
            mask = self._mask(attention_mask, embedded, (packing.full and not of_pairs) or packing.blocks is not None)
            rows = packing.packed(embedded).to(self.dtype)
            if self.mapping is not None:
                rows = self.mapping(rows)
            states, attentions = [rows], []
            for layer in self.layers:
                rows, attention = layer(rows, packing, mask, keep)
                states = [*states, rows] if keep else [rows]
                if keep and attention is not None:
                    attentions.append(attention)
            return [packing.padded(state) for state in states], attentions

    def maps_alone(self, rows: int) -> Callable[[], None]:
        """A pass over the linear maps, with the activation between them, of so many rows: the least that the encoder
        takes. For timing: what they are of is nothing in particular."""

        def drawn(width: int) -> Tensor:
            return torch.randn(rows, width, dtype=self.dtype, device=self.model.device)

        states, mapping = drawn(self.model.config.hidden_size), None
        if self.mapping is not None:
            mapping = functools.partial(self.mapping, drawn(self.model.config.embedding_size))

        @torch.no_grad()
        def run() -> None:
            if mapping is not None:
                mapping()
            for layer in self.layers:
                layer.qkv(states)
                layer.attended(states)
                layer.narrow(layer.wide(states))

        return run

    def _mask(self, attention_mask: Tensor, embedded: Tensor, full: bool) -> Tensor | None:
        """What is added to the scores: MPNet's relative positions, and a floor where there is padding unless `full`."""
        mask = None
        if hasattr(self.model.encoder, "compute_position_bias"):
            mask = self.model.encoder.compute_position_bias(embedded[:1]).to(self.dtype)  # the same for all sentences
        if not full:
            floor = torch.zeros_like(attention_mask, dtype=self.dtype)
            floor = floor.masked_fill_(attention_mask == 0, torch.finfo(self.dtype).min)
            floor = floor[:, None] if floor.dim() == 3 else floor[:, None, None]
            mask = floor if mask is None else torch.maximum(mask + floor, floor.new_tensor(torch.finfo(self.dtype).min))
        return mask
