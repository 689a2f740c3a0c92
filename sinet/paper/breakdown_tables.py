"""Where systems are right and wrong: F1 by type and by slice of the test split, errors by kind."""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from sinet.paper.grid import METRICS, NO_GOLD, WHY_EMPTY, Grid, Place, shown
from sinet.paper.table import NO_FIGURE, Table, frame, mean_sd, tidy_line
from sinet.score.errors import ENTITY_KINDS, KINDS, RELATION_KINDS
from sinet.score.metrics import precision_recall
from sinet.score.slices import CLASSES, TITLES

HIGHEST = "Highest"
CLAIMS = ("Gold", "Predicted")
EXAMPLES = ("Dataset", "Encoder", "System", "Error", *CLAIMS, "Sentence")
NOT_TESTED = (
    f"{HIGHEST}: the system with the largest mean; single classes are not tested for significance, so nothing is bold."
)


def types_table(grid: Grid) -> Table:
    """F1 and support of every entity type (Ent) and relation type (Rel, Rel+)."""
    rows, lines = [], []
    for place in _measured(grid):
        first = grid.there(place)[0]
        for metric, name in METRICS.items():
            for kind in first["scores"]["symmetric"][metric]["types"]:
                of_type = _reader("scores", "symmetric", metric, "types", kind)
                cells, found = _row(grid, place, f"{name} of {kind}", of_type)
                rows.append(_where(grid, place) | {("", "Figure"): name, ("", "Type"): kind} | cells)
                lines += found
    notes = (
        f"Micro F1 x 100 of each type{_pooled(grid)}. Gold: its claims in the gold of the test split.",
        NOT_TESTED,
        WHY_EMPTY,
    )
    return Table("types", "By type", frame(rows), pd.DataFrame(lines), (*notes, *_measured_on(grid)))


def slices_table(grid: Grid) -> Table:
    """F1 by sentence length, number of triples, overlap pattern and distance; Ent and Rel+ to read, Rel in the csv."""
    rows, lines = [], []
    for place in _measured(grid):
        for metric, name in METRICS.items():
            for slicing, label in _classes(metric):
                of_class = ("analysis", "slices", slicing, label)
                figure = f"{name}, {TITLES[slicing].lower()} {label}"
                cells, found = _row(grid, place, figure, _reader(*of_class, metric))
                chosen = slicing != "distance"
                sentences = _support(grid, place, _reader(*of_class, "sentences")) if chosen else NO_FIGURE
                head = {("", "Figure"): name, ("", "Slice"): TITLES[slicing], ("", "Class"): label}
                if metric != "rel":
                    rows.append(_where(grid, place) | head | {("", "Sentences"): sentences} | cells)
                lines += found
    notes = (
        f"Micro F1 x 100 over the claims of each class{_pooled(grid)}. Length, triples and overlap "
        "choose sentences by their gold, distance chooses gold and predicted relations; gold: claims of the class in "
        "the gold of the test split. No gold: the class has none, so there is no F1.",
        "Overlap (Zeng et al., 2018): normal, no two triples of the sentence share an entity; EPO, two triples hold of "
        "the same two entities; SEO, two triples share one entity only; a sentence may have both.",
        NOT_TESTED,
        WHY_EMPTY,
    )
    return Table("slices", "By slice", frame(rows), pd.DataFrame(lines), (*notes, *_measured_on(grid)))


def errors_table(grid: Grid) -> Table:
    """Wrong claims by kind, mean over the seeds of each system."""
    rows, lines = [], []
    for place in _measured(grid):
        sums = {"all errors of entities": ENTITY_KINDS, "all errors of relations": RELATION_KINDS}
        for kind, summed in ({kind: (kind,) for kind in KINDS} | sums).items():
            counts = _cells(grid, place, kind, _counter(summed), lines, sum)
            rows.append(_where(grid, place) | {("", "Error"): kind} | counts)
    notes = (
        "Errors of the test split, strict reading (Ent; Rel+), symmetric types direction-free. Each wrong claim, gold "
        "or predicted, belongs to one error; a gold and a predicted claim that nearly agree are one error together. "
        "Counts of a dataset in folds are sums over its folds; they are not tested for significance, so nothing is "
        "bold.",
        *(f"{kind}: {meaning}." for kind, meaning in KINDS.items()),
        WHY_EMPTY,
    )
    return Table("errors", "Errors", frame(rows), pd.DataFrame(lines), (*notes, *_measured_on(grid)))


