"""Multi-dimensional GRU over a table, in both directions, with a gradient of its own.

Wang and Lu, EMNLP 2020, section 3.2 and appendix A. A cell's states are its left and upper neighbour (right and lower
in the second direction) and, from the second layer on, the same cell one layer below. Cells of one anti-diagonal
depend on the one before only, so a step is one product for all its cells, the whole batch and both directions.

Automatic differentiation of that chain spends most of its time on copies: every slice of a gate becomes a full tensor
of zeros in the backward pass. Here the backward sweep is written out, and the gradient of the weights is one product.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

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
    def forward(ctx: Any, cells: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return cells.index_select(0, order.cells.flatten()).unflatten(0, (2, -1))

    @staticmethod
    def backward(ctx: Any, d_sweeps: Tensor) -> tuple[Tensor, None]:
        return _FromSweeps.forward(ctx, d_sweeps, ctx.order), None


class _FromSweeps(torch.autograd.Function):
    """The adjoint: back to rows and columns, both directions summed."""

    @staticmethod
    def forward(ctx: Any, sweeps: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return sweeps[0].index_select(0, order.places[0]) + sweeps[1].index_select(0, order.places[1])

    @staticmethod
    def backward(ctx: Any, d_cells: Tensor) -> tuple[Tensor, None]:
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
        self.input = nn.Parameter(torch.empty(2, inputs, gates))
        self.input_bias = nn.Parameter(torch.empty(2, 1, gates))
        self.state = nn.Parameter(torch.empty(2, states * hidden, gates))
        self.state_bias = nn.Parameter(torch.empty(2, 1, gates))
        for weight, bias in ((self.input, self.input_bias), (self.state, self.state_bias)):  # as torch's linear layers
            nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)
            nn.init.uniform_(bias, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

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


class Kept(NamedTuple):
    """What the backward sweep needs of every cell.

    `joined` (2, cells, batch, states * hidden), the states a cell continues; `gates` (2, cells, batch, gates), r' and i
    after their sigmoid, the state's part of n, the shares; `new` and `mixed` (2, cells, batch, hidden), the two that i
    chooses between. Without a gradient, room for the longest anti-diagonal only.
    """

    joined: Tensor
    gates: Tensor
    new: Tensor
    mixed: Tensor

    @classmethod
    def room(cls, x: Tensor, states: int, cells: int) -> "Kept":
        """Uninitialised, for so many cells of the input's part of the gates `x`."""
        _, _, batch, gates = x.shape
        hidden = gates // (4 if states == 2 else 6)
        return cls(*(x.new_empty(2, cells, batch, width) for width in (states * hidden, gates, hidden, hidden)))

    def at(self, cells: slice) -> "Kept":
        return Kept(*(part[:, cells] for part in self))


def _add_product(to: Tensor, cells: Tensor, weight: Tensor) -> None:
    """Add to (2, cells, batch, outputs) the product of (2, cells, batch, inputs) and (2, inputs, outputs)."""
    rows = to.flatten(1, 2)
    torch.baddbmm(rows, cells.flatten(1, 2), weight, out=rows)  # torch's FLOP counter does not know baddbmm_


