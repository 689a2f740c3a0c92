"""Adam and AdamW as recipes want them, with clipping.

The step is torch's fused one. transformers' AdamW of versions up to 4, with which SINET, SpERT and PURE were trained,
differs from torch's in that it adds epsilon to the uncorrected root, decays the updated weight instead of the old
one, and may leave out the bias correction. The factor of clipping goes into the fused step instead of through every
gradient before, unless parts of a system are clipped apart. A weight that a batch does not reach has a zero gradient
from its first one on: its moments and its decay move it, as in the torch that the systems were released with.
"""

import re

import torch
from torch import Tensor, nn

from sinet.contract import Extractor
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


class RecipeAdamW(torch.optim.AdamW):
    """Fused AdamW over parameter groups, with clipping.

    Args:
        beta2: decay of the second moment. bias_correction: whether the moments are corrected for their start at zero.
            transformers: whether the step is that of transformers' AdamW instead of torch's.
    """

    grad_scale: Tensor | None = None

    def __init__(
        self,
        groups: list[dict],
        eps: float = 1e-8,
        beta2: float = 0.999,
        bias_correction: bool = True,
        transformers: bool = False,
    ) -> None:
        super().__init__(groups, betas=(0.9, beta2), eps=eps, fused=True)
        self._begin = 0 if bias_correction else UNCORRECTED
        self._transformers = transformers

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
            if gradients := [weight.grad for weight in group["params"] if weight.grad is not None]:
                parts.setdefault(group.get("part", 0) if by_part else 0, []).extend(gradients)
        for gradients in parts.values():
            excess = ((nn.utils.get_total_norm(gradients) + 1e-6) / limit).float().clamp(min=1.0)
            if len(parts) == 1:
                self.grad_scale = excess  # the fused step divides by it, in float32
            else:
                torch._foreach_div_(gradients, excess)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        given = [{key: group[key] for key in ("lr", "weight_decay", "eps")} for group in self.param_groups]
        for group in self.param_groups:
            group["done"] = group.get("done", 0) + 1
            if self._transformers:
                # (1 - d)(w - s) is (1 - d) w - (1 - d) s: torch's step at a rate that is smaller by the decay d
                decay = group["lr"] * group["weight_decay"]
                group["lr"] *= 1 - decay
                group["weight_decay"] /= 1 - decay
                if not self._begin:
                    group["eps"] /= (1 - group["betas"][1] ** group["done"]) ** 0.5
            for weight in group["params"]:
                if weight.grad is not None and not self.state.get(weight) and self._begin:
                    self.state[weight] = self._first_state(weight)
                elif weight.grad is None and self.state.get(weight):
                    weight.grad = torch.zeros_like(weight)
        super().step()
        for group, values in zip(self.param_groups, given, strict=True):
            group |= values

    def _first_state(self, weight: Tensor) -> dict[str, Tensor]:
        step = torch.tensor(float(self._begin), device=weight.device)
        return {"step": step} | {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
