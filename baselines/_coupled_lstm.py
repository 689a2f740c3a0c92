"""A bidirectional LSTM with coupled gates, with a gradient of its own.

Luan et al., EMNLP 2018, section 4; the cell is that of the released code which `baselines.sciie` names, whose forget
gate is one minus the input gate. With s the sigmoid, [i ; j ; o] = [x ; m * h] W + b,
c <- (1 - s(i)) * c + s(i) * tanh(j), h <- tanh(c) * s(o), with one dropout mask m for all steps of a sentence, and
first states that are learnt.

Automatic differentiation adds each step's gradient of the weights to a tensor of their size. Here the backward sweep is
written out: everything but the chain of h and c is a factor of it, computed for all steps at once, and the gradient of
the weights is one product.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sinet.contract import Batch


class CoupledLSTM(nn.Module):
    """Both directions over the words of sentences, `dropout` on the state from step to step.

    `weight` (2, inputs + hidden, 3 hidden), each gate's columns orthonormal at first; `bias` (2, 3 hidden); first
    `cell` and `state` (2, hidden).
    """

    def __init__(self, inputs: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inputs, self.hidden = inputs, hidden
        self.weight = nn.Parameter(torch.empty(2, inputs + hidden, 3 * hidden))
        self.bias = nn.Parameter(torch.zeros(2, 3 * hidden))
        self.cell = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2, 1, hidden)).squeeze(1))
        self.state = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2, 1, hidden)).squeeze(1))
        self.dropout = nn.Dropout(dropout)
        for direction in self.weight.detach():
            for gate in direction.split(hidden, dim=1):
                nn.init.orthogonal_(gate)

    def forward(self, words: Tensor, batch: Batch) -> Tensor:
        """[forward ; backward] states, (words, 2 hidden), of `words` (words, inputs) of a batch's sentences."""
        lengths, sentence = batch["lengths"], batch["word_sentence"]
        count, longest = len(lengths), int(lengths.max())
        step, first = torch.arange(longest, device=words.device).unsqueeze(1), lengths.cumsum(0) - lengths
        # (steps, directions, sentences): the word read; a sentence that has ended repeats its last one, for nothing
        rows = torch.stack([step.minimum(lengths - 1), (lengths - 1 - step).clamp(min=0)], dim=1) + first
        ways = torch.arange(2, device=words.device).view(2, 1)
        to_gates, recurrent = self.weight.split([self.inputs, self.hidden], dim=1)
        x = torch.addmm(self.bias.flatten(), words, to_gates.transpose(0, 1).flatten(1)).view(-1, 3 * self.hidden)
        x = x.index_select(0, (2 * rows + ways).flatten()).view(longest, 2, count, -1)
        mask = self.dropout(x.new_ones(2, count, self.hidden, dtype=torch.float32))
        with torch.autocast(words.device.type, enabled=False):  # a chain as long as a sentence, in single precision
            cell, state = (each.unsqueeze(1).expand(2, count, -1) for each in (self.cell, self.state))
            states = sweep(x.float(), recurrent, cell, state, mask)
        met = torch.stack([batch["word_index"], batch["words_left"] - 1])  # (directions, words): at which step
        places = (2 * met + ways) * count + sentence
        return torch.cat(states.flatten(0, 2).index_select(0, places.flatten()).chunk(2), dim=1)


def sweep(x: Tensor, recurrent: Tensor, cell: Tensor, state: Tensor, mask: Tensor) -> Tensor:
    """The states of every step, (steps, 2, batch, hidden).

    Args:
        x: (steps, 2, batch, 3 hidden), each step's input to the gates; recurrent: (2, hidden, 3 hidden);
        cell, state: (2, batch, hidden), before the first step; mask: like them, on the state in every product.
    """
    arguments = (x, recurrent, cell, state, mask)
    return _Sweep.apply(*arguments) if torch.is_grad_enabled() else _forward(*arguments)


def _forward(
    x: Tensor, recurrent: Tensor, cell: Tensor, state: Tensor, mask: Tensor, kept: list | None = None
) -> Tensor:
    states = []
    for step in x.unbind(0):
        masked = state * mask
        update, new, output = torch.baddbmm(step, masked, recurrent).chunk(3, dim=2)
        update, new, output = update.sigmoid(), new.tanh(), output.sigmoid()
        following = torch.lerp(cell, new, update)
        squashed = following.tanh()
        state = squashed * output
        if kept is not None:
            kept.append((masked, cell, update, new, output, squashed))
        cell = following
        states.append(state)
    return torch.stack(states)


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, recurrent: Tensor, cell: Tensor, state: Tensor, mask: Tensor) -> Tensor:
        kept: list[tuple[Tensor, ...]] = []
        states = _forward(x, recurrent, cell, state, mask, kept)
        ctx.save_for_backward(recurrent, mask, *(torch.stack(each) for each in zip(*kept, strict=True)))
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        recurrent, mask, masked, cell, update, new, output, squashed = ctx.saved_tensors
        # what the gradient of a step's cell is multiplied by on its way to i and j, that of its state to the cell and o
        of_cell = torch.stack([(new - cell) * update * (1 - update), update * (1 - new.square())], dim=3)
        through, of_output = output * (1 - squashed.square()), squashed * output * (1 - output)
        d_gates = of_cell.new_empty(*update.shape[:3], 3, update.shape[3])
        back, kept = recurrent.transpose(1, 2).contiguous(), 1 - update
        d_cell, d_state = torch.zeros_like(mask), torch.zeros_like(mask)
        for t in range(len(d_states) - 1, -1, -1):
            d_state = d_state + d_states[t]
            d_cell = torch.addcmul(d_cell, d_state, through[t])
            torch.mul(of_cell[t], d_cell.unsqueeze(2), out=d_gates[t, :, :, :2])
            torch.mul(of_output[t], d_state, out=d_gates[t, :, :, 2])
            d_cell = d_cell * kept[t]
            d_state = torch.bmm(d_gates[t].flatten(2), back) * mask
        d_x = d_gates.flatten(3)
        rows = (each.transpose(0, 1).flatten(1, 2) for each in (masked, d_x))
        return d_x, torch.bmm(next(rows).transpose(1, 2), next(rows)), d_cell, d_state, None