def sweep(
    x: Tensor,
    below: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    diagonals: list[int],
    kept: Kept | None = None,
) -> Tensor:
    """The forward sweep, all in the type of `x`: the states (2, cells, batch, hidden); `kept`, if given, is filled.

    Args:
        x: (2, cells, batch, gates), the input's part of the gates; below: (2, cells, batch, hidden) or None;
        weight: (2, states * hidden, gates); bias: (2, 1, gates); mask: (2, cells, batch, 1).
    """
    h = weight.shape[2] // (4 if below is None else 6)
    bias = bias.unsqueeze(1)
    room = Kept.room(x, weight.shape[1] // h, max(diagonals)) if kept is None else kept
    out = x.new_empty(*x.shape[:3], h)
    previous = begin = 0
    for number, size in enumerate(diagonals):
        here, above = slice(begin, begin + size), out[:, previous:begin]
        previous, begin = begin, begin + size
        joined, gates, new, mixed = room.at(here if kept else slice(size))
        left, upper, *third = joined.split(h, dim=-1)
        if 2 * number < len(diagonals):  # the table widens: its outermost cells lack a neighbour
            left[:, :-1], left[:, -1], upper[:, 1:], upper[:, 0] = above, 0, above, 0
        else:
            left.copy_(above[:, 1:])
            upper.copy_(above[:, :-1])
        if below is not None:
            third[0].copy_(below[:, here])

        torch.add(x[:, here], bias, out=gates)
        gates[..., 2 * h : 3 * h] = bias[..., 2 * h : 3 * h]  # r' scales the state's part of n alone
        _add_product(gates, joined, weight)
        reset, update = gates[..., : 2 * h].sigmoid_().chunk(2, dim=-1)
        fresh = torch.addcmul(x[:, here, :, 2 * h : 3 * h], gates[..., 2 * h : 3 * h], 1 - reset)
        torch.tanh(fresh, out=new)
        shares = gates[..., 3 * h :]
        if third:
            shares.copy_(shares.unflatten(-1, (3, h)).softmax(-2).flatten(-2))
            torch.mul(left, shares[..., :h], out=mixed)
            mixed.addcmul_(upper, shares[..., h : 2 * h]).addcmul_(third[0], shares[..., 2 * h :])
        else:
            torch.lerp(upper, left, shares.sigmoid_(), out=mixed)
        torch.mul(torch.lerp(new, mixed, update), mask[:, here], out=out[:, here])
    return out


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
        ctx: Any,
        x: Tensor,
        below: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor,
        diagonals: list[int],
    ) -> Tensor:
        ctx.kept = Kept.room(x, 2 if below is None else 3, x.shape[1])
        ctx.weight, ctx.mask, ctx.diagonals, ctx.layered = weight, mask, diagonals, below is not None
        return sweep(x, below, weight, bias, mask, diagonals, ctx.kept)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple:
        joined, gates, new, mixed = ctx.kept
        del ctx.kept
        h = new.shape[-1]
        # Everything but the chain of d_h is a factor of it, the same for all diagonals: first the factors of all cells.
        factor, through, d_new = _factors(joined, gates, new, mixed, ctx.mask)
        transposed = ctx.weight.transpose(1, 2)
        d_h, end = torch.empty_like(d_out), d_out.shape[1]
        carried = d_out.new_zeros(2, 1, d_out.shape[2], h)
        for number in reversed(range(len(ctx.diagonals))):
            here = slice(end - ctx.diagonals[number], end)
            end = here.start
            step = torch.add(d_out[:, here], carried, out=d_h[:, here]).unsqueeze(-2)
            d_v = factor[:, here]
            d_v.unflatten(-1, (-1, h)).mul_(step)
            d_states = through[:, here]
            d_states.unflatten(-1, (-1, h)).mul_(step)
            _add_product(d_states, d_v, transposed)
            d_left, d_upper = d_states[..., :h], d_states[..., h : 2 * h]
            if 2 * number < len(ctx.diagonals):
                carried = d_left[:, :-1] + d_upper[:, 1:]
            else:
                carried = F.pad(d_left, (0, 0, 0, 0, 1, 0)) + F.pad(d_upper, (0, 0, 0, 0, 0, 1))
        d_weight = torch.bmm(joined.flatten(1, 2).transpose(1, 2), factor.flatten(1, 2))
        d_bias = factor.flatten(1, 2).sum(1, keepdim=True)
        torch.mul(d_new, d_h, out=factor[..., 2 * h : 3 * h])  # what reaches the input's part of n
        return factor, through[..., 2 * h :] if ctx.layered else None, d_weight, d_bias, None, None


def _factors(joined: Tensor, gates: Tensor, new: Tensor, mixed: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By what the gradient of a cell's state is multiplied on its way to the state's part of the gates, directly to the
    states it continues, and to the input's part of n; `mask` is a factor of all. Overwrites `gates`, which becomes the
    first of them, and `mixed`."""
    h = new.shape[-1]
    reset, update, part, shares = gates.split([h, h, h, gates.shape[-1] - 3 * h], dim=-1)
    d_new = (1 - update) * (1 - new * new) * mask
    if joined.shape[-1] == 2 * h:
        through = torch.cat([shares, 1 - shares], dim=-1)
        shares.mul_(joined[..., :h] - mixed)
    else:
        through = shares.contiguous()
        shares.unflatten(-1, (3, h)).mul_(joined.unflatten(-1, (3, h)) - mixed.unsqueeze(-2))
    through.unflatten(-1, (-1, h)).mul_((update * mask).unsqueeze(-2))
    shares.unflatten(-1, (-1, h)).mul_((update * mask).unsqueeze(-2))
    torch.mul(update * (1 - update), mixed.sub_(new).mul_(mask), out=update)
    kept = 1 - reset
    torch.mul(part * d_new, (reset * kept).neg_(), out=reset)
    torch.mul(kept, d_new, out=part)
    return gates, through, d_new
