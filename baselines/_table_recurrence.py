"""Multi-dimensional GRU over a table, in both directions, with a gradient of its own.

Wang and Lu, EMNLP 2020, section 3.2 and appendix A. A cell's states are its left and upper neighbour (right and lower
in the second direction) and, from the second layer on, the same cell one layer below. Cells of one anti-diagonal
depend on the one before only, so a step is one product for all its cells, the whole batch and both directions.

Automatic differentiation of that chain spends most of its time on copies: every slice of a gate becomes a full tensor
of zeros in the backward pass. Here the backward sweep is written out; the gradient of the weights is summed in float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Order(NamedTuple):
    """The order in which both directions meet the cells of a square table, read row by row.

    `cells` (2, cells) numbers of cells by anti-diagonal, then row, the second direction from the other end;
    `places` (2, cells) where each cell comes in it; `diagonals` how many cells a step has.
    """

    cells: Tensor
    places: Tensor
    diagonals: list[int]

    @classmethod
    def of(cls, length: int, device: torch.device) -> "Order":
        """For a table of `length` rows and columns."""
        length = int(length)  # a tensor while the model is traced
        row = torch.arange(length, device=device).repeat_interleave(length)
        first = (row + torch.arange(length, device=device).repeat(length)).argsort(stable=True)
        cells = torch.stack([first, first.flip(0)])
        return cls(cells, cells.argsort(1), [min(d, 2 * length - 2 - d) + 1 for d in range(2 * length - 1)])


class _ToSweeps(torch.autograd.Function):
    """Each direction's order of the cells; the gradient of general indexing, a slow accumulation, is not needed."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, cells: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return cells.index_select(0, order.cells.flatten()).unflatten(0, (2, -1))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, d_sweeps: Tensor) -> tuple[Tensor, None]:
        return _FromSweeps.forward(ctx, d_sweeps, ctx.order), None


