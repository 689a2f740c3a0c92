"""Adam and AdamW as recipes want them, with clipping, spending nothing on weights which no batch has touched.

The step is torch's fused one. transformers' AdamW of versions up to 4, with which SINET, SpERT and PURE were trained,
differs from torch's in that it adds epsilon to the uncorrected root, decays the updated weight instead of the old
one, and may leave out the bias correction.

Half of a small encoder's weights are its vocabulary, of which a dataset uses a part (SciERC's training split 4,911 of
30,522 word pieces). Until a batch touches a row, its gradient and both of its moments are zero, and all that AdamW does
to it is decay. Such rows wait here: what they owe is multiplied in when a batch first reads them, and for all of them
when an epoch ends (`apply_pending_decay`). The factor of clipping goes into the fused step instead of through every
gradient before, unless parts of a system are clipped apart.
Weights are those of `torch.optim.AdamW` after `clip_grad_norm_`, to rounding. A weight that a batch does not reach
has a zero gradient from its first one on: its moments and its decay move it, as in the torch that the systems were
released with.
"""

import re
import weakref
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from sinet.contract import Extractor
from sinet.encoders.embedding import RowEmbedding
from sinet.schema import TrainingRecipe

UNCORRECTED = 1_000_000
"""Steps after which both bias corrections are exactly one: counting from there leaves them out."""


LAYER = re.compile(r"\.layers?\.(\d+)\.")
"""In the name of an encoder's parameter, its layer, counted from 0; layers that share their weights have no number."""


def parameter_groups(model: Extractor, recipe: TrainingRecipe) -> list[dict]:
    """The trained parameters of a model, or of its `stage`, by rate, decay and part.

    Biases and norms are not decayed; where the recipe says what is `undecayed`, those whose names hold one of its
    texts, as in released code. An encoder's rate falls from each layer to the one below by `layer_decay`; a rate in
    `lr_of` does not. `part` is the place in `Settings.parts`.

    Raises:
        ValueError: a parameter that belongs to no part or has no rate, or a rate in `lr_of` that is no parameter's.
    """
    groups: dict[tuple[float, float, int], list[nn.Parameter]] = {}
    names = [name for name, _ in model.named_parameters()]
    if idle := [prefix for prefix in recipe.lr_of if not any(name.startswith(prefix) for name in names)]:
        begin = ", ".join(sorted({name.split(".")[0] for name in names}))
        raise ValueError(f"lr_of: no parameter begins with {idle[0]!r}; they begin with {begin}")
    in_layers = ((name, LAYER.search(name)) for name in names if name.startswith(model.encoders))
    numbered = {name: int(found[1]) for name, found in in_layers if found}
    last_layer = max(numbered.values(), default=0)
    decays = recipe.weight_decay if recipe.encoder_weight_decay is None else recipe.encoder_weight_decay
    for name, parameter in model.named_parameters():
        part = next((p for p, prefixes in model.settings.parts.items() if name.startswith(prefixes)), None)
        if part is None:
            raise ValueError(f"{name} begins with none of the prefixes in parts: {model.settings.parts}")
        if not parameter.requires_grad or model.stage not in (None, part):
            continue
        in_encoder = name.startswith(model.encoders)
        rate, decay = (recipe.encoder_lr, decays) if in_encoder else (recipe.head_lr, recipe.weight_decay)
        if rate is None:
            raise ValueError("encoder_lr: the system trains its encoder; give a rate, not null")
        rate *= recipe.layer_decay ** (last_layer - numbered.get(name, last_layer))
        rate = next((lr for prefix, lr in recipe.lr_of.items() if name.startswith(prefix)), rate)
        if recipe.undecayed is None:
            # a bias may have dimensions of its own, where several layers are held in one
            decay = 0.0 if name.endswith("bias") or parameter.ndim == 1 else decay
        elif any(text in name for text in recipe.undecayed):
            decay = 0.0
        groups.setdefault((rate, decay, list(model.settings.parts).index(part)), []).append(parameter)
    return [
        {"params": group, "lr": rate, "weight_decay": decay, "part": part}
        for (rate, decay, part), group in groups.items()
    ]


