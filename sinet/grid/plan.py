"""From configuration to plan: the runs of a grid, what is made of them, and where it lies.

The plan of a grid is a file, `RESULTS/plan.json`. Steps are given that file and the name of what they are to do, and
find everything else in it, so that no command grows with the number of runs.
"""

import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sinet import published, systems
from sinet.errors import UserError, nearest, shown
from sinet.files import read_sealed, write_sealed
from sinet.grid import recipes
from sinet.grid.config import (
    absent_files,
    absent_weights,
    cells,
    checked,
    hub_is_offline,
    recipe_key,
)
from sinet.grid.mistakes import validated
from sinet.provenance import file_sha256
from sinet.schema import EXTERNAL, Config, RunSpec, Strict

if TYPE_CHECKING:
    from sinet.data.sentence import Sentence

TABLES = (
    "main",
    "ablation",
    "published_vs_measured",
    "significance",
    "efficiency",
    "types",
    "relaxed",
    "slices",
    "errors",
    "error_examples",
)
RUN = re.compile("[^/]+/[^/]+/[^/]+/[0-9]+")
COUNTED = ("counted_sentences", "counted_words", "architectures", "architecture_sentences")
TIMED = ("timed_sentences", "timed_seconds", "timed_bfloat16", "timed_architectures")
"""Keys of `efficiency` that counts of FLOPs depend on, and times."""
CASE_TABLES = ("attention_mass", "in_triple_ner")
RESULT_FIGURES, EFFICIENCY_FIGURES = ("curves", "lengths", "significance"), ("flops", "speed")


@dataclass(frozen=True)
class CaseStudy:
    """Where the attention of the studied model is shown, and beside which systems."""

    model: str
    dataset: str
    encoder: str
    systems: dict[str, str]
    """The run of each model there, of the studied model's seed where there is one."""
    sentences: list[str]
    """Rules that find a dev sentence each, or ids of sentences."""

    @property
    def studied(self) -> str:
        """The studied run."""
        return self.systems[self.model]


class _Written(Strict):
    """What `plan.json` holds: as in `Plan`."""

    config: Config
    runs: dict[str, str]
    skipped: dict[str, str]
    skipped_recipes: dict[str, str]
    archived: list[str]
    archived_places: list[list[str]] = Field([])  # plans written before it had a name are read as well
    failed: dict[str, str]
    unmeasured: list[list[str]]


