"""The border between a model and the harness.

A model sees sentences, a label inventory and an encoder. It never sees a path, a seed, a config file, a metric
or the test set; the harness (`sinet.train`, `sinet.infer`) names no system, it finds them (`sinet.systems`).
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.model.settings import Settings as SystemSettings

if TYPE_CHECKING:
    from sinet.encoders.encoder import Encoder

__all__ = ["Batch", "Entity", "Extractor", "Labels", "Prediction", "Relation", "Sentence"]

# of the layers that score relation types, where entities alone are annotated
warnings.filterwarnings("ignore", "Initializing zero-element tensors")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one sentence: typed spans, and relations that index into them; of a system that reads
    documents also its part of their clusters (`Sentence.coreference`)."""

    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    coreference: tuple[tuple[int, int, int], ...] = ()


@dataclass
class Batch:
    """The sentences of one step and the tensors a model made of them, by name: those of the encoder's input
    (`sinet.encoders.encoder.EncoderInputs.tensors`), gold spans and pairs (`sinet.model.spans.gold_tensors`), and what
    the docstrings of a system's `collate` and `training_batch` say (`tests/test_systems.py` holds them to it).

    `gold_entities`: decoding decides relations between the gold entities instead of predicted ones, in systems that can
    (`takes_entities` in their settings).
    """

    sentences: Sequence[Sentence]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    gold_entities: bool = False

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise KeyError(f"this batch has no tensor {name!r}; it has {', '.join(self.tensors)}")
        return self.tensors[name]

    def __len__(self) -> int:
        return len(self.sentences)

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`."""
        tensors = {k: v.to(device, non_blocking=True) for k, v in self.tensors.items()}
        return Batch(self.sentences, tensors, self.gold_entities)

    def pinned(self) -> "Batch":
        """The same batch in page-locked memory, from which a GPU copies while the program goes on."""
        return Batch(self.sentences, {k: v.pin_memory() for k, v in self.tensors.items()}, self.gold_entities)


class Extractor(nn.Module):
    """A joint entity and relation extractor.

    A subclass takes `(labels, encoder, **settings)`, those that its `Settings` declare with defaults, bounds and help;
    its module in `baselines/` (or `sinet/model/sinet.py`) names it `System`.
    """

    Settings: ClassVar[type[SystemSettings]] = SystemSettings
    """What can be set, and what a plan has to know of the system without importing it."""
    settings: SystemSettings
    """Of this model, each read where it is needed."""
    citation: ClassVar[str]
    """Authors, year, venue and title of the paper that defines the system."""
    test_settings: ClassVar[dict]
    """Settings under which it runs in two seconds on a CPU; the generic test-suite uses them."""

    encoders: ClassVar[tuple[str, ...]] = ("encoder.",)
    """Prefixes of the parameters that learn at the encoder's rate."""
    stage: str | None = None
    """The part that is being trained alone, which the methods below then speak of; None for the whole system."""
    epoch: int = 0
    """Whole epochs of the training that lie behind, set before each step. `losses` may depend on it: a resumed training
    goes on with the same. `training_batch` may not, as it prepares batches ahead."""
    released_form: ClassVar[str | None] = None
    """What the authors' released code multiplies for the same figures that is not multiplied here; None where nothing
    is known to differ. With `released` set on a system and its modules (`sinet.efficiency.flops.as_released`), for
    counting alone, decoding multiplies it too."""
    epoch_losses: Sequence[dict[str, float]] = ()
    """Of each epoch that has ended, the mean of each term of `losses` over its batches, divided by `divisors` and not
    weighed; set before each step, for `term_weights`."""
    relation_thresholds: Tensor | None = None
    """Least score of each relation type, in place of the settings' one `threshold`, in systems that have it."""
    released = False
    flop_handlers: ClassVar[dict[str, Callable[..., int]]] = {}
    """Operators of its own that decoding calls while it is traced, by name ("namespace::name"), and their multiply-adds
    from the shapes of the arguments and `out`. The count is held against the products that torch sees untraced."""

    def __init__(self, labels: Labels, encoder: "Encoder", **settings: Any) -> None:
        """Raises `ValueError` for settings that the system does not have, or that are out of bounds."""
        super().__init__()
        self.labels = labels
        self.encoder = encoder
        self.settings = self.Settings(**settings)

    @property
    def mask_padding(self) -> bool:
        """Whether training leaves padding out, or computes with it as some released code does: a setting of some."""
        return getattr(self.settings, "mask_padding", True)

    @property
    def relation_threshold(self) -> float | Tensor:
        """Least score of a relation that is predicted: `relation_thresholds` (types), or one for all; only of systems
        whose settings have a `threshold`."""
        if self.relation_thresholds is not None:
            return self.relation_thresholds
        return self.settings.threshold  # type: ignore[attr-defined]

    @property
    def max_words(self) -> int | None:
        """Words of a sentence that are read, a setting of some; None for as many as the encoder can."""
        return getattr(self.settings, "max_words", None)

    def collate(self, sentences: Sequence[Sentence]) -> Batch:
        """Turn sentences into tensors on the CPU; gold tensors are made of whatever labels they carry."""
        raise NotImplementedError  # abstract: each system's own

    def truncated_words(self, sentences: Sequence[Sentence]) -> int:
        """How many words of the sentences are not read: beyond the encoder, or beyond `max_words`."""
        return self.encoder.truncated_words(sentences, self.max_words)

    def training_items(self, sentences: Sequence[Sentence]) -> Sequence:
        """What a training batch is made of, in the order of the data: sentences, or with a model over pairs the
        pairs."""
        return sentences

    def item_lengths(self, items: Sequence) -> list[int]:
        """Word pieces of each training item; batches may be made of items of like length."""
        return self.encoder.piece_counts(items)

    def training_batch(self, items: Sequence) -> Batch:
        """The tensors of some training items, negatives drawn, on the CPU."""
        return self.collate(items)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms of the training loss of a `training_batch`, each with its weight and **summed**, scalars."""
        raise NotImplementedError  # abstract: each system's own

    def divisors(self, batches: Sequence[Batch]) -> dict[str, float]:
        """What each term of `losses`, summed over the parts of one training batch, is divided by; 1 where it is
        absent."""
        return {}

    def term_weights(self) -> dict[str, float]:
        """By what each term of `losses` is multiplied in this epoch, from `epoch_losses`; 1 where it is absent."""
        return {}

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a `training_batch`, a scalar."""
        divisors = self.divisors([batch])
        return self.weighed({name: term / divisors.get(name, 1) for name, term in self.losses(batch).items()})

    def weighed(self, terms: dict[str, Tensor]) -> Tensor:
        """The sum of the terms of a loss by `term_weights`."""
        weights = self.term_weights()
        return functools.reduce(torch.add, (weights.get(name, 1) * term for name, term in terms.items()))

    def decode(self, batch: Batch) -> list[Prediction]:
        """One prediction a sentence, in the order of the batch."""
        raise NotImplementedError  # abstract: each system's own

    def attention(self, sentence: Sentence) -> dict[str, Tensor]:
        """Attention by direction, each `(heads, words + 2)`: [CLS], the words, [SEP]; empty where a system has none."""
        return {}
