"""From configuration to plan: everything is checked here, before the first job runs.

A configuration is `config.yaml` over `config/{datasets,encoders,models,recipes}.yaml`, with any `--configfile` laid
over it key by key (as Snakemake merges them). `resolve` turns it into runs, each with all it needs spelled out.
"""

import functools
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import jsonschema.protocols
import yaml

from sinet import published, recipes, systems
from sinet.data.sources import as_list, find_file, release_folders
from sinet.errors import CONTROL, UserError, nearest, shown
from sinet.files import read_text
from sinet.mirrors import DOWNLOADS, HUB_OFFLINE, mirror_folders
from sinet.provenance import ROOT

BASE_FILES = (*(f"config/{name}.yaml" for name in ("datasets", "encoders", "models", "recipes")), "config.yaml")
WANTED = {
    "integer": "a whole number",
    "number": "a finite number",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "boolean": "true or false (on the command line True or False)",
}
MOST_DIGITS = 15
"""Digits of a whole number, all of which a float64 holds too."""
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"


@dataclass(frozen=True)
class Run:
    """One training: where it stands in the grid, and everything `train` needs as one JSON object."""

    dataset: str
    encoder: str
    model: str
    seed: int
    details: dict

    @property
    def path(self) -> str:
        """`dataset/encoder/model/seed`, its place under `runs/` in the results folder."""
        return f"{self.dataset}/{self.encoder}/{self.model}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs of a grid in its order, and those left out with the reason."""

    runs: tuple[Run, ...]
    left_out: tuple[tuple[Run, str], ...]


