"""The settings of the baselines, a class each; the defaults are the released ones. Importing them loads no torch.

`SETTINGS` names the systems.
"""

import re
from collections.abc import Sequence
from string import Formatter
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from sinet.errors import nearest
from sinet.model.settings import (
    SINET,
    Dropout,
    Heads,
    MaxSpanWidth,
    Settings,
    Size,
    SpanBasedSettings,
    Threshold,
    WidthSize,
)
from sinet.schema import Natural, NotNegative, mistake
from sinet.schema import Size as Long

MaxArguments = Annotated[
    int, Field(ge=2, le=100_000, description="Predicted entities of a sentence that are paired, the likeliest.")
]
Window = Annotated[int, Field(ge=0, le=100_000)]


def _question(value: object) -> object:
    texts = list(value.values()) if isinstance(value, dict) else [value]
    if texts and all(isinstance(text, str) for text in texts):
        return value
    raise mistake("{value} should be a template, or a mapping from each type to one")


Question = Annotated[str | dict[str, str], BeforeValidator(_question)]
QUESTIONS: tuple[tuple[str, str, list[str], list[str]], ...] = (
    ("entity_question", "tail", [], ["tail"]),
    ("relation_question", "relation", ["tail"], ["tail", "relation", "article", "head", "mention"]),
)
"""Of each turn of Multi-turn QA the setting, what one template for all types has to hold, what every template has to,
and what it may."""


class SpERT(SpanBasedSettings):
    """SpERT."""

    max_span_width: MaxSpanWidth = 10
    width_size: WidthSize = 25
    threshold: Threshold = 0.4


