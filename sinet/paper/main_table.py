"""The main table: every published row of the deck, with what was measured here under it."""

import itertools

import pandas as pd

from sinet.paper.grid import (
    LEFT_OUT,
    METRICS,
    NOT_REPORTED,
    NOT_RUN,
    PUBLISHED_ENCODERS,
    PUBLISHED_METRICS,
    UNREPORTED,
    WHY_EMPTY,
    Grid,
    Place,
    bold,
    shown,
)
from sinet.paper.table import Table, frame, tidy_line
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import is_system, remark_on
from sinet.score.compare import pairs_to_compare


def main_table(grid: Grid, published: list[dict]) -> Table:
    """Systems x datasets: each published row (none of a grid of other datasets), directly under it what was measured of
    that system with that encoder, one row for each recipe; last what has no published row."""
    columns = dict(PUBLISHED_DATASETS) if published else {}
    for dataset in grid.datasets():
        key, title = grid.column(dataset)
        columns.setdefault(key, title)
    rest = _measured_rows(grid, [m for m in grid.models() if is_system(grid.declared["models"][m])])
    made = []
    for row in published:
        ours = [m for m in rest if _published_name(grid, *m[:2]) == (row["system"], row["encoder"])]
        made += [_published(grid, columns, row, bool(ours)), *(_measured(grid, columns, *m) for m in ours)]
        rest = [m for m in rest if m not in ours]
    made += [_measured(grid, columns, *m) for m in rest]
    beside = (
        f" {UNREPORTED} {remark_on('main')} Under a published row: that system, measured here with that encoder, by "
        "which recipe, over n seeds, on which split. Measured rows without a published one (another encoder) come last."
    )
    notes = (
        f"Micro F1 x 100. {WHY_EMPTY}{beside if published else ''}",
        *_tested(grid),
        *grid.protocol([run for run in grid.runs if is_system(grid.declared["models"][run["model"]])]),
    )
    rows, lines = [cells for cells, _ in made], [line for _, of_row in made for line in of_row]
    return Table("main", "Main results", frame(rows), pd.DataFrame(lines), notes)


def _published(grid: Grid, columns: dict[str, str], row: dict, measured: bool) -> tuple[dict, list[dict]]:
    """Cells and csv lines of a published row, which says why no measured one stands under it."""
    encoder, source = PUBLISHED_ENCODERS[row["encoder"]], "published"
    if not measured:
        here = any(declared.get("published") == row["system"] for declared in grid.declared["models"].values())
        source += f"; {NOT_RUN}" if here else f"; no {row['system']} here"
    cells = {("", "System"): f"{row['system']} ({row['cite']})", ("", "Encoder"): encoder, ("", "Source"): source}
    lines = []
    for (key, title), (metric, name) in itertools.product(columns.items(), METRICS.items()):
        value = row.get(key, {}).get(PUBLISHED_METRICS[metric])
        cells[(title, name)] = NOT_REPORTED if value is None else f"{value:.2f}"
        if value is not None:
            lines.append(tidy_line(source, row["system"], encoder, title, name, [value]))
    return cells, lines


def _measured(grid: Grid, columns: dict[str, str], model: str, encoder: str, recipe: str) -> tuple[dict, list[dict]]:
    """Cells and csv lines of what was measured of a model with an encoder and a recipe."""
    planned = [place for place, m in grid.planned() if (m, place.encoder, place.recipe) == (model, encoder, recipe)]
    planned += [Place(dataset, encoder, recipe) for dataset, *of in grid.absent() if of == [encoder, model]]
    # of the datasets that share a published column, the one that this row is planned on
    places = {grid.column(place.dataset)[0]: place for place in reversed(planned)}
    runs = [run for place in dict.fromkeys(places.values()) for run in grid.at(place, model)]
    splits = dict.fromkeys(run["split"] + _of_dataset(grid, run["dataset"]) for run in runs)
    sources = [grid.source(recipe, runs, splits)] if recipe else []
    if lacking := grid.why_absent(encoder, model):
        sources.append(f"{LEFT_OUT}: {lacking}")
    source = "; ".join(sources)
    titles = grid.title("models", model), grid.title("encoders", encoder)
    cells = {("", "System"): f"{titles[0]} (ours)", ("", "Encoder"): titles[1], ("", "Source"): source}
    lines = []
    for (key, title), (metric, name) in itertools.product(columns.items(), METRICS.items()):
        place = places.get(key)
        values = grid.f1(place, model, metric) if place else NOT_RUN
        cells[(title, name)] = bold(shown(values), bool(place) and _wins(grid, place, model, metric))
        if place:
            lines.append(tidy_line(source, *titles, title, name, values, grid.seeds(place, model)))
    return cells, lines


def _published_name(grid: Grid, model: str, encoder: str) -> tuple[str | None, str | None]:
    """System and encoder of the published row that a model with an encoder stands under."""
    return tuple(
        grid.declared[kind][name].get("published") for kind, name in (("models", model), ("encoders", encoder))
    )


def _of_dataset(grid: Grid, dataset: str) -> str:
    """Which dataset a figure is of, where its column is named after another."""
    title = grid.title("datasets", grid.whole(dataset))
    return "" if title == grid.column(dataset)[1] else f" of {title}"


def _measured_rows(grid: Grid, models: list[str]) -> list[tuple[str, str, str]]:
    """Model, encoder and recipe of each row; no recipe where all runs with an encoder were left out."""
    planned = dict.fromkeys((model, place.encoder, place.recipe) for place, model in grid.planned())
    out = [(m, e, "") for _, e, m in grid.absent() if not any((m, e) == key[:2] for key in planned)]
    return [row for model in models for row in dict.fromkeys([*planned, *out]) if row[0] == model]


def _tested(grid: Grid) -> list[str]:
    """What is bold, where the grid has a model that others are compared with."""
    if (reference := grid.declared["reference"]) is None:
        return []
    title = grid.title("models", reference)
    return [
        f"Bold: {title} where it is significantly better than every other system measured here on the same dataset "
        f"with the same encoder and recipe, another system where it is significantly better than {title}; "
        f"{grid.test_note()}. Published rows are not tested."
    ]


def _wins(grid: Grid, place: Place, model: str, metric: str) -> bool:
    there = grid.models(place)
    pairs = [
        (a, b)
        for kind, a, b in pairs_to_compare(grid.declared["models"], grid.declared["reference"])
        if kind == "system"
    ]
    found = {b: grid.significant(grid.compared(place, a, b, metric)) for a, b in pairs if b in there}
    if any(model == a for a, _ in pairs):
        return bool(found) and all(sign > 0 for sign in found.values())
    return found.get(model) == -1
