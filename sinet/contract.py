"""The border between a model and the harness.

A model sees sentences, a label inventory and an encoder. It never sees a path, a seed, a config file, a metric
or the test set; the harness (`sinet.run`) names no model, it finds them (`sinet.systems`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from sinet.data.sentence import Entity, Labels, Relation, Sentence

__all__ = ["Batch", "Entity", "Extractor", "Labels", "Prediction", "Relation", "Sentence"]


@dataclass(frozen=True)
class Prediction:
    """What a model says of one sentence: typed spans, and relations that index into them."""

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()


@dataclass
class Batch:
    """The sentences of one step and the tensors a model made of them.

    `given`: decoding decides relations between the gold entities instead of predicted ones, in systems that go through
    entities.
    """

    sentences: Sequence[Sentence]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    given: bool = False

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.sentences)

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        tensors = {k: v.to(device, non_blocking=True) for k, v in self.tensors.items()}
        return Batch(self.sentences, tensors, self.given)


class Extractor(nn.Module):
    """A joint entity and relation extractor.

    A subclass takes `(labels, encoder, **settings)`, every setting with a default; its module in `baselines/`
    (or `sinet/model/sinet.py`) names it `System`.
    """

    cites: ClassVar[str]
    """Authors, year, venue and title of the paper that defines the system."""
    tiny: ClassVar[dict]
    """Settings under which it runs in two seconds on a CPU; the generic test-suite uses them."""
    allowed: ClassVar[dict] = {}
    """Right values of a setting, a literal: `(least, greatest)` for a number, all choices for a text. The
    configuration is checked against it before any job; a number without an entry must not be negative."""

    encoders: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the parameters that learn at the encoder's rate."""
    clipped_apart: ClassVar[tuple[tuple[str, ...], ...]] = (("",),)
    """Prefixes of the parameters of each part of the system: more than one where several are trained side by side that
    share no weight and no loss. The gradient of each is clipped by itself."""
    formulations: ClassVar[dict[str, dict]] = {}
    """Settings under which the same figures are computed in another way whose multiply-adds are counted too, by
    title."""
    operators: ClassVar[dict[str, Callable[..., int]]] = {}
    """Operators of its own that decoding calls while it is traced, by name ("namespace::name"), and their multiply-adds
    from the shapes of the arguments and `out`. The count is held against the products that torch sees untraced."""

    def __init__(self, labels: Labels, encoder: nn.Module) -> None:
        super().__init__()
        self.labels = labels
        self.encoder = encoder
        self.terms: dict[str, Tensor] = {}
        """What the last loss was a sum of, by name; a training that diverges prints it."""

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Turn sentences into tensors on the CPU; gold tensors are made of whatever labels they carry."""
        raise NotImplementedError  # abstract: each system's own

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a labelled batch, a scalar: `self.total` of its terms."""
        raise NotImplementedError  # abstract: each system's own

    def total(self, **terms: Tensor) -> Tensor:
        """The sum of a loss's terms, kept by name in `self.terms`; `loss` ends with it."""
        self.terms = {name: term.detach() for name, term in terms.items()}
        return sum(terms.values())

    def decode(self, batch: Batch) -> list[Prediction]:
        """One prediction a sentence, in the order of the batch."""
        raise NotImplementedError  # abstract: each system's own

    def param_groups(self, encoder_lr: float, head_lr: float, weight_decay: float) -> list[dict]:
        """Optimiser groups: encoder and heads at their own rates, no decay on biases and LayerNorm; `part` is its place
        in `clipped_apart`.

        Raises:
            ValueError: a parameter that belongs to no part.
        """
        groups: dict[tuple[float, float, int], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                rate = encoder_lr if name.startswith(self.encoders) else head_lr
                # a bias may have dimensions of its own, where several layers are held in one
                plain = parameter.ndim > 1 and not name.endswith("bias")
                decay = weight_decay if plain else 0.0
                part = next((i for i, prefixes in enumerate(self.clipped_apart) if name.startswith(prefixes)), None)
                if part is None:
                    raise ValueError(f"{name} begins with none of clipped_apart: {self.clipped_apart}")
                groups.setdefault((rate, decay, part), []).append(parameter)
        return [
            {"params": group, "lr": rate, "weight_decay": decay, "part": part}
            for (rate, decay, part), group in groups.items()
        ]

    def attention(self, sentence: Sentence) -> dict[str, Tensor]:
        """Attention by direction, each `(heads, words + 2)`: [CLS], the words, [SEP]; empty where a system has none."""
        return {}
