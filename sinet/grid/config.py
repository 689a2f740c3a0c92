"""The configuration: read, laid over one another, and checked before the first job runs.

`config.yaml` lies over `config/{datasets,encoders,models,recipes,chosen}.yaml`, and any `--configfile` over it key by
key (as Snakemake merges them). Its form is `sinet.schema.Config`; here is checked what names what.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sinet import published, systems
from sinet.data.sources import find_file, release_folders
from sinet.errors import UserError, nearest, shown
from sinet.files import similar_path
from sinet.grid import recipes
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.mistakes import validated
from sinet.mirrors import DOWNLOADS, HUB_OFFLINE, mirror_folders
from sinet.provenance import DECLARED
from sinet.schema import TOKENIZERS, Block, Config, Dataset, OfModel, Strict, some_of

BASE_FILES = (
    *(f"config/{name}.yaml" for name in ("datasets", "encoders", "models", "recipes", "chosen")),
    "config.yaml",
)


def load_config(*overlays: Path | str) -> dict[str, Any]:
    """The base files with `overlays` laid over them, unchecked; raises `UserError` for a file that cannot be read."""
    config = merged(*(DECLARED / name for name in BASE_FILES), *map(Path, overlays))
    expand_folds(config)
    return config


def merged(*paths: Path) -> dict[str, Any]:
    """YAML files laid over one another, as they stand; raises `UserError` for one that cannot be read."""
    config: dict[str, Any] = {}
    for path in paths:
        try:
            loaded = read_yaml(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}{similar_path(path)}") from None
        if not isinstance(loaded, dict):
            raise UserError(f"{path}: should be a mapping of keys such as `grid:`")
        lay_over(config, loaded)
    return config


def lay_over(config: dict, overlay: dict) -> None:
    """Change a configuration by what an overlay says, key by key."""
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            lay_over(config[key], value)
        else:
            config[key] = value


def read_config(*overlays: Path | str) -> Config:
    """The same, checked; raises `UserError` as `checked`."""
    return checked(load_config(*overlays))


def checked(config: dict) -> Config:
    """A loaded configuration as an object.

    Raises:
        UserError: every mistake found, one a line, each naming the key and what would be right.
    """
    found = validated(Config, config)
    if mistakes := list(_mistakes(found)):
        raise UserError("\n".join(mistakes))
    return found


def expand_folds(config: dict) -> None:
    """Put, for each dataset declared by `folds`, one dataset a fold in its place (`NAME-0`, ...): its test split is the
    fold, its training split all others; where `dev: next_fold` says so, the next one is its development split instead.
    `NAME` in a grid means all of them.

    Raises:
        UserError: no folds in the list.
    """
    names = {}
    datasets = config.get("datasets")
    for name, declared in list(datasets.items()) if isinstance(datasets, dict) else []:
        if not isinstance(declared, dict) or not isinstance(declared.get("folds"), list):
            continue
        if not declared["folds"]:
            raise UserError(f"datasets.{name}.folds: the list is empty; name at least two")
        common = {key: value for key, value in declared.items() if key != "folds"}
        names[name] = [f"{name}-{i}" for i in range(len(declared["folds"]))]
        for i, fold in enumerate(names[name]):
            files = {"test": declared["folds"][i]}
            others = [*declared["folds"][:i], *declared["folds"][i + 1 :]]
            if declared.get("dev") == "next_fold" and others:
                files["dev"] = others.pop(i % len(others))
            files["train"] = others
            config["datasets"][fold] = {"folder": name} | common | {"files": files, "fold_of": name}
        del config["datasets"][name]
    for block in config.get("grid", []) if isinstance(config.get("grid"), list) else []:
        if isinstance(block, dict) and isinstance(block.get("datasets"), list):
            block["datasets"] = [fold for name in block["datasets"] for fold in names.get(name, [name])]


# -- what declarations mean --------------------------------------------------------------------------------------------


def recipe_key(config: Config, dataset: str) -> str:
    """The dataset whose values in a recipe, or of a model, hold for this one: itself, the whole of a fold, or what it
    is a form of."""
    declared = config.datasets[dataset]
    return declared.form_of or declared.fold_of or dataset


def block_models(config: Config, block: Block) -> dict[str, tuple[list[str], list[int]]]:
    """The models of a block of the grid, each with encoders and seeds: its own, else the block's, and where the block
    names no seeds the grid's."""
    models = {model: own or OfModel() for model, own in block.models.items()}
    return {
        model: (own.encoders or block.encoders or [], own.seeds or block.seeds or config.seeds)
        for model, own in models.items()
    }


