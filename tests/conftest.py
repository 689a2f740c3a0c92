"""What several tests share: a tiny encoder on disk, a hand-made corpus, a prepared dataset."""

import argparse
import copy
import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModel, BertTokenizerFast, PreTrainedConfig, PreTrainedTokenizerFast

from sinet import systems
from sinet.cli import build_parser
from sinet.contract import Extractor, Labels
from sinet.data.parse import parsed
from sinet.data.sentence import read_sentences, write_sentences
from sinet.encoders.encoder import Encoder
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.grid.config import load_config
from sinet.grid.mistakes import validated
from sinet.grid.plan import Plan
from sinet.mirrors import MIRRORS_VARIABLE
from sinet.provenance import ROOT
from sinet.schema import Config, DataFile, Dataset, EncoderSpec, RunSpec, TrainingRecipe
from sinet.systems import sources
from tests.warm import warm_python

DATASETS = Path(os.environ.get("SINET_TEST_DATASETS", "../shared/datasets"))
CORPUS, REVIEWS = (Path(__file__).parent / "data" / name for name in ("ten.jsonl", "reviews.jsonl"))
SOURCES = ("Snakefile", "config.yaml", "config", "envs", "profiles", "slurm", "workflow", "sinet", "baselines")
SOURCES += ("snakemake_logger_plugin_sinet",)
LONG = ("test_slurm", "test_rehearsal", "test_workflow", "test_systems", "test_failures", "test_plan", "test_archive")
LABELS = Labels(
    ("Method", "Task", "Material"), ("Used-for", "Part-of", "Compare", "Never-seen"), frozenset({"Compare"})
)
ROLES = Labels(("Aspect", "Opinion"), ("NEG", "NEU", "POS", "Never-seen"))

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ARCHITECTURES = {
    "bert": {},
    "albert": {"embedding_size": 16},
    "mpnet": {"max_position_embeddings": 162},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "deberta-v2": {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]}
    | {"share_att_key": True, "position_biased_input": False, "type_vocab_size": 0},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "roformer": {},
}
"""Architectures on which every system is tried, and what the configuration of each has of its own."""
NO_PAIR_MASK = {"deberta-v2", "modernbert"}
"""Architectures that mask the embeddings, or by distance."""
NO_POSITION_IDS = {"deberta-v2", "modernbert", "mpnet", "roformer"}
"""Architectures in which the order of the pieces says where they are, or a part of it."""
BYTE_LEVEL, SENTENCE_PIECE = ("roberta", "modernbert"), ("albert", "xlm-roberta", "camembert", "deberta-v2")
"""Those whose tokenizer is of this kind; the others cut word pieces."""


def tiny_config(kind: str) -> PreTrainedConfig:
    """Two layers over the vocabulary of `tiny_tokenizer`, which reads 160 word pieces, or 159 if one place is
    padding's."""
    sizes = {k: v for k, v in SMALL.items() if kind != "distilbert"}
    rows = {"vocab_size": 480 if kind in BYTE_LEVEL else 200, "max_position_embeddings": 160, "pad_token_id": 0}
    return AutoConfig.for_model(kind, **sizes | rows | ARCHITECTURES[kind])


def corpus_of(system: str) -> tuple[Labels, Path]:
    """The ten sentences that a system is tried on, and their labels: of reviews for systems of two roles."""
    return (ROLES, REVIEWS) if systems.settings(system).two_roles else (LABELS, CORPUS)


@pytest.fixture(autouse=True)
def no_other_mirrors(monkeypatch):
    """The mirrors of whoever runs the tests come before those that a test gives: they are not looked into."""
    monkeypatch.delenv(MIRRORS_VARIABLE, raising=False)


def tiny_tokenizer(folder: Path, kind: str = "bert") -> PreTrainedTokenizerFast:
    """A vocabulary of the corpus's words and of letters or bytes, so that unknown words have several pieces."""
    words = sorted({w.lower() for s in read_sentences(CORPUS) for w in s.tokens})
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind in BYTE_LEVEL:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=480, special_tokens=special, initial_alphabet=alphabet)
        made.train_from_iterator([f" {word}" for word in words], trainer)
    elif kind in SENTENCE_PIECE:
        scored = [*((piece, 0.0) for piece in special), *((f"\u2581{word}", -1.0) for word in words)]
        made = Tokenizer(models.Unigram([*scored, *((piece, -9.0) for piece in ["\u2581", *letters])], unk_id=1))
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    else:
        pieces = [*special, *words, *letters, *(f"##{c}" for c in letters)]
        vocabulary = folder / "vocab.txt"
        vocabulary.write_text("\n".join(dict.fromkeys(pieces)), encoding="utf-8")
        return BertTokenizerFast(str(vocabulary), do_lower_case=True)
    made.normalizer = normalizers.Lowercase()
    roles = zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True)
    return PreTrainedTokenizerFast(tokenizer_object=made, **{f"{role}_token": token for role, token in roles})


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory):
    """Writes a tiny random encoder of an architecture to disk, as a hub would hold it."""

    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(0)
        AutoModel.from_config(tiny_config(kind)).save_pretrained(folder)
        tiny_tokenizer(folder, kind).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def fresh_encoder(encoder_folder):
    """A new copy of the tiny encoder of an architecture as it is loaded from disk."""

    @functools.cache
    def load(kind: str) -> Encoder:
        declared = encoder_spec({"name": kind, "path": str(encoder_folder(kind)), "cased": False})
        return load_encoder(declared, locate_encoder(declared))

    return lambda kind: Encoder(copy.deepcopy(load(kind).model), load(kind).tokenizer)


