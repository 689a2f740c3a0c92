"""The runs of a grid as the tables see them: where each stands, what a cell shows, what figures were measured on."""

import functools
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sinet.captions import dataset_title, measured_on, short_commit
from sinet.data.external import said_of
from sinet.errors import UserError, counted
from sinet.evaluate import metrics
from sinet.evaluate.metrics import REL_GOLD_ENTITIES
from sinet.files import read_sealed
from sinet.grid import recipes
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import FULL
from sinet.report import frame
from sinet.report.frame import ALL, DEV, PLACE, TEST
from sinet.report.table import NO_FIGURE, Cell

GOLD_ENTITIES = {REL_GOLD_ENTITIES: "Rel, gold entities"}
METRICS = metrics.TITLES
PUBLISHED_METRICS = dict(zip(metrics.METRICS, ("ent", "rel", "rel_strict"), strict=True))
PUBLISHED_ENCODERS = {"Bb": "BERT", "SciB": "SciBERT", "ALB": "ALBERT"}
NONE = "\u2013"
NOT_REPORTED, NOT_RUN, SKIPPED, FAILED, NO_GOLD, NO_TYPES, NOT_DECIDED = map(
    Cell, ("n.r.", "not run", "skipped", "failed", "no gold", "no types", NONE)
)
UNREPORTED = f"{NOT_REPORTED}: the source reports no such figure."
WHY_EMPTY = (
    f"{NOT_RUN}: not in this grid. {SKIPPED}, {FAILED}: in this grid, but some or all of its runs have no result, for "
    f"the reasons given; nothing is averaged over the others. {NO_GOLD}: the test split has nothing to be found. "
    f"{NO_TYPES}: the dataset has no relation types."
)


class Place(NamedTuple):
    """Where systems can be compared: a dataset (all its folds), an encoder, a recipe."""

    dataset: str
    encoder: str
    recipe: str


