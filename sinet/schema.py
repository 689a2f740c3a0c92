"""What a configuration, a run, a record and a site's file may hold: typed models, from which the JSON schema is made.

Everything that a user writes, and every file that one step leaves for another, is validated against one of these once
and then passed on as an object. Importing it loads neither torch nor transformers.
"""

import copy
from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError


def mistake(text: str) -> PydanticCustomError:
    """An error whose text is the message; `{value}` stands for the wrong value."""
    return PydanticCustomError("mistake", text)


class Strict(BaseModel):
    """No key is unknown and no value is converted; the docstring under a field is its description."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, defer_build=True)

    def declared(self) -> dict[str, Any]:
        """The keys that were given, as plain values."""
        return self.model_dump(exclude_unset=True)


class Sparse(Strict):
    """Written with the keys that were given alone: what has its default is not spelled out."""

    @model_serializer(mode="wrap")
    def _given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if key in self.model_fields_set}


def _distinct(values: Sequence[Hashable]) -> Sequence[Hashable]:
    for number, value in enumerate(values):
        if value in values[:number]:
            raise mistake(f"{value} is listed twice; name each once")
    return values


def _as_list(files: object) -> object:
    if files == [] or not isinstance(files, dict | list):
        raise mistake("should be a file (path, url, sha256) or a list of at least one")
    return [files] if isinstance(files, dict) else files


def _as_values(values: object) -> object:
    return {"one_of": values} if isinstance(values, list) else values


def _below(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise mistake("{value} should be a path below the dataset's folder in a mirror, without ..")
    return path


def _batch_size(size: object) -> object:
    if size == "document" or (isinstance(size, int) and not isinstance(size, bool) and size >= 1):
        return size
    raise mistake("{value} should be a number of at least 1, or document")


def _by_model(models: object) -> object:
    if isinstance(models, list) and models and all(isinstance(model, str) for model in models):
        return dict.fromkeys(_distinct(models))
    if not models and models in ([], {}):
        raise mistake("the list is empty; name at least one")
    return models


def _triple(triple: list[str]) -> list[str]:
    if len(triple) != 3:
        raise mistake(f"{triple} should be a head's words, a relation type, a tail's words")
    return triple


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\z", description="letters, digits, ., _ and -")]
SHA256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z", description="64 hexadecimal digits")]
Distinct = Annotated[list[str], AfterValidator(_distinct)]
Names = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]
Types = Annotated[list[Text], Field(min_length=1), AfterValidator(_distinct)]
Seeds = Annotated[list[Annotated[int, Field(ge=0, le=2**32 - 1)]], Field(min_length=1), AfterValidator(_distinct)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=100_000)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


# -- datasets ----------------------------------------------------------------------------------------------------------


class DataFile(Strict):
    """A file of a dataset."""

    path: Annotated[Text, AfterValidator(_below)]
    """Path below the dataset's folder in a mirror, without `..`."""
    url: Annotated[str, Field(pattern="^https?://", description="http:// or https://")] | None = None
    """Where the file is published (http:// or https://), or the tar archive that holds it."""
    member: str | None = None
    """Path of the file in the archive that `url` is."""
    sha256: SHA256 | None = None
    """Checksum of the file's bytes."""

    @model_validator(mode="after")
    def _in_an_archive(self) -> Self:
        if self.member is not None and self.url is None:
            raise mistake("member is a path in an archive; give the archive's url")
        return self


SplitFiles = Annotated[list[DataFile], BeforeValidator(_as_list)]


class Files(Strict):
    """One file a split, or several."""

    train: SplitFiles
    """Training split."""
    dev: SplitFiles | None = None
    """Development split; without it `dev_share` is held out."""
    test: SplitFiles
    """Test split."""

    def of(self, split: str) -> list[DataFile]:
        """The files of a split; none where it has none."""
        return getattr(self, split) or []

    def all(self) -> list[DataFile]:
        """All files, split by split."""
        return [file for split in ("train", "dev", "test") for file in self.of(split)]


