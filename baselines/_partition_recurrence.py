"""The recurrence of the partition filter encoder, with a gradient of its own.

Yan et al., EMNLP 2021, section 3.2, eqs. 1 to 8. A step is a chain of small products and element-wise operations;
automatic differentiation adds each step's gradient of the weights to a tensor of their size, and keeps a node for every
operation. Here the backward sweep is written out, and the gradient of each weight is one product over all steps.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def sweep(x: Tensor, recurrent: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Partitions of every step, `(length, batch, 3, hidden)`: relation, entity, shared.

    With r = cs(.) and e = 1 - cs(.) the published sums telescope: up + overlap = r and down + overlap = e, so that
    c_re = r_in c_{t-1} + r c~, c_ner = e_in c_{t-1} + e c~ and share = (r e)_in c_{t-1} + r e c~.

    Args:
        x: (length, batch, 5 hidden), each step's input to the candidate and the four gates: of the previous cell and
            of the candidate, each for entities and relations. recurrent: (hidden, 5 hidden).
        weight, bias: (hidden, 3 hidden), (hidden), from the partitions to the next cell.
    """
    return _Sweep.apply(x, recurrent, weight, bias) if torch.is_grad_enabled() else _forward(x, recurrent, weight, bias)


def _forward(x: Tensor, recurrent: Tensor, weight: Tensor, bias: Tensor, kept: list | None = None) -> Tensor:
    batch, hidden = x.shape[1], len(recurrent)
    h = cell = x[0].new_zeros(batch, hidden)
    partitions = []
    for step in x.unbind(0):
        candidate, gates = torch.addmm(step, h, recurrent).split([hidden, 4 * hidden], dim=1)
        # (batch, previous cell or candidate, entity or relation, hidden)
        shares = gates.view(batch, 2, 2, hidden).softmax(-1)
        cumulated = shares.cumsum(-1)
        entity, relation = 1 - cumulated[:, :, 0], cumulated[:, :, 1]
        cells = torch.stack([cell, candidate.tanh()], dim=1)
        portions = torch.stack([relation, entity, relation * entity], dim=1)
        partition = (portions * cells.unsqueeze(1)).sum(2)
        if kept is not None:
            kept.append((h, cells, shares, portions))
        cell = torch.addmm(bias, partition.flatten(1), weight.T)
        h = cell.tanh()
        partitions.append(partition)
    return torch.stack(partitions)


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, recurrent: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        kept: list[tuple[Tensor, ...]] = []
        partitions = _forward(x, recurrent, weight, bias, kept)
        ctx.save_for_backward(recurrent, weight, partitions, *(torch.stack(each) for each in zip(*kept, strict=True)))
        return partitions

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_partitions: Tensor) -> tuple[Tensor, ...]:
        recurrent, weight, partitions, states, cells, shares, portions = ctx.saved_tensors
        length, batch, _, hidden = partitions.shape
        d_x = states.new_empty(length, batch, 5 * hidden)
        d_cells = torch.zeros_like(states)
        # the derivatives of tanh, at the states and the candidates
        of_states, of_candidates = 1 - states.square(), 1 - cells[:, :, 1].square()
        back = recurrent.T.contiguous()
        d_cell, d_h = (states.new_zeros(batch, hidden) for _ in range(2))
        for t in range(length - 1, -1, -1):
            if t < length - 1:
                d_cell = torch.addcmul(d_cell, d_h, of_states[t + 1])
            d_cells[t] = d_cell
            d_partition = torch.addmm(d_partitions[t].flatten(1), d_cell, weight).view(batch, 3, 1, hidden)
            relation, entity, _ = portions[t].unbind(1)  # each (batch, previous cell or candidate, hidden)
            d_relation, d_entity, d_share = d_partition.unbind(1)
            d_sources = (portions[t] * d_partition).sum(1)
            # of the cumulated sums: e = 1 - cs(.), and share = r e
            d_sums = torch.stack(
                [torch.addcmul(d_entity, d_share, relation).neg_(), torch.addcmul(d_relation, d_share, entity)], dim=2
            ).mul_(cells[t].unsqueeze(2))
            sums = d_sums.cumsum(-1)
            d_shares = d_sums.sub_(sums).add_(sums[..., -1:])  # a cumulated sum, from behind
            d_shares -= (d_shares * shares[t]).sum(-1, keepdim=True)
            torch.mul(shares[t], d_shares, out=d_x[t, :, hidden:].view(batch, 2, 2, hidden))
            torch.mul(d_sources[:, 1], of_candidates[t], out=d_x[t, :, :hidden])
            d_cell = d_sources[:, 0]
            d_h = d_x[t] @ back
        flat = d_x.flatten(0, 1)
        return (
            d_x,
            states.flatten(0, 1).T @ flat,
            d_cells.flatten(0, 1).T @ partitions.flatten(0, 1).flatten(1),
            d_cells.flatten(0, 1).sum(0),
        )