@dataclass(frozen=True)
class Grid:
    """Runs of a grid (`sinet.report.frame.read_runs`), its declarations (`sinet.grid.plan.Plan.declared`), and its
    comparisons (`sinet.evaluate.compare.compare`)."""

    runs: Sequence[dict]
    declared: dict
    comparisons: dict

    @classmethod
    def read(cls, records: Sequence[Path], declared: dict, comparisons: Path | None = None, **what: bool) -> "Grid":
        """From the records of runs and a file of comparisons; `what` as of `read_runs`."""
        return cls(frame.read_runs(records, **what), declared, read_sealed(comparisons) if comparisons else {})

    def check(self) -> None:
        """Refuse records that are not exactly the grid's; raises `UserError`."""
        there = {path_of(run) for run in self.runs}
        wanted = self.declared["runs"].keys() - {path for path, _ in self.declared["failed"]}
        if missing := sorted(wanted - there):
            raise UserError(
                f"no record of {', '.join(missing)}: a run of the grid that is missing would bend its means"
            )
        if others := sorted(there - wanted):
            raise UserError(f"records of runs that are not in the grid: {', '.join(others)}")

    # -- names -----------------------------------------------------------------------------------------------------

    def whole(self, dataset: str) -> str:
        """The dataset of which one is a fold, or the dataset itself."""
        return self.declared["datasets"][dataset].get("fold_of", dataset)

    def title(self, kind: str, name: str) -> str:
        """How a declared dataset (whole, or one of its folds), encoder or model is printed."""
        of = self.declared[kind]
        if name in of:
            return dataset_title(name, of[name])
        return next(described["title"] for described in of.values() if described.get("fold_of") == name)

    def named(self, model: str) -> str:
        """The title of a model, and whose figures a row has."""
        whose = "external" if self.is_external(model) else "ours"
        return f"{self.title('models', model)} ({whose})"

    def encoder_of(self, model: str, encoder: str) -> str:
        """The title of the encoder of a row; an external model has none."""
        return NONE if self.is_external(model) else self.title("encoders", encoder)

    def is_external(self, model: str) -> bool:
        """Whether a model is given by predictions."""
        return "maker" in self.declared["models"][model]

    def titles(self, kind: str) -> dict[str, str]:
        return {name: self.title(kind, name) for name in self.declared[kind]}

    def where(self, dataset: str, encoder: str, *more: str) -> str:
        """A place in words: titles of dataset and encoder, and what else is given."""
        return ", ".join((self.title("datasets", dataset), self.title("encoders", encoder), *more))

    def column(self, dataset: str) -> tuple[str, str]:
        """Key and title of the column that a dataset's figures stand in: a published one, or one of its own."""
        described = next(d for n, d in self.declared["datasets"].items() if dataset in (n, d.get("fold_of")))
        key = described.get("published") or dataset + "*"
        return key, PUBLISHED_DATASETS.get(key, described["title"])

    # -- the plan --------------------------------------------------------------------------------------------------

    def place(self, run: dict) -> Place:
        return Place(self.whole(run["dataset"]), run["encoder"], run["recipe"]["name"])

    @functools.cached_property
    def planned(self) -> dict[tuple[Place, str], Counter]:
        """Place and model of every planned run, in the order of the grid, with the number of folds of each seed."""
        found: dict[tuple[Place, str], Counter] = {}
        for path, recipe in self.declared["runs"].items():
            dataset, encoder, model, seed = path.split("/")
            found.setdefault((Place(self.whole(dataset), encoder, recipe), model), Counter())[int(seed)] += 1
        return found

    def places(self) -> list[Place]:
        """All places at which runs were planned, in the order of the grid."""
        return list(dict.fromkeys(place for place, _ in self.planned))

    def measured(self) -> list[Place]:
        """Places at which some run has a result."""
        return [place for place in self.places() if self.there(place)]

    def datasets(self) -> list[str]:
        """All datasets (whole) with a run in the grid, or one that was skipped."""
        return list(dict.fromkeys([*(p.dataset for p in self.places()), *(dataset for dataset, _, _ in self.absent)]))

    def ablated(self) -> list[Place]:
        """Where settings of the ablation are planned, or without a recipe skipped, besides the full model, which is a
        system as others are."""
        steps = [n for n, m in self.declared["models"].items() if m.get("setting", FULL) != FULL]
        planned = dict.fromkeys(place for place, model in self.planned if model in steps)
        out = dict.fromkeys(Place(dataset, encoder, "") for dataset, encoder, model in self.absent if model in steps)
        return [*planned, *(place for place in out if place[:2] not in {there[:2] for there in planned})]

    def models(self, place: Place | None = None) -> list[str]:
        """Models planned at a place, in the order of the grid; of no place all, those skipped last."""
        out = () if place else (model for _, _, model in self.absent)
        return list(dict.fromkeys([*(m for where, m in self.planned if place in (None, where)), *out]))

    @functools.cached_property
    def absent(self) -> dict[tuple[str, str, str], str]:
        """Dataset (all its folds), encoder and model of the runs that were skipped, and what they lack, in short."""
        lacking: dict[tuple[str, str, str], dict[str, None]] = {}
        for path, why in self.declared["skipped"]:
            dataset, encoder, model, _ = path.split("/")
            lacking.setdefault((self.whole(dataset), encoder, model), {})[why.partition(":")[0]] = None
        return {where: ", ".join(whys) for where, whys in lacking.items()}

    def why_absent(self, encoder: str, model: str) -> str:
        """What the runs of a model with an encoder that were skipped lack, in short."""
        return ", ".join(dict.fromkeys(why for (_, e, m), why in self.absent.items() if (e, m) == (encoder, model)))

    # -- the runs --------------------------------------------------------------------------------------------------

    def there(self, place: Place) -> list[dict]:
        """The runs with a result at a place."""
        return [run for (where, _), runs in self._there.items() if where == place for run in runs]

    @functools.cached_property
    def _there(self) -> dict[tuple[Place, str], list[dict]]:
        found: dict[tuple[Place, str], list[dict]] = {}
        for run in self.runs:
            found.setdefault((self.place(run), run["model"]), []).append(run)
        return found

    def at(self, place: Place, model: str) -> list[dict]:
        """Those of one model: its seeds, times the folds of the dataset."""
        return self._there.get((place, model), [])

    def seeds(self, place: Place, model: str) -> list[int]:
        """Seeds of the runs of a model at a place, each once; how many they are is the n of a cell."""
        return list(dict.fromkeys(run["seed"] for run in self.at(place, model)))

    @functools.cached_property
    def figures(self) -> pd.DataFrame:
        """All figures of all runs (`sinet.report.frame.tidy`)."""
        return frame.tidy(self.runs, {run["dataset"]: self.whole(run["dataset"]) for run in self.runs})

    @functools.cached_property
    def _f1(self) -> dict[tuple, list[float]]:
        """F1 of each seed, the mean over its folds, by place, model, split and metric."""
        keys = [*PLACE, "model", "split", "metric"]
        whole = self.figures[self.figures["slicing"] == ALL]
        seeds = whole.groupby([*keys, "seed"], sort=False)["value"].agg(statistics.fmean)
        return seeds.groupby(level=keys, sort=False).agg(list).to_dict()

    def why_none(self, place: Place, model: str) -> Cell | None:
        """Why the runs of a model at a place have no figure together; None where they are all there."""
        if (place.dataset, place.encoder, model) in self.absent:
            return SKIPPED
        if not (planned := self.planned.get((place, model))):
            return NOT_RUN
        there = Counter(run["seed"] for run in self.at(place, model))
        complete = sum(there[seed] == folds for seed, folds in planned.items())
        return None if complete == len(planned) else Cell(f"{FAILED} (n={complete} of {len(planned)})")

    def f1(self, place: Place, model: str, metric: str, split: str = TEST) -> list[float] | Cell:
        """The F1 of each seed of a model at a place, or why it has none. Where test has no gold, F1 on dev is not shown
        either, unless something was found there."""
        if why := self.why_none(place, model):
            return why
        if metric in GOLD_ENTITIES and not all(metric in of["scores"]["symmetric"] for of in self.at(place, model)):
            return NOT_DECIDED
        if (values := self._f1.get((*place, model, split, metric))) is None:
            return NO_FIGURE
        return values if any(values) else self.without_gold(place, metric) or values

    def without_gold(self, place: Place, metric: str) -> Cell | None:
        """Why a metric could find nothing in the test split (all folds); None where it could."""
        figures = [of[metric] for of in (run["scores"]["symmetric"] for run in self.there(place)) if metric in of]
        if any(of["gold"] for of in figures):
            return None
        return NO_GOLD if any(of["types"] for of in figures) else NO_TYPES

    # -- comparisons -----------------------------------------------------------------------------------------------

    def comparison(self, place: Place, system: str, other: str, metric: str) -> dict | None:
        """The comparison of two models, in this order."""
        key = {**place._asdict(), "system": system, "other": other, "metric": metric}
        return next((c for c in self.comparisons["comparisons"] if all(c[k] == v for k, v in key.items())), None)

    def beats(self, place: Place, system: str, other: str, metric: str) -> bool:
        """Whether a model is significantly better than another."""
        level = self.comparisons["level"]
        ordered, turned = (self.comparison(place, *pair, metric) for pair in ((system, other), (other, system)))
        return bool((ordered and sign(ordered, level) > 0) or (turned and sign(turned, level) < 0))

    def resampled(self) -> str:
        """What the bootstrap draws again of each dataset."""
        of: dict[str, list[str]] = {}
        for dataset, unit in self.comparisons["units"].items():
            of.setdefault(unit, []).append(self.title("datasets", dataset))
        said = {"document": "", "sentence": " (documents not known)"}
        return " and ".join(f"the {unit}s of {', '.join(titles)}{said[unit]}" for unit, titles in of.items())

    def test_note(self) -> str:
        """What significant means, for notes and captions."""
        made = self.comparisons
        return (
            f"significant: Holm-adjusted p < {made['level']:g} over the {made['family']} comparisons of this grid "
            f"between systems of {made['least_runs']} or more runs each, t test with the variance of the test split "
            f"(paired bootstrap over {self.resampled()}, {made['resamples']:,} resamples) and what runs add to "
            "it; comparisons of fewer runs are not tested, and nothing of them is bold"
        )

    def power(self) -> str:
        """The probability with which a detectable difference is found, in words."""
        return f"{100 * self.comparisons['power']:g} % power"

    def detectable(self, comparisons: Iterable[dict]) -> str:
        """How large a difference comparisons could have found, by place and metric."""
        found: dict[str, dict[str, list[float]]] = {}
        for c in comparisons:
            if c["detectable"] is not None:
                at = found.setdefault(self.where(c["dataset"], c["encoder"], c["recipe"]), {})
                at.setdefault(METRICS[c["metric"]], []).append(c["detectable"])
        if not found:
            return "No comparison is tested."
        each = "; ".join(f"{where}: {_ranges(metrics)}" for where, metrics in found.items())
        return f"What is not significant may be too small for these tests, which have {self.power()} for {each}."

    # -- captions --------------------------------------------------------------------------------------------------

    def source(self, recipe: str, runs: Sequence[dict], splits: Iterable[str]) -> str:
        """How the measured figures of a row came about: recipe, number of seeds (by dataset if it differs), splits."""
        per_dataset: dict[str, set] = {}
        for run in runs:
            per_dataset.setdefault(self.whole(run["dataset"]), set()).add(run["seed"])
        counts = sorted({len(there) for there in per_dataset.values()})
        external = [run for run in runs if not is_trained(run)]
        what = f"external, beside {self.title('encoders', external[0]['encoder'])}" if external else "measured"
        return ", ".join([what, recipe, f"n={'/'.join(map(str, counts)) or 0}", *splits])

    def numbers(self) -> list[str]:
        """How many seeds each model at each place has: one n where it is the same for all."""
        lines = []
        for place in self.measured():
            counts = {m: len(self.seeds(place, m)) for m in self.models(place) if self.at(place, m)}
            same = len(set(counts.values())) == 1
            each = [f"n={n}" if same else f"{self.title('models', m)} n={n}" for m, n in counts.items()]
            lines.append(f"Seeds on {self.where(*place)}: {', '.join(dict.fromkeys(each))}.")
        return lines

    def measured_on(self, runs: Sequence[dict]) -> dict[tuple[str, str], list[str]]:
        """`sinet.captions.measured_on` of trained runs by dataset (all its folds) and encoder."""
        at: dict[tuple[str, str], list[dict]] = {}
        for run in filter(is_trained, runs):
            at.setdefault(self.place(run)[:2], []).append(run)
        titles = self.titles("models")
        return {where: measured_on(there, titles, where[0]) for where, there in at.items()}

    def caption(self) -> tuple[str, str]:
        """Of runs on one dataset with one encoder where they are, and what they were measured on."""
        (texts,) = self.measured_on(self.runs).values()
        return self.where(self.runs[0]["dataset"], self.runs[0]["encoder"]), f"Runs: {'. '.join(texts)}."

    def protocol(self, runs: Sequence[dict] | None = None) -> list[str]:
        """What the measured figures were measured on, one line for each setting, and the grid's remarks."""
        lines = [
            f"Ours on {self.title('datasets', dataset)} with {self.title('encoders', encoder)}: {text}; mean ± "
            "standard deviation where n > 1."
            for (dataset, encoder), texts in self.measured_on(self.runs if runs is None else runs).items()
            for text in texts
        ]
        archived = [run for run in self.runs if path_of(run) in self.declared["archived"]]
        commits = ", ".join(dict.fromkeys(short_commit(run["git_commit"]) for run in archived))
        taken = f"Archived runs, scored here and trained before at commit {commits}: {len(archived)}."
        return [*lines, *([taken] if archived else []), *self.remarks()]

    def external(self) -> list[str]:
        """Which models are given by predictions, who made them when, and what could not be read as it stands."""
        lines: dict[tuple[str, str], dict[str, None]] = {}
        for run in self.runs:
            if not is_trained(run):
                title, dataset = self.title("models", run["model"]), self.title("datasets", run["dataset"])
                about = f"seed {run['seed']} from {run['file']} (SHA-256 {run['sha256'][:12]})"
                parts = [*(f"{n:,} {why}" for why, n in (run["lost"] | run["changed"]).items())]
                parts += filter(None, [said_of(run["unknown_types"])])
                key = f"External, not trained here: {title} on {dataset}, made by {run['maker']}", run["date"]
                lines.setdefault(key, {})["; ".join([about, *parts])] = None
        return [f"{what}, {date}: {'. '.join(of)}." for (what, date), of in lines.items()]

    def remarks(self) -> list[str]:
        """What is external, the grid's own remark, and the runs skipped or failed with their reasons."""
        lines = [*self.external(), *([self.declared["remark"]] if self.declared["remark"] else [])]
        out: dict[tuple[str, str, str], list[str]] = {}
        for path, reason in self.declared["skipped"]:
            dataset, encoder, model, _ = path.split("/")
            out.setdefault((self.whole(dataset), encoder, reason), []).append(model)
        for (dataset, encoder, reason), runs in out.items():
            models = ", ".join(dict.fromkeys(runs))
            lines.append(f"Skipped, {counted(len(runs), 'run')} on {dataset}/{encoder} ({models}): {reason}.")
        return lines + [f"No result: {path}: {reason}." for path, reason in self.declared["failed"]]