def load_config(*overlays: Path | str) -> dict:
    """The base files with `overlays` laid over them."""
    config: dict = {}
    for path in (*(ROOT / name for name in BASE_FILES), *map(Path, overlays)):
        try:
            loaded = read_yaml(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        if not isinstance(loaded, dict):
            raise UserError(f"{path}: should be a mapping of keys such as `grid:`")
        _lay_over(config, loaded)
    expand_folds(config)
    return config


def read_yaml(path: Path) -> object:
    """What a YAML file holds; raises `UserError` with the line that is broken, or whose meaning in YAML is another
    than it looks, and `OSError`."""
    text = read_text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        for line, mistake in _misread(node):
            raise UserError(f"{path}:{line}: {mistake}")
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        what = str(getattr(error, "problem", None) or getattr(error, "reason", error))
        raise UserError(f"{where}: broken YAML: {what:.200}") from None


MOST_VALUES, DEEPEST = 20_000, 30
"""Values of a YAML file once its aliases are spelled out, and levels of them."""


class _Loader(yaml.SafeLoader):
    """Composes a bounded document: an alias counts as all that it stands for."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values, self.depth = 0, 0
        self.sizes: dict[str, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        event, before = self.peek_event(), self.values
        if isinstance(event, yaml.AliasEvent) and event.anchor in self.anchors:
            if event.anchor not in self.sizes:
                raise yaml.MarkedYAMLError(problem=f"{shown(event.anchor)} holds itself", problem_mark=event.start_mark)
            self.values += self.sizes[event.anchor]
        self.values, self.depth = self.values + 1, self.depth + 1
        if self.values > MOST_VALUES or self.depth > DEEPEST:
            most = f"more than {MOST_VALUES:,} values" if self.values > MOST_VALUES else f"more than {DEEPEST} levels"
            raise yaml.MarkedYAMLError(problem=f"{most}, aliases spelled out", problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if not isinstance(event, yaml.AliasEvent) and event.anchor:
            self.sizes[event.anchor] = self.values - before
        return node


TAG = "tag:yaml.org,2002:"
NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*|([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|\.inf|\.nan)", re.IGNORECASE)
"""Numbers that mean what they look like: YAML also reads 24:00 (to the base 60), 010 (to the base 8) and 1_000."""


KEY = re.compile(rf"{TAG}(str(.|\n)*|merge<<)")


def _misread(node: yaml.Node | None, key: str = "") -> Iterator[tuple[int, str]]:
    """What YAML reads otherwise than it looks, anywhere in a document: the line, and what to write."""
    if node is None:
        return
    line, kind = node.start_mark.line + 1, node.tag.removeprefix(TAG)
    if isinstance(node, yaml.MappingNode) and kind == "map":
        seen = set()
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode) or not KEY.fullmatch(name.tag + name.value):
                yield name.start_mark.line + 1, f"{key or 'a mapping'}: a key should be text; write it in quotes"
            elif name.value in seen:
                yield name.start_mark.line + 1, f"{shown(name.value)} stands there twice; only the last would count"
            else:
                seen.add(name.value)
                yield from _misread(value, f"{key}.{name.value}" if key else name.value)
    elif isinstance(node, yaml.SequenceNode) and kind == "seq":
        for number, item in enumerate(node.value):
            yield from _misread(item, f"{key}[{number}]")
    elif not isinstance(node, yaml.ScalarNode) or kind not in ("int", "float", "str", "bool", "null", "timestamp"):
        yield line, f"{key or 'all'}: has the type {shown(kind)} in YAML, which nothing here has; write text in quotes"
    elif kind == "timestamp":
        yield line, f"{key}: {shown(node.value)} is a date in YAML; write it in quotes"
    elif kind == "bool" and node.value.lower() not in yaml.SafeLoader.bool_values:
        yield line, f"{key}: {shown(node.value)} should be true or false"
    elif kind in ("int", "float") and not NUMBER.fullmatch(node.value):
        yield line, f"{key}: {_other_number(node.value, key)}"
    elif kind == "int" and len(node.value) > MOST_DIGITS:
        yield line, f"{key}: {shown(node.value)} is a number of {len(node.value):,} digits; write text in quotes"


def _other_number(text: str, key: str) -> str:
    if ":" in text:
        fields = text.split(":")
        read = functools.reduce(lambda whole, field: whole * 60 + float(field.replace("_", "")), fields, 0.0)
        right = "a plain number, or text in quotes"
        if key.endswith("runtime"):
            right = f"the number of minutes{f': {int(read) // 60}' if len(fields) == 3 else ''}"
        return f"{text} is read by YAML as {read:.15g}; write {right}"
    return f"{text} is read by YAML as another number than it looks; write it plainly, or as text in quotes"


def _lay_over(config: dict, overlay: dict) -> None:
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _lay_over(config[key], value)
        else:
            config[key] = value


def resolve(config: dict, offline: bool | None = None) -> Plan:
    """Check a configuration and spell out its runs.

    Args:
        offline: whether the hub may not be asked, so that runs whose weights are not here are left out; None for what
            the environment variable `HF_HUB_OFFLINE` says.

    Raises:
        UserError: the first mistakes found, one a line, each naming the key and what would be right.
    """
    mistakes = list(schema_mistakes(config, SCHEMA)) or list(_reference_mistakes(config))
    if mistakes:
        raise UserError("\n".join(mistakes))
    try:
        reasons = {name: absent(config, name) for block in config["grid"] for name in block["datasets"]}
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    named = {name for block in config["grid"] for name in _named_in(config, block)["encoders"]}
    offline = os.environ.get(HUB_OFFLINE, "0") == "1" if offline is None else offline
    weights = {name: _absent_weights(config, name) if offline else None for name in named}
    runs, left_out, seen = [], [], {}
    for number, block in enumerate(config["grid"]):
        for run in _runs_of(config, block):
            if run.path in seen:
                raise UserError(
                    f"grid[{number}]: {run.path} stands in grid[{seen[run.path]}] already; a run has one recipe"
                )
            seen[run.path] = number
            by_document = any(t["batch_size"] == "document" for _, t in recipes.trainings(run.details["recipe"]))
            if by_document and config["datasets"][run.dataset]["format"] in ("spert", "two"):
                raise UserError(
                    f"grid[{number}]: {run.path}: its batches are documents, and the files of {run.dataset} do not say "
                    "which sentences are of one; take another form of it (such as scierc-documents)"
                )
            reason = reasons[run.dataset] or weights[run.encoder]
            (left_out.append((run, reason)) if reason else runs.append(run))
    return Plan(tuple(runs), tuple(left_out))


def check_declaration(kind: str, name: object, declared: dict) -> None:
    """Hold against the schema what a step is given as JSON: one of `datasets` or `encoders`, or `recipe_defaults`.

    Raises:
        UserError: every mistake, one a line.
    """
    for key in TOKENIZERS & declared.keys():
        if isinstance(other := declared[key], dict):
            check_declaration(kind, other.get("name"), {k: v for k, v in other.items() if k != "name"})
            declared = declared | {key: "declared"}
    given = {str(name): {"title": "untitled"} | declared} if kind in ("datasets", "encoders") else declared
    if mistakes := list(schema_mistakes({kind: given}, SCHEMA, [kind])):
        raise UserError("\n".join(mistakes))


def check_run(run: dict) -> None:
    """The same for a run as `plan` spells it out."""
    if mistakes := list(itertools.islice(_unreadable(run), MOST_MISTAKES)):
        raise UserError("\n".join(mistakes))
    texts = [key for key in ("dataset", "model", "system") if not isinstance(run[key], str)]
    tables = [key for key in ("encoder", "recipe", "settings") if not isinstance(run[key], dict)]
    for key, kind in (*((k, "text") for k in texts), *((k, "a mapping") for k in tables)):
        raise UserError(f"{key}: {shown(run[key])} should be {kind}")
    if mistakes := list(schema_mistakes({"seeds": [run["seed"]]}, SCHEMA, ["seeds"])):
        raise UserError(mistakes[0])
    check_declaration("encoders", run["encoder"].get("name"), {k: v for k, v in run["encoder"].items() if k != "name"})
    whole = {key: value for key, value in run["recipe"].items() if key != "name"}
    stages = whole.pop("stages", {})
    if not isinstance(stages, dict) or not all(isinstance(stage, dict) for stage in stages.values()):
        raise UserError(f"recipe.stages: {shown(stages)} should be a mapping of parts to their trainings")
    for training in (whole, *({k: v for k, v in stage.items() if k != "stages"} for stage in stages.values())):
        check_declaration("recipe_defaults", None, training)
    mistakes = [*_system_mistakes(run["model"], run["system"], run["settings"], ".system")]
    if mistakes := mistakes or list(recipes.mistakes(run["recipe"] | {"stages": stages}, run["system"])):
        raise UserError("\n".join(mistakes))


def first_folds(config: dict, runs: Iterable[Run]) -> list[str]:
    """Datasets of runs in their order; of one in folds the first fold alone."""
    first: dict[str, str] = {}
    for run in runs:
        first.setdefault(config["datasets"][run.dataset].get("fold_of", run.dataset), run.dataset)
    return list(first.values())


def case_study(config: dict, runs: Sequence[Run]) -> list[list[Run]]:
    """For each dataset with a run of the studied model (of one in folds the first such fold) all runs on it with one of
    that model's encoders: the one under which most models are compared, of equal ones the first."""
    model = config["case_study"] and config["case_study"]["model"]
    studied = [run for run in runs if run.model == model]
    places = []
    for dataset in first_folds(config, studied):
        encoders = dict.fromkeys(run.encoder for run in studied if run.dataset == dataset)
        compared = ([run for run in runs if (run.dataset, run.encoder) == (dataset, e)] for e in encoders)
        places.append(max(compared, key=lambda beside: len({run.model for run in beside})))
    return places


def declarations(config: dict, plan: Plan, kept: list[str]) -> dict:
    """What the steps after training know of a grid, before any run has failed: `sinet.plan.GridPlan.declared` without
    what the workflow adds of the outputs.

    Args:
        kept: paths of the runs that are taken without their weights.
    """
    known = {
        "datasets": ("title", "published", "fold_of"),
        "encoders": ("title", "published"),
        "models": ("title", "system", "published", "setting"),
    }
    in_grid = {run.model for run in (*plan.runs, *(run for run, _ in plan.left_out))}
    return {
        kind: {name: {k: d[k] for k in keys if k in d} for name, d in config[kind].items()}
        for kind, keys in known.items()
    } | {
        "reference": config["reference"] if config["reference"] in in_grid else None,
        "remark": config.get("remark"),
        "runs": {run.path: run.details["recipe"]["name"] for run in plan.runs},
        "failed": [],
        "kept": kept,
        "left_out": [[run.path, reason] for run, reason in plan.left_out],
    }


TOKENIZERS = {"tokenizer", "own_tokenizer"}
"""What an architecture without weights declares of another encoder."""


def encoder_declaration(config: dict, name: str) -> dict:
    """An encoder's declaration with its name, its tokenizers' declarations in place of names, without what
    no training reads."""
    others = ("title", "published", "sizes")
    declared = {"name": name} | {k: v for k, v in config["encoders"][name].items() if k not in others}
    for key in TOKENIZERS & declared.keys():
        declared[key] = encoder_declaration(config, declared[key])
    return declared


def recipe_key(config: dict, dataset: str) -> str:
    """The dataset whose values in a recipe hold for this one: itself, the whole of a fold, or what it is a form of."""
    declared = config["datasets"][dataset]
    return declared.get("form_of", declared.get("fold_of", dataset))


def block_models(config: dict, block: dict) -> dict[str, dict]:
    """The models of a block of the grid, each with its `encoders` and `seeds`: its own, else the block's, and where the
    block names no seeds the grid's."""
    models = block["models"] if isinstance(block["models"], dict) else dict.fromkeys(block["models"])
    common = {"encoders": block.get("encoders", []), "seeds": block.get("seeds", config["seeds"])}
    return {model: common | (own or {}) for model, own in models.items()}


def _cells(config: dict, block: dict) -> Iterator[tuple[str, str, str, list[int]]]:
    """Dataset, encoder, model and its seeds, of each that a block of the grid asks for, in its order."""
    models = block_models(config, block)
    encoders = dict.fromkeys(encoder for own in models.values() for encoder in own["encoders"])
    for dataset, encoder, (model, own) in itertools.product(block["datasets"], encoders, models.items()):
        if encoder in own["encoders"]:
            yield dataset, encoder, model, own["seeds"]


def _runs_of(config: dict, block: dict) -> Iterator[Run]:
    for dataset, encoder, model, seeds in _cells(config, block):
        declared = config["models"][model]
        training, settings = _spelled_out(config, block["recipe"], declared["system"], recipe_key(config, dataset))
        settings |= declared.get("settings", {})
        for seed in seeds:
            details = {
                "dataset": dataset,
                "encoder": encoder_declaration(config, encoder),
                "model": model,
                "system": declared["system"],
                "settings": settings,
                "recipe": {"name": block["recipe"]} | training,
                "seed": seed,
            }
            yield Run(dataset, encoder, model, seed, details)


def _spelled_out(config: dict, recipe: str, system: str, dataset: str) -> tuple[dict, dict]:
    return recipes.spell_out(config["recipe_defaults"], config["recipes"][recipe], system, dataset)


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


def dataset_files(declared: dict) -> list[dict]:
    """All files of a declared dataset, split by split."""
    return [file for files in declared["files"].values() for file in as_list(files)]


def absent(config: dict, dataset: str) -> str | None:
    """Why a dataset is not to be had; None where it is. Begins with what is absent, in short, up to a colon."""
    declared = config["datasets"][dataset]
    folder = declared.get("folder", dataset)
    if declared["format"] == "ace" and not release_folders(declared["release"], config["mirrors"]):
        what = f"{declared['release']}/ with *.apf.xml is in none of the mirrors"
        return f"licensed corpus absent: {declared['title']} ({declared['licence']}): {what}"
    for file in dataset_files(declared):
        if not file.get("url") and not find_file(folder, file["path"], config["mirrors"]):
            lacking, why = (
                ("licensed corpus", declared["licence"]) if "licence" in declared else ("files", "no public URL")
            )
            where = f"{folder}/{file['path']} is in none of the mirrors"
            return f"{lacking} absent: {declared['title']} ({why}): {where}"
    return None


def _absent_weights(config: dict, encoder: str) -> str | None:
    """Why an encoder of the hub is not to be had without a network; None where it is. Begins as `absent`'s."""
    if encoder_at_hand(config, encoder):
        return None
    declared = config["encoders"][encoder]
    return (
        f"weights absent: {declared['title']}: encoders/{encoder}/ is in none of the mirrors, {declared['hub']} not in "
        f"the hub's cache, and {HUB_OFFLINE}=1 forbids to fetch it"
    )


def encoder_at_hand(config: dict, encoder: str) -> bool:
    """Whether an encoder is here without a network: in a package, a folder or a mirror, or in the hub's cache."""
    declared = config["encoders"][encoder]
    mirrors = mirror_folders([*config["mirrors"], str(DOWNLOADS)])
    if "hub" not in declared or any((folder / "encoders" / encoder).is_dir() for folder in mirrors):
        return True
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(declared["hub"], "config.json", revision=declared["revision"]), str)