class SplitCounts(Strict):
    """Published figures of a split's files."""

    sentences: Natural | None = None
    """Sentences."""
    tokens: Natural | None = None
    """Words."""
    entities: dict[str, Natural] | None = None
    """Entities by type."""
    relations: dict[str, Natural] | None = None
    """Relations by type."""
    overlapping_entities: Natural | None = None
    """Pairs of entities that share a word."""
    wide_entities: Natural | None = None
    """Entities of more than 8 words."""
    duplicate_entities: Natural | None = None
    """Exact repetitions of an entity."""
    duplicate_relations: Natural | None = None
    """Exact repetitions of a relation."""


class Counts(Strict):
    """Published figures of the files; preparing fails when they differ."""

    train: SplitCounts | None = None
    """Training split."""
    dev: SplitCounts | None = None
    """Development split."""
    test: SplitCounts | None = None
    """Test split."""


class First(Strict):
    """Use only the first so many sentences of each split."""

    train: Count
    """Of the training split."""
    dev: Count
    """Of the development split."""
    test: Count
    """Of the test split."""


class Dataset(Strict):
    """A declared dataset."""

    title: Text
    """Name in tables."""
    published: Literal["scierc", "ace04", "ace05"] | None = None
    """Column of the published tables to stand under."""
    form_of: str | None = None
    """Dataset of the same sentences whose values in a recipe hold for this one."""
    licence: str | None = None
    """Catalogue number of a licensed corpus."""
    folder: str | None = None
    """Folder in a mirror; default the dataset's name."""
    format: Literal["jsonl", "spert", "dygie", "table_sequence", "aste", "ace"]
    """Format of the files; `ace` reads lists of documents of a release."""
    release: str | None = None
    """Folder in a mirror that holds a licensed corpus as it was released (format `ace`)."""
    header: bool | None = None
    """Whether header lines (ids, dates, headlines, speakers, posters) are sentences too (format `ace`)."""
    files: Files
    """One file a split, or several."""
    dev_share: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """Share of the training split, its last sentences (format `ace`, its last documents), that is dev where there is no
    file for it."""
    dev: Literal["last", "next_fold"] | None = None
    """What is dev of a dataset in folds: the last of the training folds (`dev_share`; the default), or the fold that
    follows the test fold."""
    fold_of: str | None = None
    """The dataset of which this is one fold; written by the plan."""
    unescape_ptb: bool | None = None
    """Whether Penn-treebank escapes such as -LRB- become brackets; default false."""
    overlapping: Literal["kept", "removed"] | None = None
    """Whether entities that share a word stay; default kept."""
    published_counts: dict[Literal["train", "dev", "test", "all"], dict[str, int]] | None = None
    """Published figures by split, printed in the card with the difference; another preparation may differ."""
    first: First | None = None
    """Use only the first so many sentences of each split."""
    entity_types: Types
    """Entity types."""
    relation_types: Annotated[list[Text], AfterValidator(_distinct)]
    """Relation types; none (`[]`) where entities alone are annotated."""
    symmetric: Distinct | None = None
    """Relation types without a direction."""
    no_relation: Types | None = None
    """Types in the files that stand for the absence of a relation (NA, no_relation): such relations are skipped."""
    counts: Counts | None = None
    """Published figures of the files; preparing fails when they differ."""
    documents: dict[Literal["dev", "test"], list[Count]] | None = None
    """Sentences of each document, in order, where the files do not name documents: statistics draw documents again."""


# -- encoders and models -----------------------------------------------------------------------------------------------