def cells(config: Config, block: Block) -> Iterator[tuple[str, str, str, list[int]]]:
    """Dataset, encoder, model and its seeds, of each that a block of the grid asks for, in its order. A model that is
    given by predictions stands on the datasets, and unless the block says which, with the seeds that it has them of."""
    models = block_models(config, block)
    encoders = dict.fromkeys(encoder for of_model, _ in models.values() for encoder in of_model)
    for dataset, encoder, (model, (of_model, seeds)) in itertools.product(block.datasets, encoders, models.items()):
        if encoder not in of_model:
            continue
        declared = config.models.get(model)
        if declared is None or declared.predictions is None:
            yield dataset, encoder, model, seeds
        elif dataset in declared.predictions:
            own = block.models[model]
            given = sorted(map(int, declared.predictions[dataset]))
            yield dataset, encoder, model, (own and own.seeds) or given


def absent_files(name: str, declared: Dataset, mirrors: list[str]) -> str | None:
    """Why a licensed corpus is not to be had; None where a dataset is. Begins with what is absent, in short, up to a
    colon. Raises `UserError` for a file of any other dataset that is neither in a mirror nor published."""
    folder = declared.folder or name
    if declared.format == "ace" and not release_folders(declared.release or "", mirrors):
        what = f"{declared.release}/ with *.apf.xml is in none of the mirrors"
        return f"licensed corpus absent: {declared.title} ({declared.licence}): {what}"
    for file in declared.files.all():
        if file.url or find_file(folder, file.path, mirrors):
            continue
        place = Path(folder) / file.path
        absent = f"{place} is in none of the mirrors"
        if declared.licence:
            return f"licensed corpus absent: {declared.title} ({declared.licence}): {absent}"
        where = f"{declared.fold_of}.folds" if declared.fold_of else f"{name}.files"
        searched = mirror_folders(mirrors)
        right = next(filter(None, (similar_path(mirror / place) for mirror in searched)), "; put it into one")
        raise UserError(f"datasets.{where}: {absent} ({', '.join(map(str, searched))}){right}")
    return None


def absent_weights(config: Config, name: str) -> str | None:
    """Why an encoder of the hub is not to be had without a network; None where it is. Begins as `absent_files`'."""
    if encoder_at_hand(config, name):
        return None
    declared = config.encoders[name]
    return (
        f"weights absent: {declared.title}: encoders/{name}/ is in none of the mirrors, {declared.hub} not in "
        f"the hub's cache, and {HUB_OFFLINE}=1 forbids fetching it"
    )


def encoder_at_hand(config: Config, name: str) -> bool:
    """Whether an encoder is here without a network: in a package, a folder or a mirror, or in the hub's cache."""
    declared = config.encoders[name]
    mirrors = mirror_folders([*config.mirrors, str(DOWNLOADS)])
    if declared.hub is None or any((folder / "encoders" / name).is_dir() for folder in mirrors):
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(declared.hub, "config.json", revision=declared.revision), str)


def hub_is_offline() -> bool:
    """Whether the environment forbids to ask the hub."""
    return os.environ.get(HUB_OFFLINE, "0") == "1"


# -- mistakes in what names what ---------------------------------------------------------------------------------------


def _unknown(where: str, names: Iterable[str], known: Iterable[str], what: str = "is not declared") -> Iterator[str]:
    known = list(known)
    yield from (f"{where}: {shown(name)} {what}, {nearest(name, known)}" for name in names if name not in known)