@pytest.fixture
def tiny_encoder(tmp_path):
    """A fresh tiny BERT with fixed weights."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**{"model_type": "bert"} | SMALL | {"vocab_size": 200})
    model = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False)
    return Encoder(model, tiny_tokenizer(tmp_path))


@pytest.fixture(scope="session")
def tiny_mirror(encoder_folder, tmp_path_factory) -> str:
    """A mirror that holds the tiny encoder of `tiny_run`."""
    mirror = tmp_path_factory.mktemp("mirror")
    (mirror / "encoders").mkdir()
    (mirror / "encoders" / "tiny").symlink_to(encoder_folder("bert"))
    return str(mirror)


def tiny_run(settings: dict, seed: int, **recipe: object) -> dict:
    """A run of SINET on the hand-made corpus with an encoder of `tiny_mirror`, as `plan` spells it out."""
    common = {"name": "tiny", "encoder_lr": 3e-3, "head_lr": 3e-3, "warmup": 0.1, "clip": 1.0, "precision": "float32"}
    return {
        "dataset": "ten",
        "encoder": {"name": "tiny", "hub": "nobody/tiny", "revision": "0" * 40, "cased": False},
        "model": "sinet",
        "system": "sinet",
        "settings": settings,
        "recipe": load_config()["recipe_defaults"] | common | {"stages": {}} | recipe,
        "seed": seed,
    }


def dataset(declared: dict) -> Dataset:
    """A declaration as it is prepared from."""
    return validated(Dataset, declared)


def data_file(declared: dict) -> DataFile:
    """A declared file of a dataset."""
    return validated(DataFile, declared)


def encoder_spec(declared: dict) -> EncoderSpec:
    return validated(EncoderSpec, declared)


def spec(run: dict) -> RunSpec:
    """A run as the trainer takes it."""
    return RunSpec.model_validate(run)


@functools.cache
def _defaults() -> dict:
    return load_config()["recipe_defaults"]


def set_on(model: Extractor, **settings: object) -> None:
    """Change settings of a model where it has them, also beyond their bounds."""
    known = {key: value for key, value in settings.items() if key in model.Settings.model_fields}
    model.settings = model.settings.model_copy(update=known)


def recipe_of(**changes: object) -> TrainingRecipe:
    """The default recipe, four epochs, with changes."""
    return TrainingRecipe.model_validate(_defaults() | {"epochs": 4} | changes)


def recorded_recipe(name: str, **changes: object) -> dict:
    """The recipe of a record."""
    return recipe_of(**changes).model_dump() | {"name": name, "stages": {}}


def command_parsers() -> dict[str, argparse.ArgumentParser]:
    """Of each command, as it is called: those of users, and those of the workflow's steps behind `step`."""
    commands = dict(build_parser()._subparsers._group_actions[0].choices)
    steps = commands.pop("step")._subparsers._group_actions[0].choices
    return commands | {f"step {name}": parser for name, parser in steps.items()}


def tiny_plan(results: Path, runs: dict[str, str], titles: dict[str, str] | None = None, **changes: object) -> Plan:
    """A plan of runs (path to recipe) whose datasets, encoders and models are declared as far as they must be."""
    titles = titles or {}
    files = {split: {"path": f"{split}.jsonl"} for split in ("train", "dev", "test")}
    types = {key: value for key, value in LABELS.to_json().items() if value}
    datasets, encoders, models = ({run.split("/")[place]: None for run in runs} for place in range(3))
    known = sources()
    config = load_config() | {
        "results": str(results),
        "datasets": {n: {"title": titles.get(n, n), "format": "jsonl", "files": files} | types for n in datasets},
        "encoders": {n: {"title": titles.get(n, n), "path": n, "cased": False} for n in encoders},
        "models": {
            n: {"title": titles.get(n, n), "system": n if n in known else "sinet"} for n in {**models, "sinet": None}
        },
        "recipes": {name: {system: {"epochs": 2} for system in known} for name in {*runs.values()}},
    }
    return Plan(validated(Config, config | changes), results, runs)