class Architecture(Sparse):
    """Sizes of a configuration; the weights are random."""

    model_type: Literal["bert", "albert", "mpnet"]
    """Architecture."""
    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)]
    """Rows of the embedding; at least the tokenizer's."""
    embedding_size: Size | None = None
    """ALBERT's factorised embedding."""
    hidden_size: Size
    """Hidden size."""
    num_hidden_layers: Annotated[int, Field(ge=1, le=1000)]
    """Layers."""
    num_hidden_groups: Annotated[int, Field(ge=1, le=1000)] | None = None
    """ALBERT's groups of shared layers."""
    num_attention_heads: Annotated[int, Field(ge=1, le=1000)]
    """Heads; must divide the hidden size."""
    intermediate_size: Annotated[int, Field(ge=1, le=1_000_000)]
    """Width of the feed-forward part."""
    max_position_embeddings: Annotated[int, Field(ge=3, le=10_000_000)] | None = None
    """Longest input in word pieces."""


class EncoderSource(Sparse):
    """Where an encoder comes from."""

    package: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\z", description="a Python package")] | None = None
    """Installed Python package that carries the weights."""
    folder: str | None = None
    """Folder inside the package."""
    path: Text | None = None
    """A folder of one's own, from where the workflow runs or absolute."""
    hub: str | None = None
    """Repository on the model hub."""
    revision: (
        Annotated[
            str, Field(pattern=r"^([0-9a-f]{40}|main)\z", description="40 hexadecimal digits of a commit, or main")
        ]
        | None
    ) = None
    """Commit on the hub, 40 hexadecimal digits, or main."""
    cased: bool | None = None
    """Whether its vocabulary holds capital letters; false for one whose tokenizer lower-cases."""
    sha256: dict[str, SHA256] | None = None
    """Checksums of files."""
    architecture: Architecture | None = None
    """Sizes of a configuration; the weights are random."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = self.model_fields_set
        sources = ({"package", "folder"}, {"hub", "revision"}, {"path"}, {"architecture", "tokenizer"})
        if sum(source <= given for source in sources) != 1 or {"architecture", "cased"} <= given:
            raise mistake("needs one of package + folder, hub + revision, path, architecture + tokenizer")
        if "architecture" not in given and self.cased is None:
            raise mistake("key 'cased' is missing (whether its vocabulary holds capital letters)")
        return self


class Encoder(EncoderSource):
    """A declared encoder."""

    title: Text
    """Name in tables."""
    published: Literal["Bb", "SciB", "ALB"] | None = None
    """Its name in the published tables."""
    tokenizer: str | None = None
    """Declared encoder whose tokenizer serves an architecture."""
    own_tokenizer: str | None = None
    """Declared encoder whose tokenizer is taken instead where its files are in a mirror."""
    sizes: str | None = None
    """Declared architecture of its sizes; counted where the weights are not here."""


class EncoderSpec(EncoderSource):
    """An encoder as training reads its declaration."""

    name: str
    """Its name."""
    tokenizer: "EncoderSpec | None" = None
    """The encoder whose tokenizer serves an architecture."""
    own_tokenizer: "EncoderSpec | None" = None
    """The encoder whose tokenizer is taken instead where its files are in a mirror."""


TOKENIZERS = ("own_tokenizer", "tokenizer")
"""Keys of an encoder that name another one."""


EXTERNAL = "external"
"""In place of a system: a model that is given by its predictions."""
Predictions = Annotated[
    dict[Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})\z", description="a seed in quotes")], Text],
    Field(min_length=1),
]


class OnDataset(Strict):
    """What a model is on one dataset."""

    settings: dict[str, Any]
    """Settings of the system, over those of the model."""


class Model(Strict):
    """A declared model: a system with settings, or the predictions of another tool."""

    system: str = EXTERNAL
    """Module of baselines/, or sinet; none where there are `predictions`."""
    predictions: dict[str, Predictions] | None = None
    """In place of a system, predictions of the test split by dataset and seed (in quotes): files in a form that `check`
    or `convert` reads, from where the workflow runs or absolute."""
    maker: Text | None = None
    """Who or what made the predictions."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d\z", description="a date such as '2026-11-01'")] | None = None
    """When they were made, in quotes."""
    title: Text
    """Name in tables."""
    published: str | None = None
    """Name in the published tables."""
    setting: str | None = None
    """Row of the ablation table."""
    settings: dict[str, Any] = {}
    """Settings of the system that make this model, over those of the recipe."""
    datasets: dict[str, OnDataset] = {}
    """What is different on some datasets."""
    relative_cost: Positive = 1.0
    """Time of a training epoch, SINET's is 1: the longest start first."""

    @model_validator(mode="after")
    def _made_here_or_elsewhere(self) -> Self:
        given, of_predictions = self.model_fields_set, {"predictions", "maker", "date"}
        if "system" not in given and not of_predictions <= given:
            raise mistake("needs system, or predictions + maker + date")
        if "system" in given and (other := sorted(given & of_predictions)):
            raise mistake(f"has a system; {other[0]} belongs to a model that is given by predictions")
        if "system" not in given and (other := sorted(given - of_predictions - {"title"})):
            raise mistake(f"is given by predictions; {other[0]} belongs to a model that has a system")
        return self

    @property
    def is_system(self) -> bool:
        """Whether it is a system by itself, not a step of the ablation."""
        return self.published is not None or self.setting is None