def _mistakes(config: Config) -> Iterator[str]:
    for number, block in enumerate(config.grid):
        yield from _block_mistakes(config, f"grid[{number}]", block)
    architectures = [name for name, encoder in config.encoders.items() if encoder.architecture]
    if measured := config.efficiency:
        for key in ("architectures", "timed_architectures"):
            what = "is not an architecture without weights"
            yield from _unknown(f"efficiency.{key}", getattr(measured, key), architectures, what)
    for name, model in config.models.items():
        if model.predictions is None:
            yield from _system_mistakes(f"models.{name}", model.system, model.settings, ".system")
            yield from _key_mistakes(config, f"models.{name}.datasets", model.datasets)
            for key, on in model.datasets.items():
                yield from _system_mistakes(f"models.{name}.datasets.{key}", model.system, on.settings, "")
        else:
            yield from _unknown(f"models.{name}.predictions", model.predictions, config.datasets)
    for name in config.recipes:
        yield from _recipe_mistakes(config, name)
    for name, dataset in config.datasets.items():
        yield from _dataset_mistakes(config, f"datasets.{name}", dataset)
    for name, encoder in config.encoders.items():
        for key in TOKENIZERS:
            if (other := getattr(encoder, key)) and (other in architectures or other not in config.encoders):
                yield f"encoders.{name}.{key}: {shown(other)} is not a declared encoder with a tokenizer of its own"
        if encoder.sizes and encoder.sizes not in architectures:
            yield f"encoders.{name}.sizes: {shown(encoder.sizes)} is not a declared architecture"
    yield from _unknown("reference", filter(None, [config.reference]), config.models)
    if studied := config.case_study:
        yield from _unknown("case_study.model", [studied.model], config.models)
        if studied.model in config.models and config.models[studied.model].predictions is not None:
            yield f"case_study.model: {studied.model} is given by predictions, which have no attention"
        relation_types = {kind for dataset in config.datasets.values() for kind in dataset.relation_types}
        for number, (_, kind, _) in enumerate(studied.triples):
            what = "is not a relation type of any dataset"
            yield from _unknown(f"case_study.triples[{number}]", [kind], relation_types, what)
    yield from _title_mistakes(config)
    yield from _column_mistakes(config)
    yield from _published_mistakes(config)


def _block_mistakes(config: Config, where: str, block: Block) -> Iterator[str]:
    models = block_models(config, block)
    encoders = dict.fromkeys(encoder for of_model, _ in models.values() for encoder in of_model)
    yield from _unknown(f"{where}.datasets", block.datasets, config.datasets)
    yield from _unknown(f"{where}.encoders", encoders, config.encoders)
    yield from _unknown(f"{where}.models", models, config.models)
    for model, (of_model, _) in models.items():
        if not of_model:
            yield f"{where}: {model} has no encoder; give the block or the model `encoders`"
    yield from _unknown(f"{where}.recipe", [block.recipe], config.recipes)
    for model in models.keys() & config.models.keys() if block.recipe in config.recipes else ():
        system = config.models[model].system
        if system in systems.sources() and system not in config.recipes[block.recipe]:
            yield f"recipes.{block.recipe}: no recipe for {system}, which {where} asks for ({model})"


def _dataset_mistakes(config: Config, where: str, dataset: Dataset) -> Iterator[str]:
    if dataset.files.dev is None and dataset.dev_share is None:
        yield f"{where}.files: dev is missing; name a file, or give dev_share"
    paths = [file.path for file in dataset.files.all()]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        yield f"{where}.files: {twice[0]} is listed twice; a sentence belongs to one split"
    if dataset.dev and not dataset.fold_of:
        yield f"{where}.dev: is for a dataset in folds; name a file as files.dev"
    if dataset.format == "ace" and not (dataset.release and dataset.licence):
        yield f"{where}: format ace needs release (the corpus's folder in a mirror) and licence"
    yield from _unknown(
        f"{where}.symmetric", dataset.symmetric or (), dataset.relation_types, what="is not a relation type"
    )
    for split, counts in (dataset.declared().get("counts") or {}).items():
        for field, types in (("entities", dataset.entity_types), ("relations", dataset.relation_types)):
            counted = sorted(counts.get(field) or ())
            yield from _unknown(f"{where}.counts.{split}.{field}", counted, types, what="is not a declared type")
    for split, lengths in (dataset.documents or {}).items():
        of_split = getattr(dataset.counts, split, None)
        if of_split is None or of_split.sentences != sum(lengths):
            yield f"{where}.documents.{split}: {sum(lengths)} sentences in all; counts.{split}.sentences should say so"
    if dataset.form_of and dataset.form_of not in config.datasets:
        yield f"{where}.form_of: {shown(dataset.form_of)} is not declared"


def _key_mistakes(config: Config, where: str, names: Iterable[str]) -> Iterator[str]:
    """Of datasets for which a recipe or a model has values: each has to be a `recipe_key`."""
    keys = {name: recipe_key(config, name) for name in config.datasets}
    for name in names:
        if (key := keys.get(name, name)) != name:
            yield f"{where}: {shown(name)} has the values of {key}; write {key}"
        else:
            yield from _unknown(where, [name], sorted({*keys.values()}))