# -- mistakes against the schema ---------------------------------------------------------------------------------


@functools.cache
def _validator(schema: Path) -> jsonschema.protocols.Validator:
    """A schema's validator, in which 3.0 is no whole number (`range` refuses it)."""
    whole = lambda _, v: isinstance(v, int) and not isinstance(v, bool)  # noqa: E731
    real = lambda _, v: isinstance(v, int | float) and not isinstance(v, bool)  # noqa: E731
    base = jsonschema.Draft202012Validator
    kinds = base.TYPE_CHECKER.redefine("integer", whole).redefine("number", real)
    return jsonschema.validators.extend(base, type_checker=kinds)(yaml.safe_load(schema.read_text(encoding="utf-8")))


def schema_mistakes(config: object, schema: Path, part: Sequence[str] = ()) -> Iterator[str]:
    """What is wrong with a configuration, one line a mistake, each naming the key and what would be right; of one that
    has only some of the schema's keys these are its `part`."""
    validator = _validator(schema)
    if part:
        known = validator.schema["properties"]
        validator = validator.evolve(
            schema=validator.schema | {"required": part, "properties": {k: known[k] for k in part}}
        )
    if mistakes := list(itertools.islice(_unreadable(config), MOST_MISTAKES)):
        yield from mistakes
        return
    for error in sorted(validator.iter_errors(config), key=lambda e: list(map(str, e.absolute_path))):
        yield from _explain(error)


