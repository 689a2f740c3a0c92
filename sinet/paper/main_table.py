"""The main table: every published row of the deck, then what was measured here."""

import pandas as pd

from sinet.paper.grid import (
    METRICS,
    NOT_REPORTED,
    PUBLISHED_DATASETS,
    PUBLISHED_ENCODERS,
    PUBLISHED_METRICS,
    UNREPORTED,
    WHY_EMPTY,
    Grid,
    Place,
    bold,
    f1_of,
    seeds,
    shown,
)
from sinet.paper.table import Table, frame, tidy_line
from sinet.score.compare import REFERENCE, pairs_to_compare


def main_table(grid: Grid, published: list[dict]) -> Table:
    """Systems x datasets; published rows first, then one measured row for each model, encoder and recipe."""
    columns = {name: (name, title) for name, title in PUBLISHED_DATASETS.items()}
    for place in grid.places():
        key, title = column(grid, place.dataset)
        columns.setdefault(key, (key, title))
    measured_in = {column(grid, place.dataset)[0]: place.dataset for place in grid.places()}
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
    for model in systems:
        for encoder, recipe in dict.fromkeys((p.encoder, p.recipe) for p, m in grid.planned() if m == model):
            titles = grid.title("models", model), grid.title("encoders", encoder)
            places = [p for p in grid.places() if (p.encoder, p.recipe) == (encoder, recipe)]
            runs = [run for place in places for run in grid.at(place, model)]
            cells = {("", "System"): f"{titles[0]} (ours)", ("", "Encoder"): titles[1]}
            cells[("", "Source")] = f"measured, {recipe}, {grid.number(runs)}"
            for key, title in columns.values():
                place = Place(measured_in.get(key, key), encoder, recipe)
                for metric, name in METRICS.items():
                    values = grid.values(place, model, f1_of(metric))
                    cells[(title, name)] = bold(shown(values), _wins(grid, place, model, metric))
                    if not isinstance(values, str):
                        source = f"measured, recipe {recipe}"
                        of = seeds(grid.at(place, model))
                        lines.append(tidy_line(source, *titles, title, name, values, of))
            rows.append(cells)
    notes = (
        f"Micro F1 x 100. {UNREPORTED} {WHY_EMPTY}",
        f"Bold: {REFERENCE} where it is significantly better than every other system measured here on the same dataset "
        f"with the same encoder and recipe, another system where it is significantly better than {REFERENCE}; "
        f"{grid.test_note()}. Published rows are not tested.",
        *grid.protocol([run for run in grid.runs if run["model"] in systems]),
    )
    return Table("main", "Main results", frame(rows), pd.DataFrame(lines), notes)


def is_system(declared: dict) -> bool:
    """Whether a model is a system by itself, not a step of the ablation."""
    return "published" in declared or "setting" not in declared


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
