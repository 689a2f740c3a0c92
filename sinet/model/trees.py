"""Dependency trees of a batch, with its words laid end to end as in `sinet.model.spans`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sinet.contract import Sentence
from sinet.data.parse import DEPENDENCIES, TAGS, parsed

__all__ = ["DEPENDENCIES", "TAGS"]


def tree_tensors(sentences: Sequence[Sentence], lengths: Sequence[int]) -> dict[str, Tensor]:
    """The parses of a batch; a sentence that brings none is parsed here.

    Returns:
        `heads` (words) the row of the word that each depends on, its own where it is a root; `depths` (words) its
        distance from the root; `dependencies` (words) the class of that dependency, 0 stands for none; `pos` (words)
        the class of its part of speech.

    A word whose head lies beyond the words that fit the encoder is a root.
    """
    dependency = {name: i + 1 for i, name in enumerate(DEPENDENCIES)}
    tag = {name: i for i, name in enumerate(TAGS)}
    heads: list[int] = []
    depths: list[int] = []
    dependencies, tags, row = [], [], 0
    for sentence, length in zip(parsed(sentences), lengths, strict=True):
        of = [head if 0 <= head < length else word for word, head in enumerate(sentence.heads[:length])]
        heads += [row + head for head in of]
        depths += _depths(of)
        dependencies += [dependency[name] for name in sentence.dependencies[:length]]
        tags += [tag[name] for name in sentence.pos[:length]]
        row += length
    named = {"heads": heads, "depths": depths, "dependencies": dependencies, "pos": tags}
    return {name: torch.tensor(values, dtype=torch.long) for name, values in named.items()}


def _depths(heads: Sequence[int]) -> list[int]:
    depths = [-1] * len(heads)
    for word in range(len(heads)):
        way = []
        while depths[word] < 0 and heads[word] != word:
            way.append(word)
            word = heads[word]
        depths[word] = max(depths[word], 0)
        for below in reversed(way):
            depths[below] = depths[heads[below]] + 1
    return depths


def root_paths(heads: Tensor, depths: Tensor, words: Tensor) -> Tensor:
    """The words from the root down to each of `words` (n), itself the last: (n, longest), -1 behind it."""
    above = [words]
    for _ in range(int(depths[words].max()) if len(words) else 0):
        above.append(heads[above[-1]])
    steps_up = depths[words].unsqueeze(1) - torch.arange(len(above), device=words.device)
    return torch.stack(above, dim=1).gather(1, steps_up.clamp(min=0)).masked_fill(steps_up < 0, -1)


def lowest_common(paths: Tensor, pairs: Tensor) -> Tensor:
    """The depth of the lowest word that two of the `paths` have in common, (pairs); -1 where they are of two trees."""
    left, right = paths[pairs[:, 0]], paths[pairs[:, 1]]
    return ((left == right) & (left >= 0)).sum(1) - 1
