"""The runs of a grid as the tables see them: where each stands, what a cell shows, what figures were measured on."""

import functools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sinet.errors import UserError, counted
from sinet.grid import recipes
from sinet.paper.table import NO_FIGURE, Bold, mean_sd
from sinet.paper.titles import dataset_title
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import FULL

METRICS = {"ent": "Ent", "rel": "Rel", "rel_plus": "Rel+"}
PUBLISHED_METRICS = {"ent": "ent", "rel": "rel", "rel_plus": "rel_strict"}
PUBLISHED_ENCODERS = {"Bb": "BERT", "SciB": "SciBERT", "ALB": "ALBERT"}
TEST, DEV = "test", "dev"
NOT_REPORTED, NOT_RUN, LEFT_OUT, FAILED, NO_GOLD = "n.r.", "not run", "left out", "failed", "no gold"
UNREPORTED = f"{NOT_REPORTED}: the paper reports no such figure."
WHY_EMPTY = (
    f"{NOT_RUN}: not in this grid. {LEFT_OUT}, {FAILED}: in this grid, but some or all of its runs have no result, for "
    f"the reasons given; nothing is averaged over the others. {NO_GOLD}: the test split has nothing to be found."
)


class Place(NamedTuple):
    """Where systems can be compared: a dataset (all its folds), an encoder, a recipe."""

    dataset: str
    encoder: str
    recipe: str


