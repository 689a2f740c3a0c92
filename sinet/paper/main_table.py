"""The main table: every published row of the deck, then what was measured here."""

import pandas as pd

from sinet.paper.grid import (
    LEFT_OUT,
    METRICS,
    NOT_REPORTED,
    PUBLISHED_ENCODERS,
    PUBLISHED_METRICS,
    UNREPORTED,
    WHY_EMPTY,
    Grid,
    Place,
    bold,
    f1_of,
    shown,
)
from sinet.paper.table import Table, frame, tidy_line
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import is_system
from sinet.score.compare import REFERENCE, pairs_to_compare


def main_table(grid: Grid, published: list[dict]) -> Table:
    """Systems x datasets; published rows first, then one measured row for each model, encoder and recipe."""
    columns = {name: (name, title) for name, title in PUBLISHED_DATASETS.items()}
    datasets = {}  # the one that stands in each column; a published column may have none
    for dataset in [*(place.dataset for place in grid.places()), *(dataset for dataset, _, _ in grid.absent())]:
        key, title = column(grid, dataset)
        columns.setdefault(key, (key, title))
        datasets[key] = dataset
    rows, lines = [], []
    for row in published:
        encoder = PUBLISHED_ENCODERS[row["encoder"]]
        cells = {("", "System"): f"{row['system']} ({row['cite']})", ("", "Encoder"): encoder}
        cells[("", "Source")] = "published"
        for key, title in columns.values():
            for metric, name in METRICS.items():
                value = row.get(key, {}).get(PUBLISHED_METRICS[metric])
                cells[(title, name)] = NOT_REPORTED if value is None else f"{value:.2f}"
                if value is not None:
                    lines.append(tidy_line("published", row["system"], encoder, title, name, [value]))
        rows.append(cells)
    systems = [m for m in grid.models() if is_system(grid.declared["models"][m])]
    for model, encoder, recipe in _measured_rows(grid, systems):
        titles = grid.title("models", model), grid.title("encoders", encoder)
        runs = [r for r in grid.runs if (r["model"], r["encoder"], r["recipe"]["name"]) == (model, encoder, recipe)]
        cells = {("", "System"): f"{titles[0]} (ours)", ("", "Encoder"): titles[1]}
        cells[("", "Source")] = f"measured, {recipe}, {grid.number(runs)}" if recipe else LEFT_OUT
        for key, title in columns.values():
            place = Place(datasets.get(key, ""), encoder, recipe)
            for metric, name in METRICS.items():
                values = grid.values(place, model, f1_of(metric))
                cells[(title, name)] = bold(shown(values), _wins(grid, place, model, metric))
                if not isinstance(values, str):
                    of = grid.seeds(place, model)
                    lines.append(tidy_line(f"measured, recipe {recipe}", *titles, title, name, values, of))
        rows.append(cells)
    notes = (
        f"Micro F1 x 100. {UNREPORTED} {WHY_EMPTY} DyIE, DyIE++: so the deck spells DyGIE, DyGIE++.",
        f"Bold: {REFERENCE} where it is significantly better than every other system measured here on the same dataset "
        f"with the same encoder and recipe, another system where it is significantly better than {REFERENCE}; "
        f"{grid.test_note()}. Published rows are not tested.",
        *grid.protocol([run for run in grid.runs if run["model"] in systems]),
    )
    return Table("main", "Main results", frame(rows), pd.DataFrame(lines), notes)


def _measured_rows(grid: Grid, models: list[str]) -> list[tuple[str, str, str]]:
    """Model, encoder and recipe of each row; no recipe where all runs with an encoder were left out."""
    planned = dict.fromkeys((model, place.encoder, place.recipe) for place, model in grid.planned())
    out = [(m, e, "") for _, e, m in grid.absent() if not any((m, e) == key[:2] for key in planned)]
    return [row for model in models for row in dict.fromkeys([*planned, *out]) if row[0] == model]


def column(grid: Grid, dataset: str) -> tuple[str, str]:
    """Key and title of the column that a dataset's figures stand in: a published one, or one of its own."""
    described = next(d for n, d in grid.declared["datasets"].items() if dataset in (n, d.get("fold_of")))
    key = described.get("published") or dataset + "*"
    return key, PUBLISHED_DATASETS.get(key, described["title"])


def _wins(grid: Grid, place: Place, model: str, metric: str) -> bool:
    there = grid.models(place)
    pairs = [(a, b) for kind, a, b in pairs_to_compare(grid.declared["models"]) if kind == "system"]
    found = {b: grid.significant(grid.compared(place, a, b, metric)) for a, b in pairs if b in there}
    if any(model == a for a, _ in pairs):
        return bool(found) and all(sign > 0 for sign in found.values())
    return found.get(model) == -1