def tiny_grid(folder: Path, mirror: str, systems: dict[str, dict]) -> dict:
    """A configuration without its `grid`: the hand-made corpus, which is written into `folder`, the encoder of
    `tiny_mirror` and, by system, what its recipe `tiny` sets besides what `tiny_run` has in common."""
    from sinet.systems import load

    corpus = folder / "ten"
    corpus.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (corpus / f"{split}.jsonl").write_bytes(CORPUS.read_bytes())
    run = tiny_run({}, 0)
    common = {key: value for key, value in run["recipe"].items() if key not in ("name", "stages")}
    return {
        "results": "results/tiny",
        "mirrors": [str(folder), mirror],
        "remark": None,
        "datasets": {
            "ten": {"title": "Ten", "format": "jsonl"}
            | {"files": {split: {"path": f"{split}.jsonl"} for split in ("train", "dev", "test")}}
            | {key: value for key, value in LABELS.to_json().items() if value}
        },
        "encoders": {"tiny": {k: v for k, v in run["encoder"].items() if k != "name"} | {"title": "tiny"}},
        "recipes": {
            "tiny": {s: common | recipe | {"settings": dict(load(s).test_settings)} for s, recipe in systems.items()}
        },
        "efficiency": {
            "counted_sentences": 4,
            "counted_words": [8],
            "timed_sentences": 4,
            "timed_seconds": 0.1,
            "architectures": [],
        },
        "case_study": {"model": "sinet", "sentences": ["only-right"]},
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files whose tests take minutes come first, so that no process is left alone with one of them."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session")
def prepared_for(tmp_path_factory):
    """The hand-made corpus of a system as a prepared dataset: all three splits are the same ten sentences."""

    @functools.cache
    def make(labels: Labels, corpus: Path, parses: bool) -> Path:
        folder = tmp_path_factory.mktemp("prepared")
        for split in ("train", "dev", "test"):
            path = folder / f"{split}.jsonl"
            path.write_text(corpus.read_text(encoding="utf-8"), encoding="utf-8")
            if parses:
                write_sentences(path, parsed(read_sentences(path)))
        (folder / "labels.json").write_text(json.dumps(labels.to_json()), encoding="utf-8")
        return folder

    return lambda system: make(*corpus_of(system), systems.settings(system).needs_parses)


@pytest.fixture(scope="session")
def prepared(prepared_for) -> Path:
    return prepared_for("sinet")


@pytest.fixture(scope="session")
def prepared_run(tiny_mirror, prepared, tmp_path_factory):
    """A finished run that has learned the ten sentences of the corpus."""
    from sinet.model.sinet import System
    from sinet.train.trainer import train_run

    folder = tmp_path_factory.mktemp("run")
    settings = System.test_settings | {"dropout": 0.0, "attention_dropout": 0.0}
    run = tiny_run(settings, 0, epochs=60, batch_size=5, weight_decay=0.0, selection="last")
    train_run(spec(run), prepared, folder / "out", folder / "state", [tiny_mirror])
    return folder / "out"


def copy_project(folder: Path) -> Path:
    """The sources of the project, copied into `folder`: a checkout in which nothing has been run."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return folder


def snakemake(
    folder: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess:
    """The quick grid, called in `folder`."""
    return subprocess.run(
        ["snakemake", "--cores", "all", "--configfile", "config/quick.yaml", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"SINET_MIRRORS": str(DATASETS.resolve())} | dict(environment),
    )


@pytest.fixture(scope="session")
def warm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment of calls of Snakemake whose steps take no time to import (`tests/warm.py`)."""
    with warm_python(ROOT, tmp_path_factory.mktemp("warm")) as environment:
        environment.pop(MIRRORS_VARIABLE, None)
        yield environment


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id, warm) -> Path:
    """A copy of the project in which the quick grid has been run: once for all workers, each of which has a copy."""
    base = tmp_path_factory.getbasetemp()
    first = (base if worker_id == "master" else base.parent) / "quick-grid"
    with FileLock(f"{first}.lock"):
        if not first.exists():
            made = copy_project(first.with_name("quick-grid.part"))
            done = snakemake(made, environment=warm)
            assert done.returncode == 0, done.stderr[-4000:]
            made.rename(first)
    return shutil.copytree(first, tmp_path_factory.mktemp("project") / "project", symlinks=True)