@dataclass(frozen=True)
class Grid:
    """Records of the runs of a grid, each complete with its `analysis`; declarations; comparisons.

    `declared`: as `sinet.grid.plan.Plan.declared`.
    """

    runs: Sequence[dict]
    declared: dict
    comparisons: dict

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

    def whole(self, dataset: str) -> str:
        """The dataset of which one is a fold, or the dataset itself."""
        return self.declared["datasets"][dataset].get("fold_of", dataset)

    def title(self, kind: str, name: str) -> str:
        """How a declared dataset (whole, or one of its folds), encoder or model is printed."""
        of = self.declared[kind]
        if name in of:
            return dataset_title(name, of[name])
        return next(described["title"] for described in of.values() if described.get("fold_of") == name)

    def column(self, dataset: str) -> tuple[str, str]:
        """Key and title of the column that a dataset's figures stand in: a published one, or one of its own."""
        described = next(d for n, d in self.declared["datasets"].items() if dataset in (n, d.get("fold_of")))
        key = described.get("published") or dataset + "*"
        return key, PUBLISHED_DATASETS.get(key, described["title"])

    def place(self, run: dict) -> Place:
        return Place(self.whole(run["dataset"]), run["encoder"], run["recipe"]["name"])

    def planned(self) -> list[tuple[Place, str]]:
        """Place and model of every planned run, in the order of the grid."""
        return [(place, model) for place, model, _ in self._plan]

    @functools.cached_property
    def _plan(self) -> list[tuple[Place, str, int]]:
        runs = ((*path.split("/"), recipe) for path, recipe in self.declared["runs"].items())
        return [(Place(self.whole(d), e, recipe), model, int(seed)) for d, e, model, seed, recipe in runs]

    def places(self) -> list[Place]:
        """All places at which runs were planned, in the order of the grid."""
        return list(dict.fromkeys(place for place, _ in self.planned()))

    def datasets(self) -> list[str]:
        """All datasets (whole) with a run in the grid, or one that was left out."""
        return list(dict.fromkeys([*(p.dataset for p in self.places()), *(dataset for dataset, _, _ in self.absent())]))

    def ablated(self) -> list[Place]:
        """Where settings of the ablation are planned, or without a recipe left out, besides the full model, which is a
        system as others are."""
        steps = [n for n, m in self.declared["models"].items() if m.get("setting", FULL) != FULL]
        planned = dict.fromkeys(place for place, model in self.planned() if model in steps)
        out = dict.fromkeys(Place(dataset, encoder, "") for dataset, encoder, model in self.absent() if model in steps)
        return [*planned, *(place for place in out if place[:2] not in {there[:2] for there in planned})]

    def models(self, place: Place | None = None) -> list[str]:
        """Models planned at a place, in the order of the grid; of no place all, those left out last."""
        out = () if place else (model for _, _, model in self.absent())
        return list(dict.fromkeys([*(m for where, m in self.planned() if place in (None, where)), *out]))

    def absent(self) -> list[tuple[str, str, str]]:
        """Dataset (all its folds), encoder and model of the runs that were left out."""
        paths = (path.split("/") for path, _ in self.declared["skipped"])
        return list(dict.fromkeys((self.whole(dataset), encoder, model) for dataset, encoder, model, _ in paths))

    def there(self, place: Place) -> list[dict]:
        """The runs with a result at a place."""
        return self._there.get(place, [])

    @functools.cached_property
    def _there(self) -> dict[Place, list[dict]]:
        found: dict[Place, list[dict]] = {}
        for run in self.runs:
            found.setdefault(self.place(run), []).append(run)
        return found

    def at(self, place: Place, model: str) -> list[dict]:
        """Those of one model: its seeds, times the folds of the dataset."""
        return [run for run in self.there(place) if run["model"] == model]

    def why_absent(self, encoder: str, model: str) -> str:
        """What the runs of a model with an encoder that were left out lack, in short."""
        lacking = [why for path, why in self.declared["skipped"] if path.split("/")[1:3] == [encoder, model]]
        return ", ".join(dict.fromkeys(why.partition(":")[0] for why in lacking))

    def left_out(self, place: Place, model: str) -> bool:
        """Whether a run of the model there was left out."""
        return (place.dataset, place.encoder, model) in self.absent()

    def seeds(self, place: Place, model: str) -> list[int]:
        """Seeds of the runs of a model at a place, each once; how many they are is the n of a cell."""
        return list(dict.fromkeys(run["seed"] for run in self.at(place, model)))

    def values(
        self,
        place: Place,
        model: str,
        figure: Callable[[dict], Any],
        over_folds: Callable[[list], float] = statistics.fmean,
    ) -> list[float] | str:
        """A figure of each seed of a model at a place, of one run or `over_folds` of the dataset; or why it has none.

        Args:
            figure: of a run; a number unless `over_folds` takes something else, None where the run has none.
        """
        if self.left_out(place, model):
            return LEFT_OUT
        planned = Counter(seed for where, m, seed in self._plan if (where, m) == (place, model))
        there: dict[int, list[dict]] = {}
        for run in self.at(place, model):
            there.setdefault(run["seed"], []).append(run)
        if (complete := sum(len(there.get(seed, ())) == folds for seed, folds in planned.items())) < len(planned):
            return f"{FAILED} (n={complete} of {len(planned)})"
        figures = [[figure(run) for run in of_seed] for of_seed in there.values()]
        if any(None in of_folds for of_folds in figures):
            return NO_FIGURE
        return [over_folds(of_folds) for of_folds in figures] or NOT_RUN

    def f1(self, place: Place, model: str, metric: str, split: str = TEST) -> list[float] | str:
        """The F1 of each seed of a model at a place, or why it has none: not run, or no gold on test, where that on dev
        is not shown either unless something was found there."""
        values = self.values(place, model, f1_of(metric, split))
        if isinstance(values, str) or any(values) or not self.without_gold(place, metric):
            return values
        return NO_GOLD

    def without_gold(self, place: Place, metric: str) -> bool:
        """Whether the test split (all folds) has nothing that a metric could find."""
        return not any(run["scores"]["symmetric"][metric]["gold"] for run in self.there(place))

    def compared(self, place: Place, system: str, other: str, metric: str) -> dict | None:
        """The comparison of two models at a place; None where it was not made."""
        key = {**place._asdict(), "system": system, "other": other, "metric": metric}
        return next((c for c in self.comparisons["comparisons"] if all(c[k] == v for k, v in key.items())), None)

    def significant(self, comparison: dict | None) -> int:
        """1 or -1 for a system that is better or worse than the other after correction, 0 for neither."""
        return 0 if comparison is None else sign(comparison, self.comparisons["level"])

    def test_note(self) -> str:
        """What significant means, for the notes of a table."""
        return f"significant: {test_of(self.comparisons)}"

    def source(self, recipe: str, runs: Sequence[dict], splits: Iterable[str]) -> str:
        """How the measured figures of a row came about: recipe, number of seeds, splits."""
        return ", ".join(["measured", recipe, self.number(runs), *splits])

    def number(self, runs: Sequence[dict]) -> str:
        """Number of seeds behind the cells of a row, by dataset where they differ."""
        per_dataset: dict[str, set] = {}
        for run in runs:
            per_dataset.setdefault(self.whole(run["dataset"]), set()).add(run["seed"])
        counts = sorted({len(there) for there in per_dataset.values()})
        return f"n={'/'.join(map(str, counts)) or 0}"

    def numbers(self, place: Place) -> str:
        """How many seeds each model at a place has: one n where it is the same for all."""
        counts = {m: len(self.seeds(place, m)) for m in self.models(place) if self.at(place, m)}
        same = len(set(counts.values())) == 1
        each = [f"n={n}" if same else f"{self.title('models', m)} n={n}" for m, n in counts.items()]
        where = self.title("datasets", place.dataset), self.title("encoders", place.encoder), place.recipe
        return f"Seeds on {', '.join(where)}: {', '.join(dict.fromkeys(each)) or 'n=0'}."

    def protocol(self, runs: Sequence[dict] | None = None) -> list[str]:
        """What the measured figures were measured on, one line for each setting, and the grid's remarks.

        Systems of one recipe may train for different numbers of epochs: the line says which for how many.
        """
        settings: dict[tuple, list[dict]] = {}
        for run in self.runs if runs is None else runs:
            measured = *self.place(run), *(run[k] for k in ("split", "device_name", "device", "threads", "precision"))
            settings.setdefault(measured, []).append(run)
        return [*map(self._measured_on, settings.values()), *self._taken(), *self.remarks()]

    def _taken(self) -> list[str]:
        """Which runs were kept, and by which commits they were trained."""
        taken = [run for run in self.runs if path_of(run) in self.declared["archived"]]
        commits = ", ".join(dict.fromkeys(short_commit(run["git_commit"]) for run in taken))
        return [f"Archived runs, scored here and trained before at commit {commits}: {len(taken)}."] if taken else []

    def _measured_on(self, runs: Sequence[dict]) -> str:
        first, place = runs[0], self.place(runs[0])
        folds, sizes = {run["dataset"] for run in runs}, sorted({run["test_sentences"] for run in runs})
        trained: dict[str, dict[str, None]] = {}
        for run in runs:
            text = f"{recipes.length(run['recipe'])}, selection {recipes.selection(run['recipe'])}"
            trained.setdefault(text, {})[self.title("models", run["model"])] = None
        recipe = "; ".join(text if len(trained) == 1 else f"{', '.join(of)} {text}" for text, of in trained.items())
        return (
            f"Ours on {self.title('datasets', place.dataset)} with {self.title('encoders', place.encoder)}: "
            f"{first['split']} split ({' to '.join(map(str, sizes[:: max(len(sizes) - 1, 1)]))} sentences), "
            + self._of_folds(place.dataset, folds)
            + f"symmetric types direction-free; recipe {place.recipe} ({recipe}); {first['device_name']} "
            f"({first['device']}, {first['threads']} threads), {first['precision']}; mean ± standard deviation where "
            f"n > 1; seeds {', '.join(map(str, dict.fromkeys(run['seed'] for run in runs)))}."
        )

    @staticmethod
    def _of_folds(dataset: str, folds: set[str]) -> str:
        if folds == {dataset}:
            return ""
        if len(folds) == 1:
            return f"fold {next(iter(folds)).removeprefix(f'{dataset}-')} alone, "
        return f"mean over the {len(folds)} folds of each seed, "

    def remarks(self) -> list[str]:
        """The grid's own remark, and the runs left out or failed with their reasons."""
        lines = [self.declared["remark"]] if self.declared["remark"] else []
        out: dict[tuple[str, str, str], list[str]] = {}
        for path, reason in self.declared["skipped"]:
            dataset, encoder, model, _ = path.split("/")
            out.setdefault((self.whole(dataset), encoder, reason), []).append(model)
        for (dataset, encoder, reason), runs in out.items():
            models = ", ".join(dict.fromkeys(runs))
            lines.append(f"Left out, {counted(len(runs), 'run')} on {dataset}/{encoder} ({models}): {reason}.")
        return lines + [f"No result: {path}: {reason}." for path, reason in self.declared["failed"]]