def examples_table(grid: Grid) -> Table:
    """An example of each kind of error of each system; in the csv all that the analyses hold."""
    systems = ((place, model) for place in _measured(grid) for model in grid.models(place))
    lines = [line for place, model in systems for line in _examples(grid, place, model)]
    table = pd.DataFrame(lines, columns=[*map(str.lower, EXAMPLES), "seed", "words"])
    first = table.drop_duplicates(["dataset", "encoder", "system", "error"]).to_dict("records")
    rows = [{("", name): line[name.lower()] for name in EXAMPLES} for line in first]
    notes = (
        "Of each system and kind of error the first in a short sentence of the first seed's run (of a dataset in folds "
        "its first fold); a kind without a line has none. The csv holds up to three of each, with the words.",
        *(f"{kind}: {meaning}." for kind, meaning in KINDS.items()),
        *grid.protocol(),
    )
    columns = [("", name) for name in EXAMPLES]
    return Table(
        "error_examples", "Examples of errors", frame(rows, columns), table, notes, prose=(*CLAIMS, "Sentence")
    )


def _examples(grid: Grid, place: Place, model: str) -> Iterator[dict]:
    where = {name.lower(): text for (_, name), text in _where(grid, place).items()}
    for run in grid.at(place, model)[:1]:
        for kind in KINDS:
            for example in run["analysis"]["errors"][kind]["examples"]:
                claims = {side: example.get(side, "nothing") for side in map(str.lower, CLAIMS)}
                yield (
                    where
                    | claims
                    | {
                        **{"system": grid.title("models", model), "seed": run["seed"], "error": kind},
                        **{"sentence": example["id"], "words": example["text"]},
                    }
                )


def _measured(grid: Grid) -> list[Place]:
    """Places at which some run has a result."""
    return [place for place in grid.places() if grid.there(place)]


def _measured_on(grid: Grid) -> list[str]:
    return [*map(grid.numbers, _measured(grid)), *grid.protocol()]


def _pooled(grid: Grid) -> str:
    folds = any(grid.whole(run["dataset"]) != run["dataset"] for run in grid.runs)
    return ", of a dataset in folds over the claims of all folds of a seed together" if folds else ""


def _pooled_f1(folds: list[dict]) -> float:
    return precision_recall(*(sum(f[count] for f in folds) for count in ("gold", "predicted", "correct")))["f1"]


def _where(grid: Grid, place: Place) -> dict:
    several = len({p.recipe for p in grid.places()}) > 1
    cells = {("", "Dataset"): grid.title("datasets", place.dataset)}
    cells[("", "Encoder")] = grid.title("encoders", place.encoder) + (f", {place.recipe}" if several else "")
    return cells


def _classes(metric: str) -> Iterator[tuple[str, str]]:
    """Slicing and class; entities have no distance."""
    for slicing, labels in CLASSES.items():
        if (slicing, metric) != ("distance", "ent"):
            yield from ((slicing, label) for label in labels)


def _reader(*keys: str) -> Callable[[dict], Any]:
    return lambda run: functools.reduce(operator.getitem, keys, run)


def _counter(kinds: Iterable[str]) -> Callable[[dict], int]:
    return lambda run: sum(run["analysis"]["errors"][kind]["count"] for kind in kinds)


def _row(grid: Grid, place: Place, figure: str, of: Callable[[dict], dict]) -> tuple[dict, list[dict]]:
    """Support, F1 of each system and the highest one, from figures with `f1` and `gold`."""
    lines: list[dict] = []
    gold = _support(grid, place, lambda run: of(run)["gold"])
    cells = {("", "Gold"): gold}
    if gold == "0":
        return cells | {("F1", grid.title("models", m)): NO_GOLD for m in grid.models()} | {
            ("", HIGHEST): NO_FIGURE
        }, []
    cells |= _cells(grid, place, figure, of, lines, _pooled_f1, over="F1")
    means = {line["system"]: line["mean"] for line in lines}
    best = [name for name, mean in means.items() if mean == max(means.values())]
    return cells | {("", HIGHEST): ", ".join(best) if 0 < len(best) < len(means) else NO_FIGURE}, lines


def _cells(
    grid: Grid,
    place: Place,
    figure: str,
    of: Callable[[dict], Any],
    lines: list[dict],
    over_folds: Callable[[list], float],
    over: str = "",
) -> dict:
    """One cell a system; what has values is added to the lines of the csv."""
    cells = {}
    for model in grid.models():
        title, values = grid.title("models", model), grid.values(place, model, of, over_folds)
        cells[(over, title)] = shown(values) if over or isinstance(values, str) else _counts(values)
        if not isinstance(values, str):
            titles = grid.title("encoders", place.encoder), grid.title("datasets", place.dataset)
            source = f"measured, recipe {place.recipe}"
            lines.append(tidy_line(source, title, *titles, figure, values, grid.seeds(place, model)))
    return cells


def _counts(values: Sequence[int]) -> str:
    return mean_sd(values, 1) if len(values) > 1 else f"{values[0]:,}"


def _support(grid: Grid, place: Place, count: Callable[[dict], int]) -> str:
    """A count that is the same for every run, summed over the folds of the dataset."""
    per_fold = {run["dataset"]: count(run) for run in grid.there(place)}
    return f"{sum(per_fold.values()):,}"
