"""Published against measured, like for like: a figure of the paper and ours of the same system with the same encoder on
the same dataset, how far apart they are, and how their making differs."""

import itertools
from collections.abc import Iterator

import pandas as pd

from sinet.grid import recipes
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.report.frame import DEV, TEST
from sinet.report.grid import (
    METRICS,
    NOT_REPORTED,
    NOT_RUN,
    PUBLISHED_METRICS,
    SKIPPED,
    UNREPORTED,
    WHY_EMPTY,
    Grid,
    Place,
    matching_on_dev,
    published_encoders,
    split_of,
)
from sinet.report.table import NO_FIGURE, Cell, Cells, Table, frame, number, shown, tidy_line

DIFFERS = "What differs"
IN_SD = "in published sd"
FIRST = ("System", "Encoder", "Dataset", "Recipe", "Split", "n")
COLUMNS = [*FIRST, *itertools.product(METRICS.values(), ("published", "ours", "difference", IN_SD)), DIFFERS]
CSV = [
    *("system", "dataset", "split", "matching", "figure", "published_encoder", "published", "published_sd", "encoder"),
    *("recipe", "mean", "sd", "n", "difference", "difference_in_published_sd", "values", "seeds", "differs"),
]


def published_table(grid: Grid, published: dict) -> Table:
    """A row for each measurement of a published system with its encoder on its dataset; the others named in notes.

    A difference is set against a spread only where the published source reports one (`sd` in `published.yaml`).
    """
    rows, lines, compared = [], [], set()
    alone: dict[str, dict[str, list[str]]] = {}
    for row in _figures_of(grid, published):
        model = row["model"]
        places = [p for p in row["among"] if model in grid.models(p) and _like(grid, row, p.dataset, p.encoder)]
        compared |= {(place, model) for place in places}
        if not places:
            systems = alone.setdefault(_why_not(grid, row), {})
            systems.setdefault(f"{row['system']} with {row['made']['encoder']}", []).append(row["made"]["dataset"])
        for place, split in itertools.product(places, row["splits"]):
            cells, of_row = _compared(grid, row, place, split)
            rows.append(cells)
            lines += of_row
    cells, tidy = frame(rows, COLUMNS), pd.DataFrame(lines, columns=CSV)
    cells = cells.drop(columns=[c for c in cells if c[1] == IN_SD and (cells[c] == NO_FIGURE).all()])
    tidy = tidy.drop(columns=[c for c in CSV if "published_sd" in c and tidy[c].isna().all()])
    in_sd = f"; {IN_SD}: over the standard deviation that its source reports, where it does"
    notes = (
        "Micro F1 x 100, published and ours of the same system with the same encoder on the same dataset. Difference: "
        f"our mean minus the published figure{in_sd if IN_SD in cells.columns.get_level_values(1) else ''}. Published "
        "figures are one number each: no test is made of them.",
        f"{UNREPORTED} {WHY_EMPTY}" if rows else "Nothing here is published of these datasets with these encoders.",
        "What differs: published / ours, as SINET's paper, the system's own or its released code states it. The "
        "ablation's figures do not match the main table of SINET's paper, so that its split may be another: ours are "
        "of test and of dev.",
        *(_listed(f"Published, {why}", systems) for why, systems in alone.items()),
        *_measured_alone(grid, compared),
        *grid.protocol(),
    )
    return Table("published_vs_measured", "Published and measured", cells, tidy, notes, (DIFFERS,))


def _figures_of(grid: Grid, published: dict) -> Iterator[dict]:
    """Figures of the paper's main table and ablation, by system, encoder and dataset.

    Each with the `column` it stands in, the `encoders` it may have been measured with, how it was `made`, the `model`
    here of that name or None, the places `among` which it may stand, and the `splits` that ours are given on.
    """
    models = grid.declared["models"]
    stated, unstated = published["protocol"]["systems"], published["protocol"]["unstated"]

    def figures(name: str, column: str, encoders: list[str], system: str, made: dict, **more: object) -> dict:
        made = unstated | stated.get(system, {}) | made
        made |= {"encoder": published_encoders(encoders), "dataset": PUBLISHED_DATASETS[column]}
        return {"system": name, "column": column, "encoders": encoders, "made": made, **more}

    for row in published["main"]:
        system, made = row["system"], published["protocol"]["main"]
        model = next((n for n, m in models.items() if m.get("published") == system), None)
        for key in (key for key in PUBLISHED_DATASETS if key in row):
            of = {"figures": row[key], "model": model, "among": grid.places(), "splits": [TEST]}
            yield figures(system, key, [row["encoder"]], system, made, **of)
    for key, entries in published["ablation"].items():
        made = published["protocol"]["ablation"][key]
        for entry in entries:
            name = f"Ablation, {entry['setting']}"
            model = next((n for n, m in models.items() if m.get("setting") == entry["setting"]), None)
            of = {"figures": entry, "model": model, "among": grid.ablated(), "splits": [TEST, DEV]}
            yield figures(name, key, made["encoders"], made["system"], made, **of)