# -- recipes -----------------------------------------------------------------------------------------------------------


class TrainingRecipe(Strict):
    """How a system, or a part of it, is trained."""

    optimizer: Literal["adamw", "adam", "transformers_adamw"]
    """torch's AdamW or Adam, or AdamW as transformers had it up to version 4: epsilon is added to the uncorrected
    root."""
    bias_correction: bool
    """Whether transformers_adamw corrects its moments for their start at zero."""
    eps: Positive
    """The optimiser's epsilon."""
    beta2: Annotated[float, Field(ge=0, le=0.9999)] = 0.999  # as in records from before it could be set
    """Decay of the optimiser's second moment; that of the first is 0.9."""
    epochs: Count | None
    """Length in passes over the training split; or `steps`."""
    steps: Count | None
    """Length in steps; or `epochs`."""
    evaluate_every: Positive
    """Dev is evaluated every so many epochs, also a share of one, or steps if the length is in steps."""
    batch_size: Annotated[int | str, BeforeValidator(_batch_size)]
    """Items a step, sentences but for a model over pairs; `document`: one document."""
    micro_batch_size: Count | None
    """Items on the device at once: a batch is cut, and its gradient is that of the whole. null for the whole batch."""
    order: Literal["bucketed", "shuffled", "sorted", "data"]
    """bucketed: shuffled, batches of like length; sorted: batches of like length made once, their order shuffled; data:
    as the data come, every epoch."""
    drop_last: bool
    """Whether the last incomplete batch of an epoch is dropped."""
    encoder_lr: Positive | None
    """Peak learning rate of the encoder; null where it is frozen."""
    head_lr: Positive
    """Peak learning rate of everything else."""
    lr_of: dict[str, Positive]
    """Peak learning rates of parameters by the prefix of their names."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # as in records from before it could be set
    """Factor of the encoder's rate from each of its layers to the one below; the last layer, embeddings and layers that
    share their weights (ALBERT) have the whole rate."""
    weight_decay: NotNegative
    """Decay of weights; biases and LayerNorms have none."""
    encoder_weight_decay: NotNegative | None
    """The same of the encoder's; null for the same."""
    undecayed: list[Text] | None
    """Parameters that are not decayed: those whose names hold one of these texts, as in released code; null for biases
    and norms."""
    schedule: Literal["linear", "constant", "inverse_time", "exponential", "slanted_triangular"]
    """How the rates change."""
    warmup: Annotated[float, Field(ge=0, le=1)]
    """Share of all steps over which the rate rises (linear)."""
    whole_warmup_steps: bool
    """Whether the warm-up is cut to a whole number of steps."""
    warmup_steps: Natural
    """Steps over which the rate rises (inverse_time)."""
    decay_rate: NotNegative
    """After k thousand steps the rate is divided by 1 + decay_rate k (inverse_time), or after every `decay_steps`
    multiplied by decay_rate (exponential)."""
    decay_steps: Natural = 0  # as in records from before it could be set
    """Steps between two falls of the rate (exponential)."""
    clip: Positive | None
    """Largest norm of the gradient; null for none."""
    clip_by_part: bool
    """Whether the gradients of models that share no weight and no loss are clipped separately, or by one norm."""
    train_on: Literal["train", "train+dev"]
    """What is trained on; with train+dev the last weights are selected."""
    selection: Literal["last", "dev_ent", "dev_rel", "dev_rel_plus", "dev_ent_rel", "dev_ent_rel_plus"]
    """Which weights are selected: the last, or those with the highest sum of these F1 on dev."""
    select_after: Natural = 0
    """Dev is not evaluated, and nothing selected, in the first so many epochs, or steps if the length is in steps."""
    patience: Count | None = None
    """Training ends when so many epochs, or steps if the length is in steps, have selected nothing; null for never."""
    matching: Literal["symmetric", "directed"]
    """How relations are matched for the selection; scores are always reported both ways."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Arithmetic of training and prediction."""