def published_encoders(names: Iterable[str]) -> str:
    """Encoders as tables print them, of which a published figure may have been measured with any."""
    return " or ".join(PUBLISHED_ENCODERS[name] for name in names)


def matching_on_dev(run: dict) -> str:
    """How relations were matched on dev: as the last training of the recipe says."""
    return recipes.recorded(run).trainings[-1][1].matching


def split_of(runs: Sequence[dict], split: str) -> str:
    """The split that figures of runs are of, dev with its matching where that is another than what test is shown in."""
    if split == TEST or not runs:
        return split
    if not all(run["dev"] for run in runs):
        return f"no dev figure: trained on {runs[0]['trained_on']}"
    return f"{DEV}, directed" if matching_on_dev(runs[0]) == "directed" else DEV


def sign(comparison: dict, level: float) -> int:
    """1 or -1 where the difference is significant, 0 where it is not or was not tested."""
    if comparison["p_holm"] is None or comparison["p_holm"] >= level:
        return 0
    return 1 if comparison["difference"] > 0 else -1


def _ranges(of_metrics: dict[str, list[float]]) -> str:
    """Smallest and largest of the figures of each metric."""
    ends = {metric: dict.fromkeys((f"{min(of):.1f}", f"{max(of):.1f}")) for metric, of in of_metrics.items()}
    return ", ".join(f"{metric} {' to '.join(of)}" for metric, of in ends.items())


def is_trained(run: dict) -> bool:
    """Whether the run of a record was trained, not given by predictions."""
    return "maker" not in run


def path_of(run: dict) -> str:
    """`dataset/encoder/model/seed`, as in `sinet.schema.RunSpec.path`."""
    return f"{run['dataset']}/{run['encoder']}/{run['model']}/{run['seed']}"