def published_encoders(names: Iterable[str]) -> str:
    """Encoders as tables print them, of which a published figure may have been measured with any."""
    return " or ".join(PUBLISHED_ENCODERS[name] for name in names)


def f1_of(metric: str, split: str = TEST) -> Callable[[dict], float | None]:
    """Reads the F1 of a record under a metric: on test with symmetric types direction-free; on dev at the selected
    weights, as the recipe's `matching` has it, None where dev was trained on."""
    return lambda run: run["scores"]["symmetric"][metric]["f1"] if split == TEST else run["dev"].get(metric)


def matching_on_dev(run: dict) -> str:
    """How relations were matched on dev: as the last training of the recipe says."""
    return recipes.trainings(run["recipe"])[-1][1]["matching"]


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


def test_of(made: dict) -> str:
    """The test that the comparisons of a grid have passed where they are significant, and which are not tested."""
    return (
        f"Holm-adjusted p < {made['level']:g} over the {made['family']} comparisons of this grid between systems of "
        f"{made['least_runs']} or more runs each, t test with the variance of test sentences (paired bootstrap, "
        f"{made['resamples']:,} resamples) plus that of runs; comparisons of fewer runs are not tested, and nothing "
        "of them is bold"
    )


def short_commit(commit: str) -> str:
    """A commit as people write it; `+` at its end means that there were changes besides."""
    return commit[:12] + "+" * commit.endswith("+")


def path_of(run: dict) -> str:
    """`dataset/encoder/model/seed`, as in `sinet.config.Run.path`."""
    return f"{run['dataset']}/{run['encoder']}/{run['model']}/{run['seed']}"


def shown(values: Sequence[float] | str) -> str:
    """A cell of `Grid.values`."""
    return values if isinstance(values, str) else mean_sd(values)


def bold(text: str, when: bool) -> str:
    return Bold(text) if when else text