class Recipe(TrainingRecipe):
    """How a system is trained, every key spelled out: one training, or one for each of its parts (`stages`)."""

    name: str
    """What it is called in the configuration."""
    stages: dict[str, TrainingRecipe]
    """The trainings of the parts of a system that are trained one after another; none for a system of one model."""

    @property
    def trainings(self) -> list[tuple[str | None, TrainingRecipe]]:
        """The trainings one after another: the part of the system, None for all of it, and how."""
        return list(self.stages.items()) if self.stages else [(None, self)]


class _Described(Strict):
    """Of fields that have their descriptions: pydantic need not look for them in a source."""

    model_config = ConfigDict(use_attribute_docstrings=False)


def some_of(model: type[Strict], name: str, **more: Any) -> type[Strict]:
    """A model of some of another's keys, each as it is there, and of `more`; what goes together is not checked."""
    fields: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        optional = copy.copy(field)
        optional.default = None
        fields[key] = (field.annotation, optional)
    return create_model(name, __base__=_Described, __doc__="What a recipe changes.", **fields, **more)


Changes: Any = some_of(TrainingRecipe, "Changes")
Settings = Annotated[dict[str, Any], Field(default={}, description="Settings of the system.")]
Stages = Annotated[
    dict[str, Changes],
    Field(default={}, description="Parts of the system trained one after another, and what their trainings change."),
]
OfDataset: Any = some_of(TrainingRecipe, "OfDataset", settings=(Settings, {}), stages=(Stages, {}))
ByDataset = Annotated[dict[str, OfDataset], Field(default={}, description="What is different on some datasets.")]
OfSystem: Any = some_of(
    TrainingRecipe, "OfSystem", settings=(Settings, {}), stages=(Stages, {}), datasets=(ByDataset, {})
)


# -- published figures -----------------------------------------------------------------------------------------------


class PublishedFigures(Strict):
    """Micro F1 x 100 on a test split, as published."""

    ent: float | None = None
    """Type and boundaries."""
    rel: float | None = None
    """Relation type and both boundaries."""
    rel_strict: float | None = None
    """Rel and both entity types."""


class PublishedRow(Strict):
    """A published row of one's own."""

    system: Text
    """Name of the system."""
    cite: Text
    """Source: authors and year."""
    encoder: Text
    """Its encoder: Bb, SciB, ALB as in the paper's rows, or any name."""
    figures: Annotated[dict[str, PublishedFigures], Field(min_length=1)]
    """By dataset: a declared one, or a column of the published tables."""


class PublishedRows(Strict):
    """A file of published rows."""

    main: list[PublishedRow]
    """Rows of the main table."""


# -- the grid ----------------------------------------------------------------------------------------------------------


class OfModel(Strict):
    """What one model of a block has of its own."""

    encoders: Names | None = None
    """Declared encoders in place of the block's."""
    seeds: Seeds | None = None
    """Random seeds in place of the block's."""


