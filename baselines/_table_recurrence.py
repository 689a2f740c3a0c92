"""Multi-dimensional GRU over a table, in both directions, with a gradient of its own.

Wang and Lu, EMNLP 2020, section 3.2 and appendix A. A cell's states are its left and upper neighbour (right and lower
in the second direction) and, from the second layer on, the same cell one layer below. Cells of one anti-diagonal
depend on the one before only, so a step is one product for all its cells, the whole batch and both directions.

Automatic differentiation of that chain spends most of its time on copies: every slice of a gate becomes a full tensor
of zeros in the backward pass. Here the backward sweep is written out, and the gradient of the weights is one product
after it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def diagonal_order(length: int, device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    """The cells (row * length + column) of a square table by anti-diagonal, then row; the order back; the sizes of the
    anti-diagonals."""
    length = int(length)  # a tensor while the model is traced
    row = torch.arange(length, device=device).repeat_interleave(length)
    column = torch.arange(length, device=device).repeat(length)
    order = (row + column).argsort(stable=True)
    return order, order.argsort(), [min(d, 2 * length - 2 - d) + 1 for d in range(2 * length - 1)]


class TableRecurrence(nn.Module):
    """The recurrence with `states` = 2 (first layer) or 3; weights of both directions are (2, inputs, outputs).

    Gates are in blocks of `hidden`: r', i, n, and one share for each state (one for both of two). The released r' is
    one minus the usual reset gate.
    """

    def __init__(self, inputs: int, hidden: int, states: int) -> None:
        super().__init__()
        self.hidden = hidden
        blocks = 3 + (1 if states == 2 else states)
        self.input = nn.Linear(inputs, 2 * blocks * hidden)
        self.neighbours = nn.Parameter(torch.empty(2, 2 * hidden, blocks * hidden))
        self.below = nn.Parameter(torch.empty(2, hidden, blocks * hidden)) if states == 3 else None
        self.state_bias = nn.Parameter(torch.zeros(2, 1, blocks * hidden))
        bound = (states * hidden) ** -0.5
        for weight in (self.neighbours, self.below):
            if weight is not None:
                nn.init.uniform_(weight, -bound, bound)

    def forward(self, table: Tensor, below: Tensor | None, mask: Tensor, diagonals: list[int]) -> Tensor:
        """States of every cell, `(2, cells, batch, hidden)`.

        Args:
            table: (cells, batch, inputs), cells in the order of anti-diagonals; below: the layer below's states;
            mask: (cells, batch, 1), 0 at padding, whose states are zero; diagonals: their sizes.
        """
        kind = table.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        weight = self.neighbours if below is None else torch.cat([self.neighbours, self.below], dim=1)
        arguments = (self.input(table), below, weight, self.state_bias, mask, diagonals, low)
        if torch.is_grad_enabled():
            return _Sweep.apply(*arguments)
        return sweep(*arguments)[0]


def _places(diagonals: list[int]) -> list[tuple[slice, slice]]:
    """Where the cells of each step lie, for the first direction and for the second, which starts at the other end."""
    found, begin, cells = [], 0, sum(diagonals)
    for size in diagonals:
        found.append((slice(begin, begin + size), slice(cells - begin - size, cells - begin)))
        begin += size
    return found


def _read(pair: tuple[Tensor, Tensor], place: tuple[slice, slice]) -> Tensor:
    """One step of both directions, `(2, cells of the diagonal, ...)`, in float32."""
    return torch.stack([pair[0][place[0]], pair[1][place[1]].flip(0)]).float()


def _write(pair: tuple[Tensor, Tensor], place: tuple[slice, slice], step: Tensor) -> None:
    pair[0][place[0]] = step[0]
    pair[1][place[1]] = step[1].flip(0)


def sweep(
    inputs: Tensor,
    below: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    diagonals: list[int],
    low: torch.dtype,
    keep: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The forward sweep; with `keep` also what the backward one needs. Products in `low`, all else in float32.

    Args:
        inputs: (cells, batch, 2 * gates), the input's part of the gates of both directions;
        weight: (2, states * hidden, gates); the others as above.
    """
    cells, batch, _ = inputs.shape
    gates, hidden = weight.shape[2], bias.shape[2] // (4 if below is None else 6)
    out = inputs.new_empty(2, cells, batch, hidden, dtype=torch.float32)
    kept: dict[str, Tensor] = {}
    if keep:
        sizes = {"states": weight.shape[1], "rates": 2 * hidden, "shares": gates - 3 * hidden}
        sizes |= dict.fromkeys(("new", "reset", "mixed"), hidden)
        kept = {name: inputs.new_empty(2, cells, batch, size, dtype=low) for name, size in sizes.items()}
    with torch.autocast(inputs.device.type, enabled=False):
        weight = weight.to(low)
        inputs, previous = inputs.chunk(2, dim=-1), out[:, :0]
        for number, place in enumerate(_places(diagonals)):
            size = diagonals[number]
            if 2 * number < len(diagonals):  # the table widens: its outermost cells lack a neighbour
                previous = F.pad(previous, (0, 0, 0, 0, 1, 1))
            left, upper = previous[:, 1 : size + 1], previous[:, :size]
            states = [left, upper] if below is None else [left, upper, _read(below, place)]
            joined = torch.cat(states, dim=-1).to(low)
            v = torch.bmm(joined.flatten(1, 2), weight).float() + bias
            v = v.view(2, size, batch, gates)
            reset = v[..., 2 * hidden : 3 * hidden]
            total = _read(inputs, place) + v
            rates = total[..., : 2 * hidden].sigmoid()
            new = torch.addcmul(total[..., 2 * hidden : 3 * hidden], rates[..., :hidden], reset, value=-1).tanh()
            if below is None:
                shares = total[..., 3 * hidden :].sigmoid()
                mixed = torch.lerp(upper, left, shares)
            else:
                shares = total[..., 3 * hidden :].unflatten(-1, (3, hidden)).softmax(-2).flatten(-2)
                first, second, third = shares.chunk(3, dim=-1)
                mixed = (first * left).addcmul_(second, upper).addcmul_(third, states[2])
            previous = torch.lerp(new, mixed, rates[..., hidden:]) * _read((mask, mask), place)
            _write(out, place, previous)
            if keep:
                found = {"states": joined, "rates": rates, "new": new, "reset": reset, "mixed": mixed, "shares": shares}
                for name, value in found.items():
                    kept[name][:, place[0]] = value
    return out, kept


