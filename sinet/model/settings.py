"""The settings of a system, with bounds and a line of help each; importing them loads no torch.

A workflow with a hundred jobs plans before any of them runs, and importing torch costs seconds.
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sinet.schema import Natural, Strict

Size = Annotated[int, Field(ge=1, le=10_000)]
Heads = Annotated[int, Field(ge=1, le=1024)]
Dropout = Annotated[float, Field(ge=0, le=0.99)]
MaxSpanWidth = Annotated[int, Field(ge=1, le=100, description="Widest candidate, in words.")]
WidthSize = Annotated[Size, Field(description="Size of the width embedding.")]
Interaction = Literal["base", "tap", "ctam_ner", "ctam_re", "ctam"]
Threshold = Annotated[float, Field(ge=0, le=1, description="Least sigmoid of a relation that is predicted.")]


class Settings(Strict):
    """What a system can be set to, and what a plan has to know of it; every field has a default."""

    parts: ClassVar[dict[str, tuple[str, ...]]] = {"": ("",)}
    """The parts of the system by name, each by the prefixes of its parameters: more than one where models share no
    weight and no loss. Their gradients are clipped apart, and a recipe may train them one after another (`stage`)."""
    judged_by: ClassVar[dict[str, str]] = {}
    """Of each such part the figure that its training changes, `ent` or `rel`: what its weights may be selected by."""
    one_type: ClassVar[tuple[str, ...]] = ("span",)
    """What gets one type alone in a prediction: a `span` of words, a `pair` (head, tail) of spans. Further gold types
    there are missed."""
    two_roles: ClassVar[bool] = False
    """Whether it reads data of two entity types alone, the first of which is the head of every relation, the second its
    tail (aspects and opinions)."""
    takes_entities: ClassVar[bool] = False
    """Whether it decides relations between given entities (`sinet.contract.Batch.gold_entities`)."""
    windows: ClassVar[tuple[str, ...]] = ()
    """Its settings that, above 0, ask for a sentence's document around it."""
    needs_parses: ClassVar[bool] = False
    """Whether it reads parts of speech and dependencies, which a dataset is then prepared with (`sinet.data.parse`)."""
    trains_encoder: ClassVar[bool] = True
    """Whether the encoder learns, and a recipe has to give its rate."""

    @property
    def whole_documents(self) -> bool:
        """Whether a batch is a whole document, its sentences in their order, in training, prediction, counting and
        timing; a recipe then says `batch_size: document`."""
        return False

    @property
    def needs_word_vectors(self) -> bool:
        """Whether it reads GloVe's word vectors (`sinet.data.vectors`)."""
        return False

    @property
    def learns_clusters(self) -> bool:
        """Whether it is trained on coreference, which the training split then has to annotate."""
        return False

    @property
    def partial_epochs(self) -> int:
        """Epochs at the beginning in which a part of it is trained alone; above 0 the length of a recipe has to be in
        epochs, and in more of them."""
        return 0

    def unfit(self, entity_types: Sequence[str], relation_types: Sequence[str]) -> str | None:
        """Which setting does not go with data of such types, and what would be right; None where all do."""
        return None


class SpanBasedSettings(Settings):
    """What SpERT and SINET share."""

    takes_entities: ClassVar = True
    max_span_width: MaxSpanWidth
    width_size: WidthSize
    dropout: Dropout = 0.1
    """Dropout on classifier inputs."""
    negative_spans: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Negative spans sampled per sentence in training."""
    negative_pairs: Natural = 100
    """Negative pairs sampled per sentence in training."""
    negative_reverses: bool = True
    """Whether the reverse of a symmetric gold pair may be a negative, as at the released commits."""
    threshold: Threshold


class SINET(SpanBasedSettings):
    """SINET; the default is the full model."""

    max_span_width: MaxSpanWidth = 8
    width_size: WidthSize = 100
    heads: Heads = 4
    """Attention heads of CTAM; must divide the encoder's hidden size."""
    attention_dropout: Dropout = 0.2
    """Dropout inside CTAM."""
    threshold: Threshold = 0.5
    mask_padding: bool = True
    """Whether CTAM leaves padding out in training; the released code does not. Prediction always does."""
    interaction: Interaction = "ctam"
    """The ablation setting: one representation for both tasks (base), one projection a task (tap), besides cross-task
    attention for the entity classifier (ctam_ner), the relation classifier (ctam_re) or both (ctam)."""