class Block(Strict):
    """One block of runs."""

    datasets: Names
    """Declared datasets."""
    encoders: Names | None = None
    """Declared encoders."""
    models: Annotated[dict[str, OfModel | None], BeforeValidator(_by_model)]
    """Declared models, or a mapping of them to encoders and seeds of their own."""
    seeds: Seeds | None = None
    """Random seeds in place of the grid's."""
    recipe: str
    """Declared recipe; must hold every system of the block."""


class Efficiency(Strict):
    """What FLOPs and inference times are measured on."""

    counted_sentences: Count | None
    """Test sentences whose FLOPs are counted, at even steps of length; null for all."""
    counted_words: Annotated[list[Annotated[int, Field(ge=1, le=10_000)]], AfterValidator(_distinct)]
    """Lengths, in words, of further sentences whose FLOPs are counted and drawn."""
    timed_sentences: Count | None
    """Test sentences that inference is timed on, at even steps of length; null for all."""
    timed_seconds: Annotated[float, Field(gt=0, le=86_400)]
    """Least time that each system, batch and precision is timed for, in seconds; five passes at least."""
    timed_bfloat16: bool
    """Whether inference is timed in bfloat16 too, for the CSV, where the device multiplies it in hardware."""
    architectures: Distinct
    """Declared encoders without weights in which every measured system is counted too, where the grid measures none
    with that encoder."""
    architecture_sentences: Count | None
    """Test sentences that they are counted on, at even steps of length; null for all."""
    timed_architectures: dict[str, Count | None]
    """Declared encoders without weights in which every measured system is timed, likewise, and on how many of the timed
    sentences (null for all)."""


class CaseStudy(Strict):
    """What the case study shows."""

    model: str
    """Declared model whose attention is studied."""
    sentences: Names
    """Rules that find a sentence of dev each (only-right, out-of-triple, hard-failure), or ids, of any split."""
    triples: list[Annotated[list[str], AfterValidator(_triple)]]
    """Gold triples (words of the head, relation type, words of the tail) that find a sentence each, in any split of any
    dataset on which the model runs."""


class Config(Strict):
    """What to run and what can be named; config.yaml over config/{datasets,encoders,models,recipes}.yaml."""

    results: Text
    """Folder that receives everything the grid makes."""
    mirrors: list[str]
    """Folders searched for files of datasets (DATASET/file) and encoders (encoders/NAME/), in this order."""
    archive: str | None
    """Folder of runs archived without weights, and of what was counted and timed of them (make archive); those of the
    grid are taken, not trained. null for none."""
    published: Text | None = None
    """File of published rows of one's own for the main table, in the form of `main` in `sinet/report/published.yaml`;
    from where the workflow runs or absolute. null for none."""
    remark: str | None = None
    """A line printed under every table of this grid."""
    allow_missing: bool = False
    """Whether, when runs failed, tables of the others are made and printed all the same."""
    seeds: Seeds
    """Random seeds of every block and model that names none of its own."""
    grid: Annotated[list[Block], Field(min_length=1)]
    """Blocks of runs; each is datasets x encoders x models x seeds under one recipe. `models` is a list, or maps models
    to encoders and seeds of their own."""
    reference: str | None
    """Declared model that the other systems are compared with, where it is in the grid. null for none."""
    efficiency: Efficiency | None
    """What FLOPs and inference times are measured on; null where neither is measured."""
    case_study: CaseStudy | None
    """What the case study shows; null for none. There is none either where its model is not in the grid."""
    datasets: dict[Name, Dataset]
    """Declared datasets by name."""
    encoders: dict[Name, Encoder]
    """Declared encoders by name."""
    models: dict[Name, Model]
    """Declared models by name."""
    recipe_defaults: TrainingRecipe
    """How a system is trained where its recipe does not say otherwise; every key."""
    recipes: dict[str, Annotated[dict[str, OfSystem], Field(min_length=1)]]
    """Declared recipes by name; each maps systems to what it changes, `defaults` to what it changes for all."""

    def encoder_spec(self, name: str) -> EncoderSpec:
        """What training reads of a declared encoder, its tokenizers' declarations in place of their names."""
        own = self.encoders[name].model_dump(exclude={"title", "published", "sizes", *TOKENIZERS})
        others = {key: self.encoder_spec(of) for key in TOKENIZERS if (of := getattr(self.encoders[name], key))}
        return EncoderSpec.model_validate({"name": name} | own | others)