@dataclass(frozen=True)
class Plan:
    """The runs of a grid in its order, each `dataset/encoder/model/seed`."""

    config: Config
    results: Path
    """Folder of everything that the grid makes."""
    runs: dict[str, str]
    """Recipes by run."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Runs that were asked for and cannot be made, with the reason; `skipped_recipes` by run."""
    skipped_recipes: dict[str, str] = field(default_factory=dict)
    archived: list[str] = field(default_factory=list)
    """Runs that are taken from the archive, without their weights."""
    archived_places: list[list[str]] = field(default_factory=list)
    """Datasets and encoders of which counts and times are taken from it."""
    failed: dict[str, str] = field(default_factory=dict)
    """Runs without a result, with the reason."""
    unmeasured: list[list[str]] = field(default_factory=list)
    """Datasets and encoders of which counting or timing did not come to its end."""

    # -- as a file -----------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """The plan in a file, of the grid in its folder; raises `UserError`, and `OSError` where there is none."""
        said = read_sealed(path, *(key for key, of in _Written.model_fields.items() if of.is_required()))
        found = validated(_Written, said, where=f"{path}: ")
        plan = cls(results=path.parent, **{key: getattr(found, key) for key in _Written.model_fields})
        for run, recipe in (*found.runs.items(), *found.skipped_recipes.items()):
            if not RUN.fullmatch(run):
                raise UserError(f"{path}: {shown(run)} should be DATASET/ENCODER/MODEL/SEED")
            dataset, encoder, model, _ = run.split("/")
            config = found.config
            if not (dataset in config.datasets and encoder in config.encoders and model in config.models):
                raise UserError(f"{path}: {shown(run)} names an undeclared dataset, encoder or model")
            system = config.models[model].system
            if recipe not in config.recipes or system not in (EXTERNAL, *config.recipes[recipe]):
                raise UserError(f"{path}: {shown(run)}: recipe {shown(recipe)} is not declared for its system")
        return plan

    def write(self, name: str = "plan.json") -> Path:
        """Write the plan, unless the file holds it already."""
        path = self.results / name
        said = {
            "config": self.config.declared(),
            "runs": self.runs,
            "skipped": self.skipped,
            "skipped_recipes": self.skipped_recipes,
            "archived": self.archived,
            "archived_places": self.archived_places,
            "failed": self.failed,
            "unmeasured": self.unmeasured,
        }
        try:
            same = json.dumps(read_sealed(path)) == json.dumps(said)  # the order of runs counts as well
        except (OSError, UserError):
            same = False
        if not same:
            self.results.mkdir(parents=True, exist_ok=True)
            write_sealed(path, said)
        return path

    # -- runs ----------------------------------------------------------------------------------------------------------

    def spec(self, run: str) -> RunSpec:
        """A run of the grid (or one that was skipped) spelled out; raises `UserError` for any other."""
        recipe = self.runs.get(run) or self.skipped_recipes.get(run)
        if recipe is None:
            raise UserError(f"run {shown(run)} is not in the grid, {nearest(run, self.runs)}")
        if self.predictions(run):
            raise UserError(f"run {shown(run)} is given by predictions; nothing is trained")
        dataset, encoder, model, seed = run.split("/")
        return _spec(self.config, dataset, encoder, model, int(seed), recipe)

    def specs(self) -> list[RunSpec]:
        """All trainings of the grid spelled out."""
        return [self.spec(run) for run in self.trained]

    @functools.cached_property
    def trained(self) -> list[str]:
        """The runs that are not external."""
        return [run for run in self.runs if not self.predictions(run)]

    @functools.cached_property
    def external(self) -> list[str]:
        """The runs that are given by predictions."""
        return [run for run in self.runs if self.predictions(run)]

    def predictions(self, run: str) -> str:
        """The file of predictions that gives a run; none where it is trained."""
        dataset, _, model, seed = run.split("/")
        return (self.config.models[model].predictions or {}).get(dataset, {}).get(seed, "")

    def at(self, *place: str) -> list[str]:
        """The runs that have not failed, all or those at a place: dataset, encoder, model as far as given."""
        below = "".join(f"{name}/" for name in place)
        return [run for run in self.runs if run.startswith(below) and run not in self.failed]

    def file(self, run: str, name: str) -> Path:
        """A file of a run."""
        return self.results / "runs" / run / name

    def records(self, *place: str) -> list[Path]:
        """`record.json` of the runs at a place."""
        return [self.file(run, "record.json") for run in self.at(*place)]

    def systems_at(self, dataset: str, encoder: str) -> dict[str, str]:
        """The runs to count and time: of each system, not of the steps of an ablation, the first seed; none that is
        external."""
        chosen: dict[str, str] = {}
        for run in self.at(dataset, encoder):
            if self.config.models[model := run.split("/")[2]].is_system and not self.predictions(run):
                chosen.setdefault(model, run)
        return chosen

    # -- what the grid makes -------------------------------------------------------------------------------------------

    @functools.cached_property
    def datasets(self) -> list[str]:
        """The datasets with a run."""
        return list(dict.fromkeys(run.split("/")[0] for run in self.runs))

    @functools.cached_property
    def parsed(self) -> list[str]:
        """Those with a run of a system that reads parses."""
        reads = (run for run in self.trained if systems.settings(self._system(run)).needs_parses)
        return list(dict.fromkeys(run.split("/")[0] for run in reads))

    def _system(self, run: str) -> str:
        return self.config.models[run.split("/")[2]].system

    @functools.cached_property
    def places(self) -> list[tuple[str, str]]:
        """Datasets (in folds the first fold alone) and encoders of which figures are drawn, in the grid's order."""
        first = self._first_folds(self.runs)
        there = dict.fromkeys((run.split("/")[0], run.split("/")[1]) for run in self.runs)
        return [(d, e) for d, e in there if d in first and self.systems_at(d, e)]

    @functools.cached_property
    def measured(self) -> list[tuple[str, str]]:
        """Those of which all systems are counted and timed together, here or before they were archived: none else with
        a run that is archived without weights."""
        if self.config.efficiency is None:
            return []
        archived = {*self.archived}
        return [
            place
            for place in self.places
            if [*place] not in self.unmeasured
            and ([*place] in self.archived_places or archived.isdisjoint(self.systems_at(*place).values()))
        ]

    def asked(self, dataset: str, encoder: str, keys: Sequence[str], runs: Path | None = None) -> dict:
        """What is counted or timed at a place: these `keys` of `efficiency`, and of each system the SHA-256 of what its
        training measured (`training.json`, below `runs`; by default those of the grid)."""
        paths = {m: (runs or self.results / "runs") / run for m, run in self.systems_at(dataset, encoder).items()}
        return {
            "asked": {key: getattr(self.config.efficiency, key) for key in keys},
            "trainings": {model: file_sha256(path / "training.json") for model, path in paths.items()},
        }

    def efficiency(self) -> list[Path] | None:
        """Folders of what was counted and timed; None where the grid measures neither."""
        if self.config.efficiency is None:
            return None
        return [self.results / "efficiency" / dataset / encoder for dataset, encoder in self.measured]

    @functools.cached_property
    def case_study(self) -> CaseStudy | None:
        """The case study: on the first dataset with a run of the studied model; None where there is none."""
        return next(iter(self.case_studies(self.runs)), None)

    def case_studies(self, runs: Iterable[str]) -> list[CaseStudy]:
        """For each dataset with one of the given runs of the studied model (of one in folds the first such fold) the
        encoder of that model under which most models are compared, of equal ones the first."""
        if self.config.case_study is None:
            return []
        model = self.config.case_study.model
        runs = list(runs)
        studied = [run.split("/") for run in runs if run.split("/")[2] == model]
        found = []
        for dataset in self._first_folds("/".join(run) for run in studied):
            encoders = dict.fromkeys(run[1] for run in studied if run[0] == dataset)
            beside = ([run for run in runs if run.startswith(f"{dataset}/{e}/")] for e in encoders)
            there = max(beside, key=lambda compared: len({run.split("/")[2] for run in compared}))
            _, encoder, _, seed = next(run.split("/") for run in there if run.split("/")[2] == model)
            systems: dict[str, str] = {}
            for run in sorted(there, key=lambda run: run.split("/")[3] != seed):
                systems.setdefault(run.split("/")[2], run)
            found.append(CaseStudy(model, dataset, encoder, systems, self.config.case_study.sentences))
        return found

    def attended_studies(self) -> list[CaseStudy]:
        """Where sentences are looked for, by rules and ids in the first alone: predicted anew, so with weights at
        hand."""
        found = self.case_studies(run for run in self.trained if run not in self.archived)
        return found if self.config.case_study and self.config.case_study.triples else found[:1]

    def studied(self) -> CaseStudy:
        """The case study; raises `UserError` where there is none."""
        if self.case_study is None:
            raise UserError(f"{self.results}: this grid has no case study")
        return self.case_study

    def test_documents(self, dataset: str) -> list[int] | None:
        """Sentences of each document of the test split, where the dataset declares them."""
        return (self.config.datasets[dataset].documents or {}).get("test")

    def _first_folds(self, runs: Iterable[str]) -> list[str]:
        first: dict[str, str] = {}
        for run in runs:
            dataset = run.split("/")[0]
            first.setdefault(self.config.datasets[dataset].fold_of or dataset, dataset)
        return list(first.values())

    @property
    def common_tables(self) -> list[str]:
        """The tables by name, without those of the case study."""
        return [name for name in TABLES if name != "efficiency" or self.config.efficiency]

    @property
    def tables(self) -> list[str]:
        """The tables by name."""
        return self.common_tables + [name for name in CASE_TABLES if self.case_study]

    @property
    def figures(self) -> list[str]:
        """The figures by name, below `figures/` and without an ending."""
        of_places = [f"{d}/{e}/{name}" for d, e in self.places for name in RESULT_FIGURES]
        of_places += [f"{d}/{e}/{name}" for d, e in self.measured for name in EFFICIENCY_FIGURES]
        return [*self.case_figures, *(["attention_mass"] if self.case_study else []), *of_places]

    @property
    def case_figures(self) -> list[str]:
        """The figures of attention: of each sentence that is chosen by a rule or an id, then by a triple."""
        if self.case_study is None or self.config.case_study is None:
            return []
        count = len(self.config.case_study.sentences) + len(self.config.case_study.triples)
        return [f"attention_{number}" for number in range(1, count + 1)]

    @functools.cached_property
    def sizes_alone(self) -> list[str]:
        """Architectures in which systems are counted with random weights: not where the encoder of these sizes is
        measured with weights on the dataset on which the published efficiency table has it."""
        config = self.config
        there = {(config.datasets[d].published, config.encoders[e].published) for d, e in self.measured}
        known = {encoder for dataset, encoder in published.EFFICIENCY_ENCODERS.items() if (dataset, encoder) in there}
        return [name for name, declared in config.encoders.items() if declared.published not in known]

    # -- words for captions --------------------------------------------------------------------------------------------

    def place_title(self, dataset: str, encoder: str) -> str:
        """Dataset (of one in folds which fold) and encoder."""
        return f"{self.dataset_title(dataset)}, {self.config.encoders[encoder].title}"

    def dataset_title(self, name: str) -> str:
        """The title of a dataset, of one fold with its number: `ADE, fold 0`."""
        declared = self.config.datasets[name]
        fold = declared.fold_of
        return declared.title + (f", fold {name.removeprefix(f'{fold}-')}" if fold else "")

    def recipes_of(self, runs: Iterable[str]) -> str:
        """The recipes of some runs."""
        return "recipe " + ", ".join(dict.fromkeys(self.runs[run] for run in runs))

    def study_title(self, case: CaseStudy) -> str:
        """Whose attention is shown, and beside runs of which recipes."""
        where = f"{self.config.models[case.model].title} on {self.place_title(case.dataset, case.encoder)}"
        return f"{where}, seed {case.studied.split('/')[3]}, {self.recipes_of(case.systems.values())}"

    # -- as a mapping, for tables --------------------------------------------------------------------------------------

    @functools.cached_property
    def declared(self) -> dict[str, Any]:
        """What tables and figures know of the grid."""
        known = {
            "datasets": ("title", "published", "fold_of", "documents"),
            "encoders": ("title", "published"),
            "models": ("title", "system", "published", "setting", "maker", "date"),
        }
        in_grid = {run.split("/")[2] for run in (*self.runs, *self.skipped)}
        titles = {
            kind: {
                name: {key: value for key in keys if (value := getattr(each, key)) is not None}
                for name, each in getattr(self.config, kind).items()
            }
            for kind, keys in known.items()
        }
        return titles | {
            "reference": self.config.reference if self.config.reference in in_grid else None,
            "remark": self.config.remark,
            "published": published.own_rows(Path(self.config.published)) if self.config.published else [],
            "runs": self.runs,
            "failed": list(map(list, self.failed.items())),
            "archived": self.archived,
            "skipped": list(map(list, self.skipped.items())),
            "tables": self.tables,
            "figures": self.figures,
            "measured": list(map(list, self.measured)) if self.config.efficiency else None,
            "case_study": self.case_study
            and {
                "model": self.case_study.model,
                "dataset": self.case_study.dataset,
                "encoder": self.case_study.encoder,
                "systems": self.case_study.systems,
            },
        }