class RowAdamW(torch.optim.AdamW):
    """Fused AdamW over parameter groups, of which the weights of `embeddings` are treated row by row on a CPU.

    Args:
        beta2: decay of the second moment. bias_correction: whether the moments are corrected for their start at zero.
            transformers: whether the step is that of transformers' AdamW instead of torch's.
    """

    grad_scale: Tensor | None = None

    def __init__(
        self,
        groups: list[dict],
        embeddings: Iterable[RowEmbedding],
        eps: float = 1e-8,
        beta2: float = 0.999,
        bias_correction: bool = True,
        transformers: bool = False,
    ) -> None:
        super().__init__(groups, betas=(0.9, beta2), eps=eps, fused=True)
        self._begin = 0 if bias_correction else UNCORRECTED
        self._transformers = transformers
        trained = {id(p) for group in self.param_groups for p in group["params"]}
        self._embeddings = {
            e.weight: e for e in embeddings if id(e.weight) in trained and e.weight.device.type == "cpu"
        }
        self._seen = {weight: torch.zeros(len(weight), dtype=torch.bool) for weight in self._embeddings}
        for embedding in self._embeddings.values():
            embedding.reader = weakref.ref(self)

    @torch.no_grad()
    def clipped_step(self, limit: float | None, by_part: bool = True) -> None:
        """A step with the gradient, of each part (a group's `part`) or of all parameters, scaled to a norm of at most
        `limit`; None for no limit."""
        if limit is not None:
            self._clip(limit, by_part)
        try:
            self.step()
        finally:
            self.grad_scale = None

    def _clip(self, limit: float, by_part: bool) -> None:
        parts: dict[int, list[Tensor]] = {}
        for group in self.param_groups:
            if learning := [weight for weight in group["params"] if weight.grad is not None]:
                parts.setdefault(group.get("part", 0) if by_part else 0, []).extend(learning)
        for weights in parts.values():
            excess = ((self.gradient_norm(weights) + 1e-6) / limit).float().clamp(min=1.0)
            if len(parts) == 1:
                self.grad_scale = excess  # the fused step divides by it, in float32
            else:
                torch._foreach_div_([weight.grad for weight in weights if weight.grad is not None], excess)

    def gradient_norm(self, weights: Iterable[Tensor]) -> Tensor:
        """Of all gradients together; of an embedding only the rows that were read are looked at."""
        rows = [(w.grad, self._embeddings.get(w)) for w in weights if w.grad is not None]
        return nn.utils.get_total_norm([g if e is None else g.index_select(0, e.touched()) for g, e in rows])

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        gradients = {weight: weight.grad for weight in self._embeddings}
        given = []
        for group in self.param_groups:
            group["done"] = group.get("done", 0) + 1
            given.append({key: group[key] for key in ("lr", "weight_decay", "eps")})
            if self._transformers:
                # (1 - d)(w - s) is (1 - d) w - (1 - d) s: torch's step at a rate that is smaller by the decay d
                decay = group["lr"] * group["weight_decay"]
                group["lr"] *= 1 - decay
                group["weight_decay"] /= 1 - decay
                if not self._begin:
                    group["eps"] /= (1 - group["betas"][1] ** group["done"]) ** 0.5
            for weight in group["params"]:
                if weight in gradients:
                    weight.grad = None  # none of the dense step's business
                elif weight.grad is not None and not self.state.get(weight) and self._begin:
                    self.state[weight] = self._first_state(weight)
                elif weight.grad is None and self.state.get(weight):
                    weight.grad = torch.zeros_like(weight)
        super().step()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight in gradients:
                    weight.grad = gradients[weight]
                    if weight.grad is not None or self.state.get(weight):
                        self._step_rows(weight, group)
        for group, values in zip(self.param_groups, given, strict=True):
            group |= values

    def _first_state(self, weight: Tensor) -> dict[str, Tensor]:
        step = torch.tensor(float(self._begin), device=weight.device)
        return {"step": step} | {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}

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
        gradient = torch.zeros_like(values) if weight.grad is None else weight.grad.index_select(0, rows)
        adamw(
            [values],
            [gradient],
            [state["exp_avg"]],
            [state["exp_avg_sq"]],
            [],
            [state["step"]],
            fused=True,
            grad_scale=self.grad_scale,
            amsgrad=False,
            maximize=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )
        weight.index_copy_(0, rows, values)
        state["decay"] *= 1 - group["lr"] * group["weight_decay"]

    def _state_of(self, weight: Tensor) -> dict[str, Tensor]:
        """`rows` read so far, in the order of their first reading, with their moments; `decay` that the others owe."""
        state = self.state[weight]
        if not state:
            state |= {key: weight.new_zeros(0, weight.shape[1]) for key in ("exp_avg", "exp_avg_sq")}
            state |= {"step": torch.tensor(float(self._begin)), "rows": torch.zeros(0, dtype=torch.long)}
            state["decay"] = torch.ones((), dtype=torch.float64)
        return state

    @torch.no_grad()
    def apply_pending_decay(self) -> None:
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