# -- runs and records --------------------------------------------------------------------------------------------------


class RunSpec(Strict):
    """One training of a grid, with everything that it needs spelled out."""

    dataset: str
    """Name of the dataset."""
    encoder: EncoderSpec
    """The encoder's declaration, its tokenizers' declarations in place of their names."""
    model: str
    """Name of the model."""
    system: str
    """Its system."""
    settings: dict[str, Any]
    """The system's settings that were set; the others have their defaults."""
    recipe: Recipe
    """How it is trained."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """Seed of initialisation, dropout, batches and negatives."""

    @property
    def encoder_name(self) -> str:
        """Name of the encoder."""
        return self.encoder.name

    @property
    def path(self) -> str:
        """`dataset/encoder/model/seed`, its place under `runs/` in the results folder."""
        return f"{self.dataset}/{self.encoder_name}/{self.model}/{self.seed}"


class Metric(Strict):
    """Micro precision, recall and F1 x 100 of one metric."""

    precision: float
    """Precision."""
    recall: float
    """Recall."""
    f1: float
    """F1."""
    gold: int
    """What is to be found."""
    predicted: int
    """What was predicted."""
    correct: int
    """What of it is right."""
    types: dict[str, Any]
    """The same by type."""


class Scores(Strict):
    """The scores of one way to match relations."""

    ent: Metric
    """Type and boundaries."""
    rel: Metric
    """Relation type and both boundaries."""
    rel_plus: Metric
    """Rel and both entity types."""
    rel_gold_entities: Metric | None = None
    """Rel of relations decided between the gold entities; none of a system that decides none so."""


class BothScores(Strict):
    """The scores by how relations are matched."""

    symmetric: Scores
    """Head and tail of symmetric relations ordered by position."""
    directed: Scores
    """Every relation as annotated."""


class ScoredRun(Strict):
    """What the record of every run holds."""

    dataset: str
    """Dataset's name in the configuration."""
    encoder: str
    """Encoder's name in the configuration."""
    model: str
    """Model's name in the configuration."""
    seed: int
    """Seed of initialisation, dropout, batches and negatives."""
    split: str
    """Split that was scored."""
    scores: BothScores
    """Micro P, R, F1 x 100 by matching (symmetric, directed) and metric, overall and by type."""
    test_sentences: int
    """Sentences of the scored split."""


class RecipeName(Strict):
    """A recipe that nothing was trained by."""

    name: str
    """Recipe of the runs that it is compared with."""


class ExternalRecord(ScoredRun):
    """The record.json of predictions made elsewhere; `encoder` and `recipe` are those of the runs beside it."""

    system: Literal["external"]
    """What stands for the system."""
    recipe: RecipeName
    """Recipe of the runs that it is compared with."""
    dev: dict[str, float]
    """Nothing."""
    maker: str
    """Who or what made the predictions."""
    date: str
    """When they were made."""
    file: str
    """The file that they were read from."""
    sha256: SHA256
    """Its checksum."""
    lost: dict[str, int]
    """What of the file could not be laid on the words of the split, by reason."""
    changed: dict[str, int]
    """What was read otherwise than it stands there."""
    unknown_types: dict[str, int]
    """Entities and relations of types that the dataset lacks; they count as wrong."""