MOST_MISTAKES = 20
"""Of a kind that may stand everywhere: so many are told."""
GREATEST, LONGEST_TEXT = 1e100, 1000
"""Of a number, whose products stay finite; characters of a text."""
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of what follows them."""
UNREADABLE = re.compile(rf"{CONTROL.pattern}|[\ud800-\udfff{TURNING}]")
"""Those, control characters and halves of characters."""


def _unreadable(value: object, path: tuple = ()) -> Iterator[str]:
    """What has no place in any configuration: keys that are no text, numbers without bound, control characters."""
    key = _dotted(path) or "config"
    if len(path) > DEEPEST:
        yield f"{key}: more than {DEEPEST} levels"
    elif isinstance(value, dict):
        for name, held in value.items():
            if not isinstance(name, str) or UNREADABLE.search(name):
                yield f"{key}: the key {shown(name)} should be text of one line; write it in quotes"
            else:
                yield from _unreadable(held, (*path, name))
    elif isinstance(value, list):
        for number, held in enumerate(value):
            yield from _unreadable(held, (*path, number))
    elif isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            yield f"{key}: {shown(value)} has {len(value):,} characters; at most {LONGEST_TEXT:,} are taken"
        elif held := UNREADABLE.search(value):
            yield f"{key}: {shown(value)} holds {shown(held[0])}; write text of one line without control characters"
    elif isinstance(value, float) and not abs(value) < GREATEST:
        yield f"{key}: {value} is {'too large' if math.isfinite(value) else 'no finite number'}"
    elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        yield f"{key}: {shown(value)} is too large; a whole number has at most {MOST_DIGITS} digits"
    elif not isinstance(value, int | float | None):
        yield f"{key}: {shown(value)} is a {type(value).__name__}; text is written in quotes"


def _explain(error: jsonschema.ValidationError) -> Iterator[str]:
    key = _dotted(error.absolute_path)
    value = error.instance
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    match error.validator:
        case "additionalProperties" if isinstance(value, dict):
            for unknown in sorted(map(str, set(value) - set(known))):
                yield f"{_dotted([*error.absolute_path, unknown])}: unknown key, {nearest(unknown, known)}"
        case "required":
            missing = next(k for k in error.validator_value if repr(k) in error.message)
            described = known.get(missing, {}).get("description", "")
            yield f"{key or 'config'}: key {missing!r} is missing{f' ({described})' if described else ''}"
        case "type":
            kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
            hint = ""
            if isinstance(value, str) and "number" in kinds and (number := _as_number(value)) is not None:
                hint = f"; YAML reads {value} as text, write {number}"
            right = " or ".join(WANTED.get(kind, kind) for kind in kinds)
            yield f"{key}: {shown(value)} is {_kind(value)}, should be {right}{hint}"
        case "dependentRequired":
            yield f"{key}: member is a path in an archive; give the archive's url"
        case "pattern":
            yield f"{key}: {shown(value)} does not fit: {error.schema['description'].rstrip('.')}"
        case "minLength":
            yield f"{key}: the text is empty"
        case "minItems":
            yield f"{key}: the list is empty; name at least one"
        case "uniqueItems":
            twice = next(v for n, v in enumerate(value) if v in value[:n])
            yield f"{key}: {twice if isinstance(twice, str | int) else shown(twice)} stands there twice; name each once"
        case "minimum" | "exclusiveMinimum" | "maximum":
            right = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}[error.validator]
            yield f"{key}: {shown(value)} should be {right} {error.validator_value}"
        case "enum":
            known = [v for v in error.validator_value if v is not None]
            yield f"{key}: {shown(value)} is unknown, {nearest(value, known)}"
        case "oneOf" if key.startswith("encoders."):
            yield f"{key}: needs one of package + folder, hub + revision, path, architecture + tokenizer"
        case "oneOf" if ".files." in key:
            yield f"{key}: should be a file (path, url, sha256) or a list of at least one"
        case "oneOf" if key.endswith(".batch_size"):
            yield f"{key}: {shown(value)} should be a number of at least 1, or document"
        case "oneOf":
            yield f"{key}: {shown(value)} should be a number of at least 1, or a list of ids"
        case _:
            yield f"{key}: {shown(value)} is not as it should be: {error.validator} {shown(error.validator_value)}"


def _dotted(path: object) -> str:
    text = ""
    for part in path:
        name = shown(part) if len(str(part)) > 100 else str(part)
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


def _kind(value: object) -> str:
    kinds = ((bool, "true/false"), (str, "text"), (int | float, "a number"), (list, "a list"), (dict, "a mapping"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "nothing")


def _as_number(text: str) -> str | None:
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    mantissa, _, exponent = f"{number:e}".partition("e")
    mantissa = mantissa.rstrip("0")
    return f"{mantissa}{'0' if mantissa.endswith('.') else ''}e{int(exponent):+d}"


# -- mistakes in what names what -----------------------------------------------------------------------------------


def _named_in(config: dict, block: dict) -> dict[str, list[str]]:
    """Datasets, encoders and models that a block of the grid names, each once."""
    models = block_models(config, block)
    encoders = [encoder for own in models.values() for encoder in own["encoders"]]
    return {"datasets": block["datasets"], "encoders": list(dict.fromkeys(encoders)), "models": list(models)}


def _reference_mistakes(config: dict) -> Iterator[str]:
    for number, block in enumerate(config["grid"]):
        where = f"grid[{number}]"
        for kind, names in _named_in(config, block).items():
            for name in names:
                if name not in config[kind]:
                    yield f"{where}.{kind}: {shown(name)} is not declared, {nearest(name, config[kind])}"
        for model, own in block_models(config, block).items():
            if not own["encoders"]:
                yield f"{where}: {model} has no encoder; give the block or the model `encoders`"
        recipe = config["recipes"].get(block["recipe"])
        if recipe is None:
            hint = nearest(block["recipe"], config["recipes"])
            yield f"{where}.recipe: {shown(block['recipe'])} is not declared, {hint}"
            continue
        for model in block["models"]:
            system = config["models"].get(model, {}).get("system")
            if system in systems.sources() and system not in recipe:
                yield f"recipes.{block['recipe']}: no training for {system}, which grid[{number}] asks for ({model})"
    measured = config["efficiency"] or {"architectures": [], "timed_architectures": {}}
    for key, name in ((k, n) for k in ("architectures", "timed_architectures") for n in measured[k]):
        if "architecture" not in config["encoders"].get(name, {}):
            known = [n for n, e in config["encoders"].items() if "architecture" in e]
            yield f"efficiency.{key}: {shown(name)} is no encoder without weights, {nearest(name, known)}"
    for name, model in config["models"].items():
        yield from _system_mistakes(f"models.{name}", model["system"], model.get("settings", {}), ".system")
    for name, recipe in config["recipes"].items():
        yield from _recipe_mistakes(config, name, recipe)
    for name, dataset in config["datasets"].items():
        if "dev" not in dataset["files"] and "dev_share" not in dataset:
            yield f"datasets.{name}.files: dev is missing; name a file, or give dev_share"
        paths = [file["path"] for file in dataset_files(dataset)]
        if twice := sorted({path for path in paths if paths.count(path) > 1}):
            yield f"datasets.{name}.files: {twice[0]} stands there twice; a sentence belongs to one split"
        if "dev" in dataset and "fold_of" not in dataset:
            yield f"datasets.{name}.dev: is for a dataset in folds; name a file as files.dev"
        if dataset["format"] == "ace" and not {"release", "licence"} <= dataset.keys():
            yield f"datasets.{name}: format ace needs release (the corpus's folder in a mirror) and licence"
        for kind in dataset.get("symmetric", []):
            if kind not in dataset["relation_types"]:
                hint = nearest(kind, dataset["relation_types"])
                yield f"datasets.{name}.symmetric: {shown(kind)} is no relation type, {hint}"
        for split, counts in dataset.get("counts", {}).items():
            for field in ("entities", "relations"):
                types = dataset["entity_types" if field == "entities" else "relation_types"]
                for kind in sorted(set(counts.get(field, {})) - set(types)):
                    where = f"datasets.{name}.counts.{split}.{field}"
                    yield f"{where}: {shown(kind)} is no declared type, {nearest(kind, types)}"
        if dataset.get("form_of", name) not in config["datasets"]:
            yield f"datasets.{name}.form_of: {shown(dataset['form_of'])} is not declared"
    for name, encoder in config["encoders"].items():
        for key in sorted(TOKENIZERS & encoder.keys()):
            if "architecture" in config["encoders"].get(encoder[key], {"architecture": None}):
                yield f"encoders.{name}.{key}: {shown(encoder[key])} is no declared encoder with a tokenizer of its own"
        sizes = encoder.get("sizes")
        if sizes and "architecture" not in config["encoders"].get(sizes, {}):
            yield f"encoders.{name}.sizes: {shown(sizes)} is no declared architecture"
    studied = config["case_study"] or {"model": None, "triples": []}
    for key, name in (("reference", config["reference"]), ("case_study.model", studied["model"])):
        if name is not None and name not in config["models"]:
            yield f"{key}: {shown(name)} is not declared, {nearest(name, config['models'])}"
    relation_types = {kind for dataset in config["datasets"].values() for kind in dataset["relation_types"]}
    for number, triple in enumerate(studied["triples"]):
        if len(triple) != 3:
            yield f"case_study.triples[{number}]: {triple} should be a head's words, a relation type, a tail's words"
        elif triple[1] not in relation_types:
            hint = nearest(triple[1], relation_types)
            yield f"case_study.triples[{number}]: {shown(triple[1])} is no relation type of any dataset, {hint}"
    yield from _title_mistakes(config)
    yield from _column_mistakes(config)
    yield from _published_mistakes(config["models"])


def _recipe_mistakes(config: dict, name: str, recipe: dict) -> Iterator[str]:
    folded = {declared["fold_of"] for declared in config["datasets"].values() if "fold_of" in declared}
    known = sorted(folded | {d for d, declared in config["datasets"].items() if "fold_of" not in declared})
    for system, training in recipe.items():
        if system == "defaults":
            continue
        where = f"recipes.{name}.{system}"
        yield from _system_mistakes(where, system, training.get("settings", {}), "")
        for dataset, changes in training.get("datasets", {}).items():
            if dataset not in known:
                yield f"{where}.datasets: {shown(dataset)} is not declared, {nearest(dataset, known)}"
            yield from _system_mistakes(f"{where}.datasets.{dataset}", system, changes.get("settings", {}), "")
            for stage in sorted(changes.get("stages", {}).keys() - training.get("stages", {}).keys()):
                known_stages = list(training.get("stages", {})) or ["none"]
                yield f"{where}.datasets.{dataset}.stages: {shown(stage)} is no stage, {nearest(stage, known_stages)}"
        if system in systems.sources():
            for dataset in dict.fromkeys(("", *training.get("datasets", {}))):
                found = recipes.mistakes(_spelled_out(config, name, system, dataset)[0], system)
                yield from (f"{where}.{'datasets.' + dataset + '.' if dataset else ''}{line}" for line in found)


def _title_mistakes(config: dict) -> Iterator[str]:
    """What in the grid has the title of something else: tables and figures tell things apart by their titles."""
    for kind in ("datasets", "encoders", "models"):
        titles: dict[str, str] = {}
        if kind == "datasets":
            titles = {title: f"the published column {key}" for key, title in published.DATASETS.items()}
        named = {name for block in config["grid"] for name in _named_in(config, block)[kind]}
        for name in sorted(named & set(config[kind])):
            declared = config[kind][name]
            column, whole = declared.get("published"), declared.get("fold_of", name)
            if kind == "datasets" and column and declared["title"] == published.DATASETS[column]:
                titles[declared["title"]] = whole
            title = declared.get("title", name)
            if titles.setdefault(title, whole) != whole:
                yield f"{kind}.{name}.title: {shown(title)} is {titles[title]}'s already; tables would mix them up"


def _column_mistakes(config: dict) -> Iterator[str]:
    """Models that stand twice, on two datasets, in one published column: a row has one figure there."""
    stands: dict[tuple, str] = {}
    for block in config["grid"]:
        for dataset, encoder, model, _ in _cells(config, block):
            declared = config["datasets"].get(dataset, {})
            column, whole = declared.get("published"), declared.get("fold_of", dataset)
            there = column and stands.setdefault((column, model, encoder, block["recipe"]), whole)
            if there and there != whole:
                yield (
                    f"datasets.{whole}.published: {model} with {encoder} stands under {column} already, "
                    f"on {there}; give it one of them"
                )


def _published_mistakes(models: dict) -> Iterator[str]:
    """Names of systems and settings that no published table has, and those that two models claim."""
    tables = published.tables()
    known = {
        "published": {row["system"] for row in tables["main"]},
        "setting": {row["setting"] for rows in tables["ablation"].values() for row in rows},
    }
    for field, names in known.items():
        claimed: dict[str, str] = {}
        for model, declared in models.items():
            if (name := declared.get(field)) is None:
                continue
            if name not in names:
                yield f"models.{model}.{field}: {shown(name)} is in no published table, {nearest(name, names)}"
            elif claimed.setdefault(name, model) != model:
                yield f"models.{model}.{field}: {shown(name)} is {claimed[name]}'s already; only one model may have it"


def _system_mistakes(where: str, system: str, settings: dict, field: str) -> Iterator[str]:
    known = systems.sources()
    if system not in known:
        yield f"{where}{field}: unknown system {shown(system)}, {nearest(system, known)}"
        return
    defaults, allowed = systems.default_settings(system), systems.valid_settings(system)
    for key, value in settings.items():
        if key not in defaults:
            yield f"{where}.settings.{key}: {system} has no such setting, {nearest(key, defaults)}"
            continue
        default = defaults[key]
        same = isinstance(value, bool) == isinstance(default, bool) and isinstance(
            value, (int, float) if isinstance(default, float) else type(default)
        )
        if not same:
            right = f"{_kind(default)} such as {default!r}"
            yield f"{where}.settings.{key}: {shown(value)} is {_kind(value)}, should be {right}"
        elif isinstance(value, str) and value not in allowed.get(key, (value,)):
            yield f"{where}.settings.{key}: {shown(value)} is unknown, {nearest(value, allowed[key])}"
        elif isinstance(value, int | float) and not isinstance(value, bool):
            least, greatest = allowed.get(key, (0, math.inf))
            if not least <= value <= greatest:
                yield f"{where}.settings.{key}: {value} should be between {least} and {greatest}"