class _Sweep(torch.autograd.Function):
    """`sweep` with its gradient."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        inputs: Tensor,
        below: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        mask: Tensor,
        diagonals: list[int],
        low: torch.dtype,
    ) -> Tensor:
        out, kept = sweep(inputs, below, weight, bias, mask, diagonals, low, keep=True)
        ctx.kept, ctx.weight, ctx.mask, ctx.diagonals, ctx.low = kept, weight, mask, diagonals, low
        ctx.dtype, ctx.layered = inputs.dtype, below is not None
        return out

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, d_out: Tensor) -> tuple:
        kept, weight, low, mask = ctx.kept, ctx.weight, ctx.low, ctx.mask
        _, cells, batch, hidden = d_out.shape
        gates = weight.shape[2]
        d_v = d_out.new_empty(2, cells, batch, gates, dtype=low)  # of the states' part of the gates
        d_inputs = d_out.new_empty(cells, batch, 2 * gates, dtype=ctx.dtype)
        d_below = torch.empty_like(d_out) if ctx.layered else None
        transposed = weight.transpose(1, 2).to(low)
        places = _places(ctx.diagonals)
        carried = d_out.new_zeros(2, 1, batch, hidden, dtype=torch.float32)
        for number in reversed(range(len(places))):
            place = places[number]
            step = {name: value[:, place[0]].float() for name, value in kept.items()}
            new, reset, mixed = step["new"], step["reset"], step["mixed"]
            keep, update = step["rates"].chunk(2, dim=-1)
            states, shares = step["states"].split(hidden, dim=-1), step["shares"].split(hidden, dim=-1)
            d_h = (_read(d_out, place) + carried) * _read((mask, mask), place)
            d_mixed = d_h * update
            d_z = (d_h - d_mixed) * (1 - new * new)
            d_gates = [-d_z * reset * keep * (1 - keep), d_h * (mixed - new) * update * (1 - update), d_z]
            if ctx.layered:
                d_states = [d_mixed * share for share in shares]
                d_gates += [part * (state - mixed) for part, state in zip(d_states, states, strict=True)]
            else:
                d_states = [d_mixed * shares[0], d_mixed * (1 - shares[0])]
                d_gates.append(d_states[0] * (states[0] - mixed))
            _write(d_inputs.chunk(2, dim=-1), place, torch.cat(d_gates, dim=-1))
            d_gates[2] = d_z * (1 - keep)
            d_step = torch.cat(d_gates, dim=-1).to(low)
            d_v[:, place[0]] = d_step
            through = torch.bmm(d_step.flatten(1, 2), transposed).float().view(*d_h.shape[:3], -1)
            d_left, d_upper, *d_third = (
                direct + part for direct, part in zip(d_states, through.split(hidden, dim=-1), strict=True)
            )
            if ctx.layered:
                _write(d_below, place, d_third[0])
            if 2 * number < len(places):
                carried = d_left[:, :-1] + d_upper[:, 1:]
            else:
                carried = F.pad(d_left, (0, 0, 0, 0, 1, 0)) + F.pad(d_upper, (0, 0, 0, 0, 0, 1))
        flat = d_v.flatten(1, 2)
        d_weight = torch.bmm(kept["states"].flatten(1, 2).transpose(1, 2), flat).float()
        return d_inputs, d_below, d_weight, d_v.float().sum((1, 2)).unsqueeze(1), None, None, None


class Permute(torch.autograd.Function):
    """Rows in another order; the gradient of general indexing, an accumulation, is not needed for it."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.inverse = inverse
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, d_rows: Tensor) -> tuple[Tensor, None, None]:
        return d_rows.index_select(0, ctx.inverse), None, None


def permute(rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """`rows[order]`, where `inverse` is the order back."""
    return Permute.apply(rows, order, inverse) if torch.is_grad_enabled() else rows.index_select(0, order)