class _FromSweeps(torch.autograd.Function):
    """The adjoint: back to rows and columns, both directions summed."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, sweeps: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return sweeps[0].index_select(0, order.places[0]) + sweeps[1].index_select(0, order.places[1])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, d_cells: Tensor) -> tuple[Tensor, None]:
        return _ToSweeps.forward(ctx, d_cells, ctx.order), None


class _Plain:
    """Stands in for a context where no gradient is wanted: a tracer cannot look into an autograd function."""


def to_sweeps(cells: Tensor, order: Order) -> Tensor:
    """(cells, ...) row by row as (2, cells, ...), in the order in which each direction meets them."""
    return _ToSweeps.apply(cells, order) if torch.is_grad_enabled() else _ToSweeps.forward(_Plain(), cells, order)


def from_sweeps(sweeps: Tensor, order: Order) -> Tensor:
    """(2, cells, ...) in the order of each direction as their sum, (cells, ...) row by row."""
    return _FromSweeps.apply(sweeps, order) if torch.is_grad_enabled() else _FromSweeps.forward(_Plain(), sweeps, order)


class TableRecurrence(nn.Module):
    """The recurrence with `states` = 2 (first layer) or 3; weights of both directions are (2, inputs, outputs).

    Gates are in blocks of `hidden`: r', i, n, and one share for each state (one for both of two). The released r' is
    one minus the usual reset gate.
    """

    def __init__(self, inputs: int, hidden: int, states: int) -> None:
        super().__init__()
        gates = (3 + (1 if states == 2 else states)) * hidden
        self.input = nn.Parameter(torch.empty(2, inputs, gates).uniform_(-(inputs**-0.5), inputs**-0.5))
        self.input_bias = nn.Parameter(torch.zeros(2, 1, gates))
        bound = (states * hidden) ** -0.5
        self.state = nn.Parameter(torch.empty(2, states * hidden, gates).uniform_(-bound, bound))
        self.state_bias = nn.Parameter(torch.zeros(2, 1, gates))

    def forward(self, table: Tensor, below: Tensor | None, mask: Tensor, order: Order) -> Tensor:
        """States of every cell, `(2, cells, batch, hidden)`, in the order of each direction.

        Args:
            table: (cells, batch, inputs), row by row; below: the states of the layer below;
            mask: (cells, batch), whether a cell is real; the states of others are zero.
        """
        swept = to_sweeps(table, order)
        x = torch.baddbmm(self.input_bias, swept.flatten(1, 2), self.input).view(*swept.shape[:3], -1)
        mask = to_sweeps(mask, order).unsqueeze(-1).to(x.dtype)
        state, bias = self.state.to(x.dtype), self.state_bias.to(x.dtype)
        if torch.jit.is_tracing():
            return traced_sweep(x, below, state, bias, mask, order.diagonals)
        # autocast has chosen the type of `x`; inside, it would only mix types
        with torch.autocast(x.device.type, enabled=False):
            run = _Sweep.apply if torch.is_grad_enabled() else sweep
            return run(x, below, state, bias, mask, order.diagonals)


def sweep(
    x: Tensor,
    below: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    diagonals: list[int],
    kept: list[tuple[Tensor, ...]] | None = None,
) -> Tensor:
    """The forward sweep, all in the type of `x`; what the backward one needs is appended to `kept`.

    Args:
        x: (2, cells, batch, gates), the input's part of the gates; below: (2, cells, batch, hidden) or None;
        weight: (2, states * hidden, gates); bias: (2, 1, gates); mask: (2, cells, batch, 1).
    """
    gates, hidden = weight.shape[2], weight.shape[2] // (4 if below is None else 6)
    steps, begin = [], 0
    previous = x.new_empty(2, 0, x.shape[2], hidden)
    for number, size in enumerate(diagonals):
        here = slice(begin, begin + size)
        begin = begin + size
        if 2 * number < len(diagonals):  # the table widens: its outermost cells lack a neighbour
            previous = F.pad(previous, (0, 0, 0, 0, 1, 1))
        left, upper = previous[:, 1 : size + 1], previous[:, :size]
        states = [left, upper] if below is None else [left, upper, below[:, here]]
        joined = torch.cat(states, dim=-1)
        v = torch.baddbmm(bias, joined.flatten(1, 2), weight).view(2, size, -1, gates)
        reset = v[..., 2 * hidden : 3 * hidden]
        total = x[:, here] + v
        rates = total[..., : 2 * hidden].sigmoid()
        new = torch.addcmul(total[..., 2 * hidden : 3 * hidden], rates[..., :hidden], reset, value=-1).tanh()
        if below is None:
            shares = total[..., 3 * hidden :].sigmoid()
            mixed = torch.lerp(upper, left, shares)
        else:
            shares = total[..., 3 * hidden :].unflatten(-1, (3, hidden)).softmax(-2).flatten(-2)
            mixed = (shares * joined).unflatten(-1, (3, hidden)).sum(-2)
        previous = torch.lerp(new, mixed, rates[..., hidden:]) * mask[:, here]
        steps.append(previous)
        if kept is not None:
            kept.append((joined, rates, reset.contiguous(), new, mixed, shares))
    return torch.cat(steps, dim=1)


@torch.library.custom_op("sinet::table_sweep", mutates_args=())
def traced_sweep(
    x: Tensor, below: Tensor | None, weight: Tensor, bias: Tensor, mask: Tensor, diagonals: list[int]
) -> Tensor:
    """`sweep` as one operator, for traces: unrolled it is thousands, and takes seconds a sentence to trace."""
    return sweep(x, below, weight, bias, mask, diagonals)


def sweep_multiply_adds(x: Sequence[int], *_: Sequence[int], out: Sequence[int]) -> int:
    """Multiply-adds of a sweep, from the shapes of its arguments and its result."""
    directions, cells, batch, gates = x
    states = 2 if gates == 4 * out[-1] else 3
    return directions * cells * batch * states * out[-1] * gates


class _Sweep(torch.autograd.Function):
    """`sweep` with its gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        below: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor,
        diagonals: list[int],
    ) -> Tensor:
        ctx.kept = []
        ctx.weight, ctx.mask, ctx.diagonals, ctx.layered = weight, mask, diagonals, below is not None
        return sweep(x, below, weight, bias, mask, diagonals, ctx.kept)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, d_out: Tensor) -> tuple:
        _, cells, batch, hidden = d_out.shape
        d_x = d_out.new_empty(2, cells, batch, ctx.weight.shape[2])
        d_below = torch.empty_like(d_out) if ctx.layered else None
        d_weight = torch.zeros_like(ctx.weight, dtype=torch.float32)
        d_bias = d_weight.new_zeros(2, 1, ctx.weight.shape[2])
        transposed = ctx.weight.transpose(1, 2)
        end, carried = cells, d_out.new_zeros(2, 1, batch, hidden)
        for number in reversed(range(len(ctx.diagonals))):
            here = slice(end - ctx.diagonals[number], end)
            end = here.start
            joined, rates, reset, new, mixed, shares = ctx.kept.pop()
            keep, update = rates.chunk(2, dim=-1)
            states = joined.split(hidden, dim=-1)
            d_h = (d_out[:, here] + carried) * ctx.mask[:, here]
            d_mixed = d_h * update
            d_z = (d_h - d_mixed) * (1 - new * new)
            d_gates = [-d_z * reset * keep * (1 - keep), d_h * (mixed - new) * update * (1 - update), d_z]
            if ctx.layered:
                d_states = [d_mixed * share for share in shares.split(hidden, dim=-1)]
                d_gates += [part * (state - mixed) for part, state in zip(d_states, states, strict=True)]
            else:
                d_states = [d_mixed * shares, d_mixed * (1 - shares)]
                d_gates.append(d_states[0] * (states[0] - mixed))
            d_x[:, here] = torch.cat(d_gates, dim=-1)
            d_gates[2] = d_z * (1 - keep)
            d_v = torch.cat(d_gates, dim=-1).flatten(1, 2)
            d_weight += torch.bmm(joined.flatten(1, 2).transpose(1, 2), d_v)
            d_bias += d_v.sum(1, keepdim=True)
            through = torch.bmm(d_v, transposed).view(*d_h.shape[:3], -1).split(hidden, dim=-1)
            d_left, d_upper, *d_third = (direct + part for direct, part in zip(d_states, through, strict=True))
            if ctx.layered:
                d_below[:, here] = d_third[0]
            if 2 * number < len(ctx.diagonals):
                carried = d_left[:, :-1] + d_upper[:, 1:]
            else:
                carried = F.pad(d_left, (0, 0, 0, 0, 1, 0)) + F.pad(d_upper, (0, 0, 0, 0, 0, 1))
        return d_x, d_below, d_weight.to(ctx.weight.dtype), d_bias.to(ctx.weight.dtype), None, None
