"""Where systems are right and wrong: F1 by type and by slice of the test split, errors by kind."""

from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from sinet.paper.grid import METRICS, WHY_EMPTY, Grid, Place, seeds, shown
from sinet.paper.table import Table, frame, mean_sd, tidy_line
from sinet.score.errors import ENTITY_KINDS, KINDS, RELATION_KINDS
from sinet.score.slices import CLASSES, TITLES

HIGHEST = "Highest"
NOT_TESTED = (
    f"{HIGHEST}: the system with the largest mean; single classes are not tested for significance, so nothing is bold."
)


def types_table(grid: Grid) -> Table:
    """F1 and support of every entity type (Ent) and relation type (Rel, Rel+)."""
    rows, lines = [], []
    for place in grid.places():
        first = grid.at(place, grid.models(place)[0])
        for metric, name in METRICS.items():
            for kind in first[0]["scores"]["symmetric"][metric]["types"]:
                of = lambda run, m=metric, k=kind: run["scores"]["symmetric"][m]["types"][k]  # noqa: E731
                cells, found = _row(grid, place, f"{name} of {kind}", of)
                rows.append(_where(grid, place) | {("", "Figure"): name, ("", "Type"): kind} | cells)
                lines += found
    notes = ("Micro F1 x 100 of each type. Gold: its claims in the gold of the test split.", NOT_TESTED, WHY_EMPTY)
    return Table("types", "By type", frame(rows), pd.DataFrame(lines), (*notes, *grid.protocol()))


def slices_table(grid: Grid) -> Table:
    """F1 by sentence length, number of triples, overlap pattern and distance; Ent and Rel+ to read, Rel in the csv."""
    rows, lines = [], []
    for place in grid.places():
        for metric, name in METRICS.items():
            for slicing, label, counted in _classes(metric):
                of = lambda run, m=metric, s=slicing, c=label: run["analysis"]["slices"][s][c][m]  # noqa: E731
                cells, found = _row(grid, place, f"{name}, {TITLES[slicing].lower()} {label}", of)
                sentences = _support(grid, place, counted) if counted else "n/a"
                head = {("", "Figure"): name, ("", "Slice"): TITLES[slicing], ("", "Class"): label}
                if metric != "rel":
                    rows.append(_where(grid, place) | head | {("", "Sentences"): sentences} | cells)
                lines += found
    notes = (
        "Micro F1 x 100 over the claims of each class. Length, triples and overlap choose sentences by their gold, "
        "distance chooses gold and predicted relations; gold: claims of the class in the gold of the test split. No "
        "gold: the class has none, so there is no F1.",
        "Overlap (Zeng et al., 2018): normal, no two triples of the sentence share an entity; EPO, two triples hold of "
        "the same two entities; SEO, two triples share one entity only; a sentence may have both.",
        NOT_TESTED,
        WHY_EMPTY,
    )
    return Table("slices", "By slice", frame(rows), pd.DataFrame(lines), (*notes, *grid.protocol()))


def errors_table(grid: Grid) -> Table:
    """Wrong claims by kind, mean over the runs of each system, with an example of each kind."""
    rows, lines = [], []
    for place in grid.places():
        examples = grid.at(place, grid.models(place)[0])[0]
        for kind in KINDS:
            cells = _where(grid, place) | {("", "Error"): kind}
            count = lambda run, k=kind: run["analysis"]["errors"][k]["count"]  # noqa: E731
            cells |= _cells(grid, place, kind, count, lines)
            rows.append(cells | {("", "Example"): _example(examples["analysis"]["errors"][kind])})
        for total, metric in (("all errors of entities", "ent"), ("all errors of relations", "rel_plus")):
            cells = _where(grid, place) | {("", "Error"): total}
            kinds = ENTITY_KINDS if metric == "ent" else RELATION_KINDS
            count = lambda run, k=kinds: sum(run["analysis"]["errors"][kind]["count"] for kind in k)  # noqa: E731
            rows.append(cells | _cells(grid, place, total, count, lines) | {("", "Example"): ""})
    first = grid.title("models", grid.models()[0])
    notes = (
        "Errors of the test split, strict reading (Ent; Rel+), symmetric types direction-free. Each wrong claim, gold "
        "or predicted, belongs to one error; a gold and a predicted claim that nearly agree are one error together.",
        *(f"{kind}: {meaning}." for kind, meaning in KINDS.items()),
        f"Examples: the first in a short sentence of the first run of {first} (or the first system there); gold / "
        "predicted, with the sentence's id. Counts are not tested for significance, so nothing is bold.",
        WHY_EMPTY,
    )
    return Table("errors", "Errors", frame(rows), pd.DataFrame(lines), (*notes, *grid.protocol()), ("Example",))


def _where(grid: Grid, place: Place) -> dict:
    several = len({p.recipe for p in grid.places()}) > 1
    cells = {("", "Dataset"): grid.title("datasets", place.dataset)}
    cells[("", "Encoder")] = grid.title("encoders", place.encoder) + (f", {place.recipe}" if several else "")
    return cells


def _classes(metric: str) -> Iterator[tuple[str, str, Callable | None]]:
    """Slicing, class, and how to count its sentences (None where it chooses claims)."""
    for slicing, labels in CLASSES.items():
        for label in labels:
            if slicing != "distance":
                yield slicing, label, lambda run, s=slicing, c=label: run["analysis"]["slices"][s][c]["sentences"]
            elif metric != "ent":
                yield slicing, label, None


def _row(grid: Grid, place: Place, figure: str, of: Callable[[dict], dict]) -> tuple[dict, list[dict]]:
    """Support, F1 of each system and the highest one, from figures with `f1` and `gold`."""
    lines: list[dict] = []
    gold = _support(grid, place, lambda run: of(run)["gold"])
    cells = {("", "Gold"): gold}
    if gold == "0":
        return cells | {("F1", grid.title("models", m)): "no gold" for m in grid.models()} | {("", HIGHEST): "n/a"}, []
    cells |= _cells(grid, place, figure, lambda run: of(run)["f1"], lines, over="F1")
    means = {line["system"]: line["mean"] for line in lines}
    best = [name for name, mean in means.items() if mean == max(means.values())]
    return cells | {("", HIGHEST): ", ".join(best) if 0 < len(best) < len(means) else "n/a"}, lines


def _cells(
    grid: Grid, place: Place, figure: str, of: Callable[[dict], float], lines: list[dict], over: str = ""
) -> dict:
    """One cell a system; what has values is added to the lines of the csv."""
    cells = {}
    for model in grid.models():
        title, values = grid.title("models", model), grid.values(place, model, of)
        cells[(over, title)] = shown(values) if over or isinstance(values, str) else _counts(values)
        if not isinstance(values, str):
            titles = grid.title("encoders", place.encoder), grid.title("datasets", place.dataset)
            source = f"measured, recipe {place.recipe}"
            lines.append(tidy_line(source, title, *titles, figure, values, seeds(grid.at(place, model))))
    return cells


def _counts(values: Sequence[int]) -> str:
    return mean_sd(values, 1) if len(values) > 1 else f"{values[0]:,}"


def _support(grid: Grid, place: Place, count: Callable[[dict], int]) -> str:
    """A count that is the same for every run, summed over the folds of the dataset."""
    per_fold = {run["dataset"]: count(run) for run in grid.runs if grid.place(run) == place}
    return f"{sum(per_fold.values()):,}"


def _example(error: dict) -> str:
    if not error["examples"]:
        return "none in a short sentence" if error["count"] else "none"
    example = error["examples"][0]
    return f"{example.get('gold', 'nothing')} / {example.get('predicted', 'nothing')} ({example['id']})"
