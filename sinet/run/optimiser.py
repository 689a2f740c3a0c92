"""AdamW with clipping that spends nothing on weights which no batch has touched.

Half of a small encoder's weights are its vocabulary, of which a dataset uses a part (SciERC's training split 4,911 of
30,522 word pieces). Until a batch touches a row, its gradient and both of its moments are zero, and all that AdamW does
to it is decay. Such rows wait here: what they owe is multiplied in when a batch first reads them, and for all of them
when an epoch ends (`settle`). The factor of clipping goes into the fused step instead of through every gradient before,
unless parts of a system are clipped apart.
Weights are those of `torch.optim.AdamW` after `clip_grad_norm_`, to rounding.
"""

import weakref
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from sinet.model.embedding import RowEmbedding


class RowAdamW(torch.optim.AdamW):
    """Fused AdamW over parameter groups, of which the weights of `embeddings` are treated row by row on a CPU."""

    grad_scale: Tensor | None = None

    def __init__(self, groups: list[dict], embeddings: Iterable[RowEmbedding]) -> None:
        super().__init__(groups, fused=True)
        trained = {id(p) for group in self.param_groups for p in group["params"]}
        self._embeddings = {
            e.weight: e for e in embeddings if id(e.weight) in trained and e.weight.device.type == "cpu"
        }
        self._seen = {weight: torch.zeros(len(weight), dtype=torch.bool) for weight in self._embeddings}
        for embedding in self._embeddings.values():
            embedding.reader = weakref.ref(self)

    @torch.no_grad()
    def clipped_step(self, limit: float) -> None:
        """A step with the gradient of each part (a group's `part`) scaled to a norm of at most `limit`."""
        parts: dict[int, list[Tensor]] = {}
        for group in self.param_groups:
            if learning := [weight for weight in group["params"] if weight.grad is not None]:
                parts.setdefault(group.get("part", 0), []).extend(learning)
        for weights in parts.values():
            rows = ((w.grad, self._embeddings.get(w)) for w in weights)
            norm = nn.utils.get_total_norm([g if e is None else g.index_select(0, e.touched()) for g, e in rows])
            excess = ((norm + 1e-6) / limit).float().clamp(min=1.0)
            if len(parts) == 1:
                self.grad_scale = excess  # the fused step divides by it, in float32
            else:
                torch._foreach_div_([weight.grad for weight in weights], excess)
        try:
            self.step()
        finally:
            self.grad_scale = None

    @torch.no_grad()
    def step(self) -> None:
        gradients = {weight: weight.grad for weight in self._embeddings if weight.grad is not None}
        for weight in gradients:
            weight.grad = None  # none of the dense step's business
        super().step()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight in gradients:
                    weight.grad = gradients[weight]
                    self._step_rows(weight, group)

    @torch.no_grad()
    def reads(self, weight: Tensor, rows: Tensor) -> None:
        """Before `rows` are read: those that none has read before are given the decay that they owe."""
        seen, rows = self._seen[weight], rows.flatten()
        new = rows[~seen[rows]].unique()
        if not len(new):
            return
        seen[new] = True
        state = self._state_of(weight)
        weight.index_copy_(0, new, weight.index_select(0, new) * state["decay"].to(weight.dtype))
        zeros = weight.new_zeros(len(new), weight.shape[1])
        state |= {key: torch.cat([state[key], zeros]) for key in ("exp_avg", "exp_avg_sq")}
        state["rows"] = torch.cat([state["rows"], new])

    def _step_rows(self, weight: Tensor, group: dict) -> None:
        state = self._state_of(weight)
        rows = state["rows"]
        values = weight.index_select(0, rows)
        beta1, beta2 = group["betas"]
        adamw(
            *([values], [weight.grad.index_select(0, rows)]),
            *([state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]]),
            fused=True,
            grad_scale=self.grad_scale,
            **{"amsgrad": False, "maximize": False, "beta1": beta1, "beta2": beta2},
            **{key: group[key] for key in ("lr", "weight_decay", "eps")},
        )
        weight.index_copy_(0, rows, values)
        state["decay"] *= 1 - group["lr"] * group["weight_decay"]

    def _state_of(self, weight: Tensor) -> dict[str, Tensor]:
        """`rows` read so far, in the order of their first reading, with their moments; `decay` that the others owe."""
        state = self.state[weight]
        if not state:
            state |= {key: weight.new_zeros(0, weight.shape[1]) for key in ("exp_avg", "exp_avg_sq")}
            state |= {"step": torch.tensor(0.0), "rows": torch.zeros(0, dtype=torch.long)}
            state["decay"] = torch.ones((), dtype=torch.float64)
        return state

    @torch.no_grad()
    def settle(self) -> None:
        """Give all rows the decay that they owe: afterwards the weights are AdamW's."""
        for weight, seen in self._seen.items():
            if (decay := self._state_of(weight)["decay"]) != 1:
                weight.mul_(torch.where(seen, 1.0, decay.to(weight.dtype)).unsqueeze(1))
                decay.fill_(1.0)

    def load_state_dict(self, state_dict: dict) -> None:
        """Torch's, and the state of rows as it was saved: torch would give all of it the type of the weights."""
        super().load_state_dict(state_dict)
        weights = [p for group in self.param_groups for p in group["params"]]
        for number, weight in enumerate(weights):
            if weight in self._seen and number in state_dict["state"]:
                saved = state_dict["state"][number]
                self.state[weight] |= {"rows": saved["rows"].clone(), "decay": saved["decay"].clone()}
                self._seen[weight].zero_()[saved["rows"]] = True
