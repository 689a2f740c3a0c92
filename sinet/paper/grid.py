"""The runs of a grid as the tables see them: where each stands, what a cell shows, what figures were measured on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sinet.errors import UserError
from sinet.paper.table import mean_sd

METRICS = {"ent": "Ent", "rel": "Rel", "rel_plus": "Rel+"}
PUBLISHED_METRICS = {"ent": "ent", "rel": "rel", "rel_plus": "rel_strict"}
PUBLISHED_DATASETS = {"ace04": "ACE04", "ace05": "ACE05", "scierc": "SciERC"}
PUBLISHED_ENCODERS = {"Bb": "BERT", "SciB": "SciBERT", "ALB": "ALBERT"}
NOT_REPORTED, NOT_RUN, LEFT_OUT, FAILED = "n.r.", "not run", "left out", "failed"
UNREPORTED = f"{NOT_REPORTED}: the paper reports no such figure."
WHY_EMPTY = (
    f"{NOT_RUN}: not in this grid. {LEFT_OUT}, {FAILED}: in this grid, but some or all of its runs have no result, for "
    "the reasons given; nothing is averaged over the others."
)


class Place(NamedTuple):
    """Where systems can be compared: a dataset (all its folds), an encoder, a recipe."""

    dataset: str
    encoder: str
    recipe: str


@dataclass(frozen=True)
class Grid:
    """Records of the runs of a grid, each complete with its `analysis`; declarations; comparisons.

    `declared`: `datasets`, `encoders`, `models` as configured, the planned `runs` (path to recipe), those that `failed`
    and those `left_out` of the plan (path and reason), and the grid's `remark`.
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
        """How a declared dataset (or any of its folds), encoder or model is printed."""
        of = self.declared[kind]
        return of[name if name in of else next(n for n in of if of[n].get("fold_of") == name)]["title"]

    def place(self, run: dict) -> Place:
        return Place(self.whole(run["dataset"]), run["encoder"], run["recipe"]["name"])

    def planned(self) -> list[tuple[Place, str]]:
        """Place and model of every planned run, in the order of the grid."""
        runs = ((*path.split("/"), recipe) for path, recipe in self.declared["runs"].items())
        return [(Place(self.whole(d), e, recipe), model) for d, e, model, _, recipe in runs]

    def places(self) -> list[Place]:
        """All places at which runs were planned, in the order of the grid."""
        return list(dict.fromkeys(place for place, _ in self.planned()))

    def models(self, place: Place | None = None) -> list[str]:
        """Models planned at a place, in the order of the grid; of no place all, those left out last."""
        out = () if place else (model for _, _, model in self.absent())
        return list(dict.fromkeys([*(m for where, m in self.planned() if place in (None, where)), *out]))

    def absent(self) -> list[tuple[str, str, str]]:
        """Dataset (all its folds), encoder and model of the runs that were left out."""
        paths = (path.split("/") for path, _ in self.declared["left_out"])
        return list(dict.fromkeys((self.whole(dataset), encoder, model) for dataset, encoder, model, _ in paths))

    def there(self, place: Place) -> list[dict]:
        """The runs with a result at a place."""
        return [run for run in self.runs if self.place(run) == place]

    def at(self, place: Place, model: str) -> list[dict]:
        """Those of one model: its seeds, times the folds of the dataset."""
        return [run for run in self.there(place) if run["model"] == model]

    def left_out(self, place: Place, model: str) -> bool:
        """Whether a run of the model there was left out."""
        return (place.dataset, place.encoder, model) in self.absent()

    def values(self, place: Place, model: str, figure: Callable[[dict], float]) -> list[float] | str:
        """A figure of each run of a model at a place, or why it has none."""
        runs, planned = self.at(place, model), self.planned().count((place, model))
        if self.left_out(place, model):
            return LEFT_OUT
        if len(runs) < planned:
            return f"{FAILED} (n={len(runs)} of {planned})"
        return [figure(run) for run in runs] if runs else NOT_RUN

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

    def number(self, runs: Sequence[dict]) -> str:
        """Number of runs behind a cell: seeds, times folds where a dataset has them."""
        per_dataset: dict[str, set] = {}
        for run in runs:
            per_dataset.setdefault(self.whole(run["dataset"]), set()).add((run["dataset"], run["seed"]))
        counts = sorted({len(there) for there in per_dataset.values()})
        return f"n={'/'.join(map(str, counts)) or 0}"

    def protocol(self, runs: Sequence[dict] | None = None) -> list[str]:
        """What the measured figures were measured on, one line for each setting, and the runs left out.

        Systems of one recipe may train for different numbers of epochs: the line says which for how many.
        """
        runs = self.runs if runs is None else runs
        seeds: dict[str, set[int]] = {}
        epochs: dict[str, dict[str, None]] = {}
        several = len({(run["recipe"]["epochs"], run["recipe"]["selection"]) for run in runs}) > 1
        for run in runs:
            recipe = run["recipe"]
            setting = (
                f"Ours on {self.title('datasets', run['dataset'])} with {self.title('encoders', run['encoder'])}: "
                f"{run['split']} split ({run['test_sentences']} sentences), symmetric types direction-free; recipe "
                f"{recipe['name']} (EPOCHS); {run['device_name']} ({run['device']}, {run['threads']} threads), "
                f"{run['precision']}; mean ± standard deviation where n > 1; seeds "
            )
            seeds.setdefault(setting, set()).add(run["seed"])
            trained = f"{recipe['epochs']} epochs, selection {recipe['selection']}"
            if several:
                trained = f"{self.title('models', run['model'])} {trained}"
            epochs.setdefault(setting, {})[trained] = None
        lines = [
            f"{setting.replace('EPOCHS', '; '.join(epochs[setting]))}{', '.join(map(str, sorted(used)))}."
            for setting, used in seeds.items()
        ]
        return lines + self.remarks()

    def remarks(self) -> list[str]:
        """The grid's own remark, and the runs left out or failed with their reasons."""
        lines = [self.declared["remark"]] if self.declared["remark"] else []
        lines += [f"Left out: {path}: {reason}." for path, reason in self.declared["left_out"]]
        return lines + [f"No result: {path}: {reason}." for path, reason in self.declared["failed"]]


def f1_of(metric: str) -> Callable[[dict], float]:
    """Reads the F1 of a record under a metric, symmetric types direction-free."""
    return lambda run: run["scores"]["symmetric"][metric]["f1"]


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


def path_of(run: dict) -> str:
    """`dataset/encoder/model/seed`, as in `sinet.config.Run.path`."""
    return f"{run['dataset']}/{run['encoder']}/{run['model']}/{run['seed']}"


def shown(values: Sequence[float] | str) -> str:
    """A cell of `Grid.values`."""
    return values if isinstance(values, str) else mean_sd(values)


def seeds(runs: Sequence[dict]) -> list[int]:
    return [run["seed"] for run in runs]


def bold(text: str, when: bool) -> str:
    return f"**{text}**" if when else text
