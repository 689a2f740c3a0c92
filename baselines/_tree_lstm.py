"""LSTMs over sequences and trees, many chains of nodes side by side (Miwa and Bansal, ACL 2016, 3.2 and 3.4)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sinet.contract import Batch
from sinet.model.concat import ConcatLinear
from sinet.model.trees import DEPENDENCIES, lowest_common, root_paths

Gates = Callable[[Tensor], Tensor]
"""Of nodes (nodes), what of their gates does not depend on their children, (nodes, 4 size)."""


class Cell(nn.Module):
    """An LSTM cell over the children of a node, of which a word in a sequence has one, the word before it.

    All children have the same matrices: their states enter the gates as a sum, and one gate forgets all memories.
    """

    released = False

    def __init__(self, *inputs: int, size: int) -> None:
        super().__init__()
        self.input = ConcatLinear(*inputs, outputs=4 * size)
        self.recurrent = nn.Linear(size, 4 * size, bias=False)

    def forward(self, gates: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """State and memory of nodes, (nodes, size); `gates` (nodes, 4 size); `state`, `memory`: the sums over their
        children, (nodes, size)."""
        i, f, o, u = (gates + self.recurrent(state)).float().chunk(4, dim=1)
        memory = i.sigmoid() * u.tanh() + f.sigmoid() * memory
        return o.sigmoid() * memory.tanh(), memory

    def gates(self, *parts: tuple[Tensor, Tensor]) -> Gates:
        """Of nodes that are concatenations, part by part (rows, index): rows[index]. Each is multiplied once."""
        if self.released:
            return lambda nodes: self.input(*((rows, index[nodes]) for rows, index in parts))
        known = self.input(*parts)
        return lambda nodes: known.index_select(0, nodes)

    def along(self, gates: Gates, chains: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States and memories along chains, each node the child of the next.

        Args:
            chains: (chains, longest) nodes; lengths: (chains), how many of them there are.

        Returns:
            states and memories (1 + nodes of all chains, size), the first zero, as of no child; (chains, longest),
            which of them are each node's.
        """
        order = lengths.argsort(descending=True, stable=True)
        inside = torch.arange(chains.shape[1], device=lengths.device) < lengths[order].unsqueeze(1)
        counts = inside.sum(0)
        sizes = counts.tolist()
        state = memory = self.recurrent.weight.new_zeros(len(chains), self.recurrent.in_features)
        states, memories = [state[:1]], [state[:1]]
        for size, step in zip(sizes, gates(chains[order].T[inside.T]).split(sizes), strict=True):
            state, memory = self(step, state[:size], memory[:size])
            states.append(state)
            memories.append(memory)
        place = 1 + counts.cumsum(0) - counts + order.argsort().unsqueeze(1)
        return torch.cat(states), torch.cat(memories), place


class PathLSTM(nn.Module):
    """The LSTMs on the way between two words of a sentence: one up from both to their lowest common node, one down from
    it to both. A chain is run once for all pairs that share it."""

    released = False

    def __init__(self, word_size: int, label_size: int, dependency_size: int, size: int) -> None:
        super().__init__()
        self.dependency = nn.Embedding(1 + len(DEPENDENCIES), dependency_size)
        self.bottom_up = Cell(word_size, label_size, dependency_size, size=size)
        self.top_down = Cell(word_size, label_size, dependency_size, size=size)

    def forward(
        self, words: Tensor, labels: Tensor, ends: Tensor, pairs: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the LSTMs know of pairs.

        Args:
            words, labels: (words, size), what a word is besides its dependency; ends: (ends), rows of words; pairs:
            (pairs, 2), positions in `ends`; batch: with the tensors of `sinet.model.trees.tree_tensors`.

        Returns:
            of the lowest common node the state of the LSTM up to it, (pairs, size); states of the one down from it,
            (states, size), and which of them are those of the two words, (pairs, 2). Zero where there is no such node.
        """
        depth = batch["depths"][ends]
        paths = root_paths(batch["heads"], batch["depths"], ends)
        common = lowest_common(paths, pairs)
        joined = (common >= 0).nonzero().squeeze(1)
        pairs_of, top = pairs[joined], common[joined].unsqueeze(1)
        longest = paths.shape[1]
        step = torch.arange(longest, device=words.device)
        below = depth[pairs_of] - top  # edges between the common node and the word
        climbs = torch.zeros_like(depth).scatter_reduce(0, pairs_of.flatten(), below.flatten(), "amax")
        # nodes are the words on the way, with the edge to their heads; from `count` on, as common nodes, without it
        on_way = (step >= (depth - climbs).unsqueeze(1)) & (paths >= 0)
        on, paths = torch.where(on_way, paths, ends.unsqueeze(1)).unique(return_inverse=True)
        count = len(on)
        node = torch.arange(2 * count, device=words.device)
        dependency = self.dependency(F.pad(batch["dependencies"][on], (0, 1)))
        parts = (words[on], node % count), (labels[on], node % count), (dependency, node.clamp(max=count))

        gates = self.bottom_up.gates(*parts)
        chains = paths.gather(1, (depth.unsqueeze(1) - step).clamp(min=0))
        states, memories, place = self.bottom_up.along(gates, chains, climbs)
        child = torch.where(below > 0, place[pairs_of, (below - 1).clamp(min=0)], 0)
        root = gates(paths[pairs_of[:, :1], top].squeeze(1) + count)
        ups, _ = self.bottom_up(root, states[child].sum(1), memories[child].sum(1))
        up = ups.new_zeros(len(pairs), ups.shape[1]).index_copy(0, joined, ups)

        distinct = (pairs_of * longest + top).flatten()  # word and common node
        which = torch.arange(len(distinct), device=words.device)
        if not self.released:
            distinct, which = distinct.unique(return_inverse=True)
        end, top = distinct // longest, distinct % longest
        chains = paths[end].gather(1, (top.unsqueeze(1) + step).clamp(max=longest - 1))
        chains[:, 0] += count
        lengths = depth[end] - top + 1
        states, _, place = self.top_down.along(self.top_down.gates(*parts), chains, lengths)
        down = torch.cat([states[:1], states[place.gather(1, lengths.unsqueeze(1) - 1).squeeze(1)]])
        return up, down, torch.zeros_like(pairs).index_copy(0, joined, 1 + which.view(-1, 2))
