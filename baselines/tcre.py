"""TCRE: joint extraction enhanced by what the tasks exchange, on PFN's tables; and MGE, reconstructed.

Liu et al., Acta Electronica Sinica 2024, whose abstract was at hand; the equations are those of the released code
(whpjy/TCRE, commit 3a9bd01), a fork of PFN's. Of the encoder's states x, for entities e and relations r,

    [c_e ; g_e ; i_e] = W_e x + b_e, c through tanh, g and i through a sigmoid     likewise c_r, g_r, i_r
    task gates:         a_e = g_e * c_e                                            a_r = g_r * c_r
    interaction gates:  q_e = i_e * a_r                                            q_r = i_r * a_e
    attention:          t_e with queries and keys c_e, values c_r                  t_r with c_r, and c_e
    exchange:           F_e = [a_e ; M_e [q_e ; t_e] + d_e]                        likewise F_r
    fusion:             H_e = [F_e ; p_e F_e + p_r F_r], (p_e, p_r) = softmax(V_e F_e)    likewise H_r

with the attention over the positions of a sentence. PFN's tables (`baselines._pfn_tables`) read H_e and H_r; their
summary of a sentence is the maximum of H_e, or H_r, over positions.

With `dynamic_weights` (recipe `own`) training weighs both losses as the released code does from the fourth epoch on,
by 2 softmax(L2 / L3) over the tasks, with L2 and L3 a task's mean losses two and three epochs back; if one of the L3 is
zero, by 1. That is dynamic weight averaging (Liu et al., CVPR 2019) at temperature 1, an epoch late.

MGE (`interaction: mge`; Xiong et al., CCL 2022: A Multi-Gate Encoder for Joint Entity and Relation Extraction) is a
reconstruction: its abstract alone could be had, which names task gates and interaction gates. The tables read
[a_e ; q_e] and [a_r ; q_r]; all else is TCRE's, the weights of the losses too. What it scores says nothing about MGE's
published figures.

What differs from TCRE's released code:
- Prediction leaves padding out of the attention and the maximum; the released one runs over it, so that a sentence's
  scores depend on its batch. Training does so too with `mask_padding: false`.
- The third term of the released loss, |log of the sum over positions of p_e of entities times p_r of relations| divided
  by the positions, is made a plain number there and carries no gradient; here it is no term.
- Without `dynamic_weights`, as in all recipes but `own`, both losses weigh 1.
- The attention is as wide as a task's features; the released one is 300 wide and so runs with 300 features alone.
- What the released code makes and never reads is not made: the layer `re.r`, dropout of the encoder's output.
- As in PFN here the loss is computed from logits, cells of first pieces alone are decoded, and a relation cell links
  at most `PER_START` entities that start at a word, none with itself.
"""

from typing import Any

import torch
from torch import Tensor, nn

from baselines._pfn_tables import PairTable, TableFilling
from baselines.settings import TCRE
from sinet.contract import Batch, Labels
from sinet.encoders.encoder import Encoder


class Task(nn.Module):
    """What a task keeps of the encoder's states and takes from the other task; without heads through gates alone."""

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs, 3 * hidden)
        self.heads = heads
        if heads:
            self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
            self.exchange = nn.Linear(2 * hidden, hidden)
            self.fuse = nn.Linear(2 * hidden, 2, bias=False)
            nn.init.ones_(self.fuse.weight)

    def gated(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidate c, task-gated candidate a, and interaction gate i, each (..., hidden)."""
        candidate, task, interaction = self.gates(states).chunk(3, dim=-1)
        candidate = candidate.tanh()
        return candidate, task.sigmoid() * candidate, interaction.sigmoid()

    def exchanged(self, own: tuple[Tensor, ...], other: tuple[Tensor, ...], padding: Tensor | None) -> Tensor:
        """F of both tasks' `gated`, (batch, length, 2 hidden); `padding` (batch, length) is no key."""
        candidate, kept, gate = own
        taken = gate * other[1]
        if self.heads:
            attended, _ = self.attention(candidate, candidate, other[0], key_padding_mask=padding)
            taken = self.exchange(torch.cat([taken, attended], dim=-1))
        return torch.cat([kept, taken], dim=-1)

    def fused(self, own: Tensor, other: Tensor) -> Tensor:
        """H of both tasks' F, (batch, length, 4 hidden)."""
        mine, theirs = self.fuse(own).softmax(-1).chunk(2, dim=-1)
        return torch.cat([own, mine * own + theirs * other], dim=-1)


class Unit(nn.Module):
    """The features of both tasks."""

    def __init__(self, inputs: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.entity, self.relation = (Task(inputs, hidden, heads) for _ in range(2))

    def forward(self, states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """For entities and relations H, (batch, length, 4 hidden), or without heads F, (batch, length, 2 hidden), of
        states (batch, length, inputs); without a mask (batch, length) from padding too."""
        padding = None if mask is None else ~mask.bool()
        entity, relation = self.entity.gated(states), self.relation.gated(states)
        entities = self.entity.exchanged(entity, relation, padding)
        relations = self.relation.exchanged(relation, entity, padding)
        if not self.entity.heads:
            return entities, relations
        return self.entity.fused(entities, relations), self.relation.fused(relations, entities)


class System(TableFilling):
    """TCRE."""

    Settings = TCRE
    settings: TCRE
    citation = (
        "Liu et al., Acta Electronica Sinica 52(6), 2024: Task-Collaboration Representation Enhanced Joint Extraction "
        "Model for Elements and Relationships"
    )

    def __init__(self, labels: Labels, encoder: Encoder, **settings: Any) -> None:
        super().__init__(labels, encoder, **settings)
        s = self.settings
        heads = s.heads if s.interaction == "tcre" else 0
        self.unit = Unit(encoder.hidden_size, s.hidden_size, heads)
        self.entity_table, self.relation_table = self.tables((4 if heads else 2) * s.hidden_size)

    def encode(self, batch: Batch) -> tuple[tuple[PairTable, Tensor, Tensor], tuple[PairTable, Tensor, Tensor]]:
        mask = self.seen(batch)
        entity, relation = self.unit(self.encoder(batch["input_ids"], batch["attention_mask"]), mask)
        return (
            (self.entity_table, entity, self.entity_table.summary(None, entity, mask)),
            (self.relation_table, relation, self.relation_table.summary(None, relation, mask)),
        )

    def term_weights(self) -> dict[str, float]:
        if not self.settings.dynamic_weights or len(self.epoch_losses) < 3:
            return {}
        before, after = self.epoch_losses[-3:-1]
        if not all(before.values()):
            return {}
        shares = torch.tensor([after[task] / before[task] for task in before], dtype=torch.float64).softmax(0)
        return dict(zip(before, (2 * shares).tolist(), strict=True))