class MultiTurnQA(Settings):
    """Multi-turn QA."""

    one_type: ClassVar = ()
    takes_entities: ClassVar = True
    entity_question: Question = "find all {tail} entities in the context."
    """The question of turn 1 for a type {tail}, or by type one for each."""
    relation_question: Question = (
        "find all {tail} entities in the context that have {article} {relation} relationship with "
        "{head} entity {mention}."
    )
    """The question of turn 2 for a {relation} and a type {tail}, or by relation one for each, which need not name it.
    {article} is "an" before a relation that begins with a or o, else "a", {head} the type of the head, {mention} its
    words; these three may be left out."""
    names: dict[str, str] = Field(default={})
    """What types are called in questions, in words; a type that is not named here by its own name in lower case."""
    least_count: Long = 3
    """How often a triple (head type, relation, tail type) has to be annotated in the training data for prediction to
    ask for it. Released: ACE04 3, ACE05 5."""
    tails_to_the_right: bool = True
    """Whether training asks in turn 2 only for types of entities that start behind the head, at most `max_distance`
    word pieces, as released; a relation that points left is else learned only where such a type stands on the right."""
    max_distance: Long = 45
    """Word pieces from the start of a head to that of an entity behind it."""
    negative_questions: Natural = 0
    """Questions without an answer of each turn that are drawn for a sentence, beside all with one; a step is then of
    sentences. With 0 it is of questions, of which none is left out, as released."""
    turn_weight: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Weight of the loss of turn 1; that of turn 2 has the rest."""
    dropout: Dropout = 0.1
    """Dropout on the encoder's output."""
    max_heads: Annotated[int, Field(ge=1, le=100_000)] = 40
    """Predicted entities of a sentence about which turn 2 asks, the likeliest."""
    pieces_at_once: Long = 8192
    """Word pieces of questions encoded at once; of a longer one all."""

    @model_validator(mode="after")
    def _questions_ask(self) -> Self:
        for key, own, always, possible in QUESTIONS:
            question, needed = getattr(self, key), always
            if isinstance(question, str):
                question, needed = {"": question}, [*always, own]
            for name, template in question.items():
                try:
                    parts = list(Formatter().parse(template))
                except ValueError:  # a brace alone
                    parts = [("", "", "", None)]
                held = sorted(slot for _, slot, *_ in parts if slot is not None)
                plain = template.strip() and not any(form or conversion for _, _, form, conversion in parts)
                if not (plain and set(needed) <= set(held) <= set(possible) and len(set(held)) == len(held)):
                    once = f"{' and '.join(f'{{{slot}}}' for slot in needed)} once" if needed else "words"
                    others = ", ".join(f"{{{slot}}}" for slot in possible if slot not in needed)
                    where = f"{key}.{name}" if name else key
                    raise mistake(f"{where} should hold {once}" + f", and may hold {others}" * bool(others))
        if empty := [name for name, words in self.names.items() if not words.strip()]:
            raise mistake(f"names: {empty[0]} has no words; write what questions should call it")
        return self

    def unfit(self, entity_types: Sequence[str], relation_types: Sequence[str]) -> str | None:
        for (key, own, *_), types in zip(QUESTIONS, (entity_types, relation_types), strict=True):
            question, words = getattr(self, key), self.called(types)
            if lacking := [name for name in types if isinstance(question, dict) and name not in question]:
                return f"{key}: there is no question for {lacking[0]!r}; write one, or one template for all types"
            named = zip(self.templates(key, types), words, strict=True)
            for where, texts in (("names", words), (key, [text.replace(f"{{{own}}}", name) for text, name in named])):
                for i, text in enumerate(texts):
                    if text in texts[:i]:
                        both = f"{types[texts.index(text)]!r} and {types[i]!r} are both {text!r} in questions"
                        return f"{where}: {both}; give one of them other words"
        known = [*entity_types, *relation_types], entity_types, relation_types
        for key, types in zip(("names", *(key for key, *_ in QUESTIONS)), known, strict=True):
            words = getattr(self, key)
            if isinstance(words, dict) and (unknown := [name for name in words if name not in types]):
                return f"{key}: {unknown[0]!r} is no such type of the data, {nearest(unknown[0], types)}"
        return None

    def templates(self, key: str, types: Sequence[str]) -> list[str]:
        """The question of each type, which `key` asks."""
        question = getattr(self, key)
        return [question if isinstance(question, str) else question[name] for name in types]

    def called(self, types: Sequence[str]) -> list[str]:
        """The words of each type in questions."""
        words = (re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", " ", name).strip().lower() or name for name in types)
        return [self.names.get(name, own) for name, own in zip(types, words, strict=True)]


class TableFillingSettings(Settings):
    """What PFN and TCRE share."""

    one_type: ClassVar = ()
    hidden_size: Size = 300
    """Of the task features and the tables."""
    dropout: Dropout = 0.1
    """Dropout in the tables."""
    entity_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least sigmoid of an entity cell that is predicted."""
    threshold: Threshold = 0.5
    mask_padding: bool = True
    """Whether training leaves padding out of what is taken over positions; the released code does not."""
    max_words: Long = 128
    """Words of a sentence that are read; entities and relations beyond are not trained on, nor found."""


class PFN(TableFillingSettings):
    """PFN."""

    dropconnect: Dropout = 0.1
    """DropConnect of the recurrent weights."""
    dropout: Dropout = 0.1
    """Dropout on the encoder's output and in the tables."""


class TwoModelsSettings(Settings):
    """What PURE and PL-Marker share."""

    judged_by: ClassVar = {"entity": "ent", "relation": "rel"}
    one_type: ClassVar = ("span", "pair")
    takes_entities: ClassVar = True
    windows: ClassVar = ("entity_window", "relation_window")


class PURE(TwoModelsSettings):
    """PURE."""

    parts: ClassVar = {
        "entity": ("encoder.", "width.", "entity_model."),
        "relation": ("relation_encoder.", "relation_model."),
    }
    max_span_width: MaxSpanWidth = 8
    width_size: WidthSize = 150
    entity_window: Window = 0
    """Words of the document that the entity model reads at once; 0 for the sentence alone. Released: 300, with ALBERT
    100."""
    relation_window: Window = 0
    """The same of the relation model. Released: 100."""
    markers: Literal["inserted", "batched"] = "inserted"
    """Whether the relation model reads a sentence for every pair, or, as an approximation, for many."""
    hidden_size: Size = 150
    """Of the entity model's feed-forward network."""
    dropout: Dropout = 0.2
    """Dropout in the entity model's feed-forward network."""
    hidden_dropout: Dropout = 0.1
    """Dropout on the encoder's output before that network."""
    relation_dropout: Dropout = 0.1
    """Dropout before the relation classifier."""
    max_sequence_length: Annotated[int, Field(ge=8, le=100_000)] = 128
    """Word pieces that the relation model reads, markers counted."""
    training_pairs: Natural = 0
    """Pairs drawn for each sentence of a step where both models are trained side by side; 0 for all."""
    pair_batch: Long = 64
    """Pairs encoded at once in prediction, with inserted markers."""
    pairs_at_once: Long = 16
    """Pairs in one pass in prediction, with batched markers."""
    pieces_at_once: Long = 8192
    """Word pieces and markers encoded at once, with batched markers; of a longer pass all."""
    max_arguments: MaxArguments = 40


class SPE(Settings):
    """SPE without its pre-training."""

    one_type: ClassVar = ("span", "pair")
    takes_entities: ClassVar = True
    kernels: Annotated[list[Annotated[int, Field(ge=1, le=16)]], Field(min_length=1, max_length=16)] = [2, 3, 4]  # noqa: RUF012
    """Widths of the convolutions over the words of a span or a context."""
    channels: Size = 100
    """Channels of each convolution; features of a span, and of a pair, are as many for each width."""
    attention_size: Size = 500
    """Of the attention over the segments of a pair."""
    position_size: Size = 100
    """Of the embedding of a segment's distance from each of the two spans."""
    hidden_size: Size = 128
    """Of the layer before the relation classifier."""
    dropout: Dropout = 0.1
    """Dropout on the encoder's output and on features."""
    gold_epochs: Natural = 6
    """Epochs whose candidates are gold alone; afterwards boundaries and types of a sentence are drawn."""
    sampling_decay: Annotated[float, Field(ge=0.01, le=1_000_000)] = 3.0
    """k of the probability k / (k + e^(n / k)) that they are gold in the n-th epoch afterwards."""


class PLMarker(TwoModelsSettings):
    """PL-Marker; the defaults are those of SciERC, without context."""

    parts: ClassVar = {
        "entity": ("encoder.", "entity_model."),
        "relation": ("relation_encoder.", "relation_model."),
    }
    max_span_width: MaxSpanWidth = 8
    dropout: Dropout = 0.1
    """Dropout on the states of both encoders."""
    entity_window: Window = 0
    """Word pieces of the document that the entity model reads at once, [CLS] and [SEP] counted; 0 for the sentence
    alone. Released: 512."""
    relation_window: Window = 0
    """The same of the relation model, the markers of the subject counted. Released: 256, of ACE04 384."""
    spans_at_once: Long = 256
    """Spans in one pass of the entity model."""
    objects_at_once: Long = 16
    """Objects in one pass of the relation model. Released: 16 of SciERC, 32 of ACE05, 40 of ACE04."""
    typed_markers: bool = False
    """Whether the markers of the relation model say the types of subject and object."""
    retype_arguments: bool = False
    """Whether the arguments of a predicted relation get the types that the relation model gives them, as released for
    ACE."""
    pieces_at_once: Long = 8192
    """Word pieces and markers encoded at once; of a longer pass all."""
    max_arguments: MaxArguments = 40


class DocumentSpanSettings(Settings):
    """What DyGIE++, DyGIE and SciIE share; the defaults are DyGIE++'s."""

    one_type: ClassVar = ("span", "pair")
    takes_entities: ClassVar = True
    max_span_width: MaxSpanWidth = 8
    width_size: WidthSize = 20
    hidden_size: Size = 150
    """Of the feed-forward networks."""
    dropout: Dropout = 0.4
    """Dropout in the feed-forward networks."""
    spans_per_word: Annotated[float, Field(ge=0.01, le=100)] = 0.5
    """Share of the length of a sentence that is kept for relations, in spans."""
    entity_weight: NotNegative = 0.2
    """Weight of the entity loss; that of the relation loss is 1."""
    coreference_weight: NotNegative = 0.0
    """Weight of the coreference loss. With 0 there is no coreference, and sentences are read one by one; with more, 1
    as released for SciERC, they are read as whole documents."""
    coreference_spans_per_word: Annotated[float, Field(ge=0.01, le=100)] = 0.3
    """Share of the length of a document that is kept for coreference, in spans."""
    max_antecedents: Long = 100
    """Kept spans before a span among which its antecedent is sought, the nearest."""

    @property
    def whole_documents(self) -> bool:
        return self.coreference_weight > 0

    @property
    def learns_clusters(self) -> bool:
        return self.coreference_weight > 0


class DyGIEpp(DocumentSpanSettings):
    """DyGIE++."""

    coreference_rounds: Natural = 1
    """How often the representations of spans are updated from their antecedents."""


class SciIE(DocumentSpanSettings):
    """SciIE; the defaults are those released for the entities of SciERC."""

    context_size: Size = 200
    """Of the BiLSTM, in each direction."""
    word_dropout: Dropout = 0.5
    """Dropout on words, before the BiLSTM and before their sum over a span."""
    context_dropout: Dropout = 0.4
    """Dropout on the states of the BiLSTM, from step to step and of its output."""
    spans_per_word: Annotated[float, Field(ge=0.01, le=100)] = 0.3
    """Share of the length of a sentence that is kept for relations, in spans. Released: 0.3, for relations 0.4."""
    entity_weight: NotNegative = 0.2
    """Weight of the entity loss. Released: 0.2, for relations 0."""
    relation_weight: NotNegative = 0.33
    """Weight of the relation loss. Released: 0.33, for relations 1."""
    max_antecedents: Long = 250
    """Kept spans before a span among which its antecedent is sought, the nearest."""


class DyGIE(SciIE):
    """DyGIE; the defaults are those released for the relations of SciERC."""

    spans_per_word: Annotated[float, Field(ge=0.01, le=100)] = 0.5
    """Share of the length of a sentence that is kept for relations, in spans."""
    entity_weight: NotNegative = 1.0
    """Weight of the entity loss."""
    relation_weight: NotNegative = 1.0
    """Weight of the relation loss."""
    max_antecedents: Long = 250
    """Kept spans before a span among which its antecedent is sought, those of the best coarse scores."""
    coreference_rounds: Natural = 1
    """How often the representations of spans are updated from their antecedents. Released: 1, for entities 2."""
    relation_rounds: Natural = 2
    """How often relations are scored, the representations of their spans updated in between; 0 for once, without an
    update. Released: 2, for entities 3."""
    relation_updates_entities: bool = True
    """Whether entities are scored of what was updated along relations. Released: so, for entities not."""
    gate: Literal["released", "paper"] = "released"
    """What an update along coreference does: replaces a representation, or is mixed with it by a gate."""


class SpanMultiHead(Settings):
    """SPAN Multi-Head; the defaults are the paper's."""

    takes_entities: ClassVar = True
    max_span_width: MaxSpanWidth = 10
    width_size: WidthSize = 50
    hidden_size: Size = 256
    """Of all feed-forward networks."""
    heads: Heads = 8
    """Heads of every attention; must divide hidden_size."""
    dropout: Dropout = 0.2
    """Dropout in the networks."""
    entity_weight: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Weight of the entity loss; the relation loss has the rest."""
    negative_ratio: Natural = 30
    """Negative spans and pairs for each gold one of a sentence."""
    threshold: Threshold = 0.5
    max_arguments: MaxArguments = 60

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads:
            raise mistake(f"{self.heads} attention heads do not divide hidden_size {self.hidden_size}")
        return self


class SPTree(Settings):
    """SPTree."""

    one_type: ClassVar = ("span", "pair")
    takes_entities: ClassVar = True
    needs_parses: ClassVar = True
    pos_size: Size = 25
    """Size of the embedding of parts of speech."""
    label_size: Size = 25
    """Of entity labels."""
    dependency_size: Size = 25
    """Of dependencies."""
    word_size: Size = 100
    """Of the LSTM over words, each direction."""
    tree_size: Size = 100
    """Of the LSTMs along the path between two words."""
    hidden_size: Size = 100
    """Of the layers before labels and relations."""
    dropout: Dropout = 0.5
    """Dropout on words and parts of speech."""
    hidden_dropout: Dropout = 0.3
    """Dropout before labels and relations."""
    entity_epochs: Natural = 0
    """Epochs at the beginning in which entities alone are trained; the recipe has to say epochs then, and more.
    Released: 100."""
    gold_decay: Annotated[float, Field(ge=1, le=1e12)] = 10.0
    """k of scheduled sampling: gold labels are read with probability k / (k + exp(epoch / k))."""
    max_arguments: MaxArguments = 40

    @property
    def partial_epochs(self) -> int:
        return self.entity_epochs


class TableSequence(Settings):
    """Table-sequence encoders."""

    one_type: ClassVar = ("span", "pair")
    trains_encoder: ClassVar = False
    hidden_size: Annotated[int, Field(ge=2, le=10_000)] = 200
    """Of words and table cells; even."""
    heads: Heads = 8
    """Heads of the table-guided attention; must divide hidden_size."""
    layers: Annotated[int, Field(ge=1, le=100)] = 3
    """Layers of both encoders."""
    dropout: Dropout = 0.5
    """Dropout on characters and words, in the layers, and before the tags."""
    word_vectors: bool = False
    """Whether a word is represented by GloVe's vector too (`sinet vectors`), as in the paper."""
    cache_mib: Natural = 1024
    """Memory for the frozen encoder's features of training sentences, MiB; more goes to disk."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % 2 or self.hidden_size % self.heads:
            raise mistake(f"hidden_size {self.hidden_size} should be even and a multiple of {self.heads} heads")
        return self

    @property
    def needs_word_vectors(self) -> bool:
        return self.word_vectors


class TCRE(TableFillingSettings):
    """TCRE."""

    interaction: Literal["tcre", "mge"] = "tcre"
    """What a task takes from the other: through a gate and by attention, and a share of its features (tcre); or through
    the gate alone (mge), which is MGE as far as its abstract tells."""
    heads: Heads = 2
    """Heads of the attention (tcre); must divide hidden_size."""
    dynamic_weights: bool = False
    """Whether the losses of both tables are weighed by how they fell in earlier epochs, as in the released code."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.interaction == "tcre" and self.hidden_size % self.heads:
            raise mistake(f"{self.heads} attention heads do not divide hidden_size {self.hidden_size}")
        return self


class UniRE(Settings):
    """UniRE."""

    one_type: ClassVar = ("span", "pair")
    windows: ClassVar = ("window",)
    window: Window = 0
    """Words of the document that are read, those of the sentence counted, half of the rest from either side; 0 for the
    sentence alone."""
    hidden_size: Size = 150
    """Of a word as head and as tail of a cell."""
    dropout: Dropout = 0.4
    """Dropout on a word as head and as tail."""
    logit_dropout: Dropout = 0.2
    """Dropout on the logits of cells in their cross-entropy."""
    split_threshold: NotNegative = 1.4
    """Distance of neighbouring words in the table above which another span begins."""


class SCINet(SpanBasedSettings):
    """SCI-Net; the defaults are those of 16res."""

    two_roles: ClassVar = True
    negative_reverses: ClassVar = True  # type: ignore[misc]  # no field: no type is symmetric
    max_span_width: MaxSpanWidth = 10
    width_size: WidthSize = 300
    heads: Heads = 4
    """Attention heads of both modules; must divide the encoder's hidden size."""
    attention_dropout: Dropout = 0.2
    """Dropout inside the attention."""
    negative_spans: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    """Negative spans sampled per sentence in training."""
    negative_pairs: Natural = 200
    """Negative pairs sampled per sentence in training."""
    threshold: Threshold = 0.5
    mask_padding: bool = True
    """Whether the attention leaves padding out in training; the released code does not. Prediction always does."""


class SpanASTE(Settings):
    """Span-ASTE."""

    two_roles: ClassVar = True
    one_type: ClassVar = ("pair",)
    max_span_width: MaxSpanWidth = 8
    width_size: WidthSize = 20
    distance_size: Size = 128
    """Size of the distance embedding."""
    hidden_size: Size = 150
    """Of the feed-forward networks."""
    dropout: Dropout = 0.4
    """Dropout in the feed-forward networks."""
    spans_per_word: Annotated[float, Field(ge=0.01, le=100)] = 0.5
    """Share of the length of a sentence that is kept as targets, and as opinions, in spans."""


SETTINGS: dict[str, type[Settings]] = {
    "sinet": SINET,
    "dygie": DyGIE,
    "dygiepp": DyGIEpp,
    "multi_turn_qa": MultiTurnQA,
    "pfn": PFN,
    "plmarker": PLMarker,
    "pure": PURE,
    "sciie": SciIE,
    "scinet": SCINet,
    "span_aste": SpanASTE,
    "span_multihead": SpanMultiHead,
    "spe": SPE,
    "spert": SpERT,
    "sptree": SPTree,
    "table_sequence": TableSequence,
    "tcre": TCRE,
    "unire": UniRE,
}
"""The settings of each system by its name; a baseline's is its module. What is not named here is no system."""
