"""GloVe's vectors of the words of a batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sinet.data.vectors import SIZE, word_vectors

__all__ = ["SIZE", "glove"]


def glove(words: Sequence[str]) -> Tensor:
    """Vectors (words, `SIZE`): each word's in lower case, zero where it has none."""
    return torch.from_numpy(word_vectors(words))