def _like(grid: Grid, row: dict, dataset: str, encoder: str) -> bool:
    """Whether a dataset and an encoder of the grid are those of published figures."""
    family = grid.declared["encoders"][encoder].get("published")
    return grid.column(dataset)[0] == row["column"] and family in row["encoders"]


def _why_not(grid: Grid, row: dict) -> str:
    """Why published figures have no row."""
    if row["model"] is None:
        return "no such system here"
    absent = [e for d, e, model in grid.absent if model == row["model"] and _like(grid, row, d, e)]
    lacking = dict.fromkeys(grid.why_absent(encoder, row["model"]) for encoder in absent)
    return f"{SKIPPED} ({', '.join(lacking)})" if lacking else str(NOT_RUN)


def _compared(grid: Grid, row: dict, place: Place, split: str) -> tuple[dict, list[dict]]:
    """Cells and csv lines of published figures and ours at a place."""
    model, made, seeds = row["model"], row["made"], grid.seeds(place, row["model"])
    of_split = split_of(grid.at(place, model), split)
    first = (row["system"], made["encoder"], made["dataset"], place.recipe, of_split, number(len(seeds), 0))
    differs = _differs(grid, row, place, split) if seeds else ""
    cells: Cells = dict(zip(FIRST, first, strict=True))
    lines = []
    for metric, name in METRICS.items():
        key = PUBLISHED_METRICS[metric]
        published, sd = row["figures"].get(key), row["figures"].get("sd", {}).get(key)
        ours, difference, in_sd = grid.f1(place, model, metric, split), NO_FIGURE, NO_FIGURE
        if published is not None and not isinstance(ours, Cell):
            encoder = grid.title("encoders", place.encoder)
            line = tidy_line("", row["system"], encoder, made["dataset"], name, ours, seeds, place.recipe, split)
            apart = round(line["mean"] - published, 4)
            line |= {"published_encoder": made["encoder"], "published": published}
            line |= {"matching": matching_on_dev(grid.at(place, model)[0]) if split == DEV else "symmetric"}
            line |= {"difference": apart, "differs": differs}
            difference = number(apart, sign=True)
            if sd:
                line |= {"published_sd": sd, "difference_in_published_sd": round(apart / sd, 4)}
                in_sd = number(line["difference_in_published_sd"], 1, sign=True)
            lines.append({key: value for key, value in line.items() if key in CSV})
        cells[name, "published"] = NOT_REPORTED if published is None else number(published)
        cells |= {(name, "ours"): shown(ours), (name, "difference"): difference, (name, IN_SD): in_sd}
    return cells | {DIFFERS: differs}, lines


def _differs(grid: Grid, row: dict, place: Place, split: str) -> str:
    """Published against ours, each part of the protocol in which they differ or of which nothing is known."""
    runs, made = grid.at(place, row["model"]), row["made"]
    run, folds = runs[0], {run["dataset"] for run in runs}
    ours = {
        "dataset": grid.title("datasets", place.dataset),
        "encoder": grid.title("encoders", place.encoder),
        "split": split if len(folds) == 1 else f"{split} of {len(folds)} folds",
        "selection": _selected(recipes.recorded(run)),
        "training": run.get("trained_on", "train").replace("+", " + "),
        "runs": f"n={len(grid.seeds(place, row['model']))}",
    }
    apart = (part for part in ours if part in made and made[part] != ours[part])
    return "; ".join(f"{part}: {made[part]} / {ours[part]}" for part in apart)


def _selected(recipe: recipes.Recipe) -> str:
    """Which weights a recipe selects, and of how many epochs or steps, in the words of the published protocols."""
    selected = []
    for name, t in recipe.trainings:
        figures = " + ".join(METRICS[metric] for metric in recipes.SELECTIONS[t.selection])
        best = f"best of {recipes.length_of(t)} on dev by {figures}" if figures else f"last of {recipes.length_of(t)}"
        selected.append(f"{name} {best}" if name else best)
    return ", ".join(selected)


def _measured_alone(grid: Grid, compared: set[tuple[Place, str]]) -> Iterator[str]:
    """What was measured, or should have been, and has no published figure of that encoder and dataset."""
    systems: dict[str, list[str]] = {}
    for place, model in grid.planned:
        if (place, model) not in compared:
            where = f"{grid.title('datasets', place.dataset)} with {grid.title('encoders', place.encoder)}"
            systems.setdefault(where, []).append(grid.title("models", model))
    if systems:
        yield _listed("Measured, and not published", systems)


def _listed(what: str, named: dict[str, list[str]]) -> str:
    """A note that names things once: `what: a (b, c); d (e).`"""
    each = (f"{name} ({', '.join(dict.fromkeys(of))})" for name, of in named.items())
    return f"{what}: {'; '.join(each)}."
