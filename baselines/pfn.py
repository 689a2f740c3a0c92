"""PFN: a partition filter network for joint entity and relation extraction.

Yan et al., EMNLP 2021, sections 3.2 (encoder) and 3.3 (NER and RE units); details follow the released code
(Coopercoppers/PFN, commit 6173b3e). Tokens are word pieces, [CLS] and [SEP] included; labels sit on the first piece
of a word.

What differs from the released code:
- Prediction takes the global maximum over real pieces; the released one runs over padding, so that a sentence's scores
  depend on its batch. Training does so too with `mask_padding: false`.
- Decoding looks at cells of first pieces only, the only ones that can name a word span, and links at most `PER_START`
  entities that start at one word.
- The cross-entropy is computed from logits; the released one takes probabilities and cuts their logarithms at -100.
- A training batch that is split into parts draws a DropConnect mask for each; the released code never splits one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from baselines._partition_recurrence import sweep
from baselines._pfn_tables import PairTable, TableFilling
from baselines.settings import PFN
from sinet.contract import Batch, Labels
from sinet.encoders.encoder import Encoder


class PartitionFilter(nn.Module):
    """The partition filter encoder: a recurrence whose cell is split between the two tasks (eqs. 1 to 8)."""

    def __init__(self, inputs: int, hidden: int, dropconnect: float) -> None:
        super().__init__()
        self.dropconnect = dropconnect
        self.input_transform = nn.Linear(inputs, 5 * hidden)
        self.hidden_transform = nn.Linear(hidden, 5 * hidden)
        self.transform = nn.Linear(3 * hidden, hidden)

    def kept(self, weight: Tensor) -> Tensor:
        """Which entries DropConnect keeps: one draw for a batch and all its steps, the kept ones not scaled up."""
        return torch.rand_like(weight) >= self.dropconnect

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of (batch, length, inputs) for entities, relations and both, each (batch, length, hidden)."""
        recurrent = self.hidden_transform.weight
        recurrent = recurrent * (self.kept(recurrent) if self.training else 1 - self.dropconnect)
        projected = self.input_transform(inputs) + self.hidden_transform.bias
        # small products in a long chain: nothing to gain from half precision, and accuracy to lose
        with torch.autocast(inputs.device.type, enabled=False):
            projected, recurrent = projected.float().transpose(0, 1), recurrent.T.float().contiguous()
            partitions = sweep(projected, recurrent, self.transform.weight, self.transform.bias)
            relation, entity, share = partitions.transpose(0, 1).tanh().unbind(2)
        return entity, relation, share


class System(TableFilling):
    """PFN."""

    Settings = PFN
    settings: PFN
    citation = "Yan et al., EMNLP 2021: A Partition Filter Network for Joint Entity and Relation Extraction"

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        self.partition_filter = PartitionFilter(encoder.hidden_size, s.hidden_size, s.dropconnect)
        self.entity_table, self.relation_table = self.tables(s.hidden_size, shared=s.hidden_size)
        self.dropout = nn.Dropout(s.dropout)

    def encode(self, batch: Batch) -> tuple[tuple[PairTable, Tensor, Tensor], tuple[PairTable, Tensor, Tensor]]:
        hidden = self.dropout(self.encoder(batch["input_ids"], batch["attention_mask"]))
        entity, relation, share = self.partition_filter(hidden)
        mask = self.seen(batch)
        return (
            (self.entity_table, entity, self.entity_table.summary(share, entity, mask)),
            (self.relation_table, relation, self.relation_table.summary(share, relation, mask)),
        )