def resolve(config: dict | Config, offline: bool | None = None) -> Plan:
    """Check a configuration and lay out its runs.

    Args:
        offline: whether the hub may not be asked, so that runs whose weights are not here are skipped; None for what
            the environment variable `HF_HUB_OFFLINE` says.

    Raises:
        UserError: the mistakes found, one a line, each naming the key and what would be right.
    """
    config = checked(config) if isinstance(config, dict) else config
    offline = hub_is_offline() if offline is None else offline
    runs: dict[str, str] = {}
    recipes_: dict[str, str] = {}
    seen: dict[str, int] = {}
    skipped: dict[str, str] = {}

    @functools.cache
    def without_files(dataset: str) -> str | None:
        try:
            return absent_files(dataset, config.datasets[dataset], config.mirrors)
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None

    @functools.cache
    def without_weights(encoder: str) -> str | None:
        return absent_weights(config, encoder) if offline else None

    @functools.cache
    def other_roles(dataset: str) -> str | None:
        from sinet.data.formats import renamed
        from sinet.data.prepare import declared_labels, split_at_hand
        from sinet.data.sentence import against_roles

        declared = config.datasets[dataset]
        labels = declared_labels(declared)
        train = split_at_hand(dataset, declared, config.mirrors, "train") or []
        return against_roles((renamed(sentence, labels) for sentence in train), labels)

    @functools.cache
    def test_split(dataset: str) -> "list[Sentence] | None":
        from sinet.data.prepare import split_at_hand

        return split_at_hand(dataset, config.datasets[dataset], config.mirrors, "test")

    def check(dataset: str, model: str, given: dict[str, str], seed: int) -> None:
        # every step reads a plan, and few plans have predictions
        from sinet.data.convert import Account
        from sinet.data.external import read_predictions
        from sinet.data.prepare import declared_labels

        where = f"models.{model}.predictions.{dataset}"
        if str(seed) not in given:
            raise UserError(f"{where}: no file of seed {seed}, which the grid asks for")
        try:
            read_predictions(
                Path(given[str(seed)]), test_split(dataset), declared_labels(config.datasets[dataset]), Account()
            )
        except OSError as error:
            raise UserError(f"{where}.{seed}: {error.filename}: {error.strerror}") from None
        except UserError as error:
            raise UserError(f"{where}.{seed}: {error}") from None

    for number, block in enumerate(config.grid):
        for dataset, encoder, model, seeds in cells(config, block):
            where = f"grid[{number}]: {dataset}/{encoder}/{model}: "
            if (given := config.models[model].predictions) is not None:
                reason = without_files(dataset)
                for seed in seeds if reason is None else ():
                    check(dataset, model, given[dataset], seed)
            else:
                settings = _check_training(config, where, block.recipe, model, dataset)
                if settings.two_roles and (what := other_roles(dataset)):
                    raise UserError(f"{where}{model} cannot read {dataset}: {what}")
                reason = without_files(dataset) or without_weights(encoder) or _without_input(settings, config.mirrors)
            for run in (f"{dataset}/{encoder}/{model}/{seed}" for seed in seeds):
                if run in seen:
                    raise UserError(f"grid[{number}]: {run} is in grid[{seen[run]}] already; a run has one recipe")
                seen[run] = number
                if reason:
                    skipped[run], recipes_[run] = reason, block.recipe
                else:
                    runs[run] = block.recipe
    return Plan(config, Path(config.results), runs, skipped, recipes_)