class Record(ScoredRun):
    """results/.../runs/{dataset}/{encoder}/{model}/{seed}/record.json"""

    system: str
    """Module of the system."""
    settings: dict[str, Any]
    """The system's settings that were set; the others have their defaults."""
    recipe: Recipe
    """How it was trained."""
    selection: str
    """Which epoch's weights were selected."""
    citation: str
    """Paper that defines the system."""
    encoder_source: dict[str, Any]
    """Where the weights came from: source, resolved revision, SHA-256."""
    selected_epoch: NotNegative
    """Epochs after which the selected weights stood; of parts trained one after another, of the last part."""
    dev: dict[str, float]
    """Dev F1 x 100 of that epoch."""
    trained_on: Literal["train", "train+dev"]
    """Splits trained on."""
    train_sentences: int
    """Sentences trained on."""
    dev_sentences: int
    """Sentences of the dev split."""
    truncated_words: int
    """Words of train and dev that did not fit the encoder; the labels on them were not seen."""
    parameters: int
    """Trainable and frozen parameters."""
    seconds: dict[str, float]
    """Wall-clock seconds of training (all epochs) and of the evaluations on dev."""
    sentences_per_s: float
    """Training speed in what batches are made of (sentences; of a model over pairs, pairs), mean of the log's rows."""
    peak_memory_mib: dict[str, float | None]
    """Peak resident memory of the process and of the GPU's allocator, MiB."""
    git_commit: str
    """Commit of this project; + when the tree differed from it."""
    device: str
    """cpu or cuda."""
    device_name: str
    """Model of the device."""
    threads: int
    """CPU threads used."""
    precision: str
    """Arithmetic that `auto` resolved to."""
    versions: dict[str, str]
    """Versions of Python and packages."""


# -- a site, and trials ------------------------------------------------------------------------------------------------


class Partitions(Strict):
    """Partitions by what a job does; one that is not named is SLURM's default."""

    gpu: Text | None = None
    """For training, prediction, attention and timing when `gpus` is above 0."""
    cpu: Text | None = None
    """For everything else."""


class Limits(Strict):
    """What a job may ask for at most."""

    cpus: Count | None = None
    """CPUs."""
    mem_mb: Count | None = None
    """Memory, MiB."""
    runtime: Count | None = None
    """Run time, minutes."""


class Site(Strict):
    """site.yaml: what this site's SLURM is like. No key is needed."""

    account: Text | None = None
    """Account that jobs are charged to."""
    partitions: Partitions = Partitions()
    """Partitions by what a job does; one that is not named is SLURM's default."""
    gpus: Literal["auto", 0, 1] = "auto"
    """GPUs of each training, prediction, attention and timing job; auto is 1 where sinfo shows any, else 0."""
    gpu_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+\z", description="letters, digits, . and _")] | None = None
    """Type of GPU, as sinfo --format=%G shows it."""
    qos: Text | None = None
    """Quality of service."""
    constraint: Text | None = None
    """Features that a node must have."""
    limits: Limits = Limits()
    """What a job may ask for at most."""


class Values(Strict):
    """What a value is drawn from: a list, or a range."""

    one_of: Annotated[list[Any], Field(min_length=1)] | None = None
    """The values; `[...]` in short."""
    least: Positive | None = None
    """Lower end of a range; drawn uniformly in the logarithm."""
    most: Positive | None = None
    """Its upper end."""

    @model_validator(mode="after")
    def _list_or_range(self) -> Self:
        if self.one_of is None and (self.least is None or self.most is None or self.least >= self.most):
            raise mistake("give a list of values, or least and a greater most")
        return self


class Search(Strict):
    """A random search for a recipe: the same trials for every model, judged by Rel+ on dev."""

    recipe: str
    """Declared recipe that every trial changes, and that the outcome is written under."""
    encoder: str
    """Declared encoder."""
    datasets: Names
    """Declared datasets; a recipe is chosen for each."""
    models: Names
    """Declared models, one a system."""
    trials: Count
    """How many trials each model has on each dataset."""
    seed: Natural
    """Of the draws."""
    seeds: Seeds
    """Random seeds of every trial; their mean is judged."""
    space: dict[str, Annotated[Values, BeforeValidator(_as_values)]]
    """By key of a recipe, or `settings.NAME` for a setting that every system has: values of which one is drawn, or the
    ends of a range."""