def _recipe_mistakes(config: Config, name: str) -> Iterator[str]:
    for system, changed in config.recipes[name].items():
        if system == "defaults":
            continue
        where, training = f"recipes.{name}.{system}", changed.declared()
        yield from _system_mistakes(where, system, training.get("settings", {}), "")
        of_datasets, stages = training.get("datasets", {}), training.get("stages", {})
        yield from _key_mistakes(config, f"{where}.datasets", of_datasets)
        for dataset, changes in of_datasets.items():
            here = f"{where}.datasets.{dataset}"
            yield from _system_mistakes(here, system, changes.get("settings", {}), "")
            yield from _unknown(
                f"{here}.stages", sorted(changes.get("stages", {})), list(stages) or ["none"], what="is not a stage"
            )
        if system in systems.sources():
            for dataset in ("", *of_datasets):
                found = recipes.mistakes(recipes.spell_out(config, name, system, dataset)[0], system)
                yield from (f"{where}.{f'datasets.{dataset}.' if dataset else ''}{line}" for line in found)


def _title_mistakes(config: Config) -> Iterator[str]:
    """What in the grid has the title of something else: tables and figures tell things apart by their titles."""
    in_grid = [(d, e, m) for block in config.grid for d, e, m, _ in cells(config, block)]
    for place, kind in enumerate(("datasets", "encoders", "models")):
        titles: dict[str, str] = {}
        if kind == "datasets":
            titles = {title: f"the published column {key}" for key, title in published.DATASETS.items()}
        known = getattr(config, kind)
        for name in sorted({cell[place] for cell in in_grid} & known.keys()):
            declared = known[name]
            whole = getattr(declared, "fold_of", None) or name
            column = published.DATASETS.get(declared.published or "") if kind == "datasets" else None
            if column is not None and column == declared.title:
                titles[column] = whole
            if titles.setdefault(declared.title, whole) != whole:
                taken = f"is already the title of {titles[declared.title]}"
                yield f"{kind}.{name}.title: {shown(declared.title)} {taken}; tables would mix them up"


def _column_mistakes(config: Config) -> Iterator[str]:
    """Models that stand twice, on two datasets, in one published column: a row has one figure there."""
    stands: dict[tuple, str] = {}
    for block in config.grid:
        for dataset, encoder, model, _ in cells(config, block):
            if (declared := config.datasets.get(dataset)) is None or declared.published is None:
                continue
            whole = declared.fold_of or dataset
            there = stands.setdefault((declared.published, model, encoder, block.recipe), whole)
            if there != whole:
                yield (
                    f"datasets.{whole}.published: {model} with {encoder} already has a row under {declared.published}, "
                    f"on {there}; run it on one of the two"
                )


def _published_mistakes(config: Config) -> Iterator[str]:
    """Published rows of one's own of an unknown dataset, names of systems and settings that no published table has, and
    those that two models claim."""
    tables = published.tables()
    own: list[dict] = []
    try:
        own = published.own_rows(Path(config.published)) if config.published else []
    except OSError as error:
        yield f"published: {config.published}: {error.strerror}{similar_path(Path(config.published or ''))}"
    except UserError as error:
        yield f"published: {error}"
    datasets = [*published.DATASETS, *dict.fromkeys(d.fold_of or name for name, d in config.datasets.items())]
    for number, row in enumerate(own):
        yield from _unknown(f"published: {config.published}: main[{number}]", row["figures"], datasets)
    known = {
        "published": {row["system"] for row in (*tables["main"], *own)},
        "setting": {row["setting"] for rows in tables["ablation"].values() for row in rows},
    }
    for field, names in known.items():
        claimed: dict[str, str] = {}
        for model, declared in config.models.items():
            if (name := getattr(declared, field)) is None:
                continue
            yield from _unknown(f"models.{model}.{field}", [name], names, what="is in no published table")
            if claimed.setdefault(name, model) != model:
                taken = f"is already that of {claimed[name]}"
                yield f"models.{model}.{field}: {shown(name)} {taken}; only one model may have it"


def _system_mistakes(where: str, system: str, settings: dict, field: str) -> Iterator[str]:
    if system not in systems.sources():
        yield f"{where}{field}: unknown system {shown(system)}, {nearest(system, systems.sources())}"
        return
    try:
        validated(_some_settings(system), settings, f"{where}.settings.")
    except UserError as error:
        yield str(error)


@functools.cache
def _some_settings(system: str) -> type[Strict]:
    return some_of(systems.settings(system), "Settings")