def _without_input(settings: systems.Settings, mirrors: Sequence[str]) -> str | None:
    """Why a system cannot have the parses or word vectors that it reads."""
    why = None
    if settings.needs_parses:
        from sinet.data.parse import absent_parser

        why = absent_parser()
    if why is None and settings.needs_word_vectors:
        from sinet.data.vectors import absent_vectors

        why = absent_vectors(mirrors)
    return why


def _check_training(config: Config, where: str, recipe_name: str, model: str, dataset: str) -> systems.Settings:
    """Refuse a training that its dataset does not allow; the settings of its system."""
    recipe, settings = _spelled_out(config, recipe_name, model, dataset)
    system = config.models[model].system
    declared, of = validated(systems.settings(system), settings, f"{where}settings: "), config.datasets[dataset]
    if what := declared.unfit(of.entity_types, of.relation_types):
        raise UserError(f"{where}settings: {what}")
    if declared.whole_documents and any(t.batch_size != "document" or t.micro_batch_size for _, t in recipe.trainings):
        raise UserError(
            f"{where}{model} reads whole documents; recipe {recipe_name} should say batch_size: document and "
            "micro_batch_size: null"
        )
    alone = declared.partial_epochs
    if alone and min(t.epochs or 0 for _, t in recipe.trainings) <= alone:
        raise UserError(
            f"{where}{model}: its settings train a part of it alone for {alone} epochs; recipe {recipe_name} should "
            f"say epochs, and more than these, not {recipes.length(recipe)}"
        )
    if of.format in ("spert", "table_sequence", "aste") and (what := recipes.needs_documents(recipe, system, settings)):
        raise UserError(
            f"{where}it needs documents ({what}), and the files of {dataset} do not say which sentences belong to one; "
            "use another form of it (such as scierc-documents)"
        )
    by_relations = any(t.selection == "dev_rel" for _, t in recipe.trainings)
    if by_relations and not of.relation_types:
        raise UserError(
            f"{where}recipe {recipe_name} selects weights by dev_rel, and {dataset} has no relation types; "
            "write selection: last, or dev_ent"
        )
    return declared


def _spelled_out(config: Config, recipe: str, model: str, dataset: str) -> tuple[Any, dict]:
    declared = config.models[model]
    key = recipe_key(config, dataset)
    training, settings = recipes.spell_out(config, recipe, declared.system, key)
    of_dataset = declared.datasets[key].settings if key in declared.datasets else {}
    return training, settings | declared.settings | of_dataset


def _spec(config: Config, dataset: str, encoder: str, model: str, seed: int, recipe: str) -> RunSpec:
    training, settings = _spelled_out(config, recipe, model, dataset)
    return RunSpec(
        dataset=dataset,
        encoder=config.encoder_spec(encoder),
        model=model,
        system=config.models[model].system,
        settings=settings,
        recipe=training,
        seed=seed,
    )
