"""How exact packed inference is: against the modules' own arithmetic, and bfloat16 against float32."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from sinet.contract import Batch, Entity, Extractor, Labels, Relation, Sentence
from sinet.encoders.encoder import Encoder
from sinet.evaluate.metrics import score
from sinet.infer.predict import inference, predict
from sinet.model.batches import sample_by_length

EXACT, CLOSE = 1e-5, 0.3
"""How far float32 may be from the modules' own, and the F1 of bfloat16 from that of float32."""
COMPARED = 32
"""Test sentences over which fast and plain arithmetic are compared."""
DECIDES = ("softmax", "log_softmax", "sigmoid", "argmax")


def exactness(
    model: Extractor, test: Sequence[Sentence], labels: Labels, device: torch.device, precisions: Sequence[str]
) -> dict:
    """How far the fast arithmetic is from the modules' own.

    Returns:
        the greatest differences between packed and plain arithmetic over 32 test sentences, one by one:
        `float32_states`, of hidden states, and `float32_logits`, of the logits of all candidates, relative where these
        are above 1, None where the two predict other things; `float32_same`: whether they predict the same; `f1`: Ent,
        Rel, Rel+ x 100 on the test split by precision.
    """
    some = sample_by_length(test, model.encoder.piece_counts(test), COMPARED)
    batches = [model.collate([sentence.without_labels()]).to(device) for sentence in some]
    model.eval()
    with torch.no_grad():
        plain = [_decoded(model, batch) for batch in batches]
    with inference(model, device, "float32"):
        fast = [_decoded(model, batch) for batch in batches]
    same = all(one.found == other.found for one, other in zip(plain, fast, strict=True))
    f1 = {}
    for precision in precisions:
        found = score(test, predict(model, test, device, precision), labels)["symmetric"]
        f1[precision] = {m: found[m]["f1"] for m in ("ent", "rel", "rel_plus")}
    pairs = list(zip(plain, fast, strict=True))
    return {
        # torch's maximum: Python's would pass over what is no number
        "float32_states": float(torch.stack([(one.states - other.states).abs().max() for one, other in pairs]).max()),
        "float32_logits": max(_apart(one.logits, other.logits) for one, other in pairs) if same else None,
        "float32_same": same,
        "f1": f1,
    }


class _Decoded(NamedTuple):
    states: Tensor
    found: list[tuple]
    logits: list[Tensor]


def _decoded(model: Extractor, batch: Batch) -> _Decoded:
    states = model.encoder(batch["input_ids"], batch["attention_mask"])
    with _Decisions(model) as decisions:
        (prediction,) = model.decode(batch)
    items: tuple[Entity | Relation, ...] = (*prediction.entities, *prediction.relations)
    found = [dataclasses.astuple(item)[:3] for item in items]
    return _Decoded(states, found, decisions.logits)


def _apart(logits: list[Tensor], others: list[Tensor]) -> float:
    """The greatest difference, relative to logits above 1; infinite where one is masked and the other is not."""
    differences = (
        torch.where(one == other, 0.0, (one - other).abs() / one.abs().clamp(min=1.0)).nan_to_num(nan=math.inf).max()
        for one, other in zip(logits, others, strict=True)
        if one.numel()
    )
    return max(map(float, differences), default=0.0)


class _Decisions(TorchFunctionMode):
    """What a system itself, none of its modules, puts into softmax, sigmoid and argmax while it decodes: the logits of
    its candidates, without those of attention and gates."""

    def __init__(self, model: Extractor) -> None:
        super().__init__()
        self.encoders = [module for module in model.modules() if isinstance(module, Encoder)]
        self.logits: list[Tensor] = []
        self.inside = 0

    def __enter__(self) -> "_Decisions":
        self.hooks = [
            register_module_forward_pre_hook(lambda *called: self._enter()),
            register_module_forward_hook(lambda *called: self._leave(), always_call=True),
        ]
        for encoder in self.encoders:  # called as a method
            encoder.all_layers = self._inside(encoder.all_layers)  # type: ignore[method-assign]  # until `__exit__`
        return super().__enter__()

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        for hook in self.hooks:
            hook.remove()
        for encoder in self.encoders:
            del encoder.all_layers

    def _enter(self) -> None:
        self.inside += 1

    def _leave(self) -> None:
        self.inside -= 1

    def _inside(self, method: Callable) -> Callable:
        @functools.wraps(method)
        def run(*args: object, **kwargs: object) -> object:
            self._enter()
            try:
                return method(*args, **kwargs)
            finally:
                self._leave()

        return run

    def __torch_function__(
        self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if not self.inside and getattr(function, "__name__", "").rstrip("_") in DECIDES:
            self.logits.append(args[0].detach().float().clone())
        return function(*args, **(kwargs or {}))


def verdict(exact: dict) -> str:
    """Whether the fast arithmetic is as exact as it should be."""
    logits = exact["float32_logits"]
    same = logits is not None and logits <= EXACT and exact["float32_states"] <= EXACT
    by_precision = list(exact["f1"].values())
    close = all(abs(f1[m] - by_precision[0][m]) <= CLOSE for f1 in by_precision for m in f1)
    return "yes" if same and close else "NO"
