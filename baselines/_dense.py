"""The layer of UniRE and SPE, which share their authors' code: linear, exact GELU, LayerNorm, dropout."""

import torch.nn.functional as F
from torch import Tensor, nn


class Dense(nn.Module):
    """Linear, GELU, LayerNorm, dropout: (..., inputs) to (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor) -> Tensor:
        return self.dropout(self.norm(F.gelu(self.linear(rows))))
