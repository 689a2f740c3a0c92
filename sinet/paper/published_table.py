"""Published against measured: the deck's figure, ours, how far apart they are, and how their making differs."""

import statistics
from collections.abc import Iterator, Sequence

import pandas as pd

from sinet import recipes
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
    f1_of,
    shown,
)
from sinet.paper.main_table import column
from sinet.paper.table import NO_FIGURE, Table, frame, signed, tidy_line
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.score.compare import REFERENCE

NO_CODE = "no code"
DIFFERS = "What differs"


def published_table(grid: Grid, published: dict) -> Table:
    """A row for each figure of the deck and each measurement of the same system on the same dataset."""
    rows, lines = [], []
    for row, key, model in _figures_of(grid, published):
        dataset = PUBLISHED_DATASETS[key]
        places = [p for p in grid.places() if column(grid, p.dataset)[0] == key and model in grid.models(p)]
        given = {name: row[key].get(PUBLISHED_METRICS[metric]) for metric, name in METRICS.items()}
        for place in places or [None]:
            cells = {("", "System"): row["title"], ("", "Dataset"): dataset}
            for metric, name in METRICS.items():
                ours = grid.values(place, model, f1_of(metric)) if place else _why_not(grid, key, model)
                cells[(name, "published")] = NOT_REPORTED if given[name] is None else f"{given[name]:.2f}"
                cells[(name, "ours")] = shown(ours)
                cells[(name, "difference")], cells[(name, "in sd")] = _apart(given[name], ours)
                if given[name] is not None and not isinstance(ours, str):
                    lines += _lines(grid, place, model, row, dataset, name, given[name], ours)
            cells[("", DIFFERS)] = _differs(grid, place, model, row) if place and grid.at(place, model) else ""
            rows.append(cells)
    notes = (
        "Micro F1 x 100. Difference: our mean minus the published figure; in sd: over our standard deviation, where we "
        "have more than one run. Published figures are one number each, without a spread: no test is made of them.",
        f"{UNREPORTED} {WHY_EMPTY} {NO_CODE}: this system is not implemented here.",
        "What differs: published / ours, as the paper, its released code or the deck states it. The ablation's figures "
        "do not match the deck's main table, so that its split may be another.",
        *grid.protocol(),
    )
    frame_ = frame(rows)
    order = [("", "System"), ("", "Dataset"), *(c for c in frame_.columns if c[0]), ("", DIFFERS)]
    table = pd.DataFrame(lines, columns=CSV)
    return Table("published_vs_measured", "Published and measured", frame_[order], table, notes, (DIFFERS,))


CSV = (
    *("system", "dataset", "figure", "published_encoder", "published", "encoder", "recipe"),
    *("mean", "sd", "n", "difference", "difference_in_sd", "values", "seeds", "differs"),
)


def _figures_of(grid: Grid, published: dict) -> Iterator[tuple[dict, str, str | None]]:
    """Rows of the deck's main table and ablation: row, dataset, and the model here of that name."""
    models = grid.declared["models"]
    stated, unstated = published["protocol"]["systems"], published["protocol"]["unstated"]
    for row in published["main"]:
        model = next((n for n, m in models.items() if m.get("published") == row["system"]), None)
        encoder = PUBLISHED_ENCODERS[row["encoder"]]
        made = {**published["protocol"]["main"], **unstated, **stated.get(row["system"], {}), "encoder": encoder}
        for key in PUBLISHED_DATASETS:
            if key in row:
                yield row | {"title": f"{row['system']} ({encoder})", "made": made}, key, model
    for key, entries in published["ablation"].items():
        for entry in entries:
            model = next((n for n, m in models.items() if m.get("setting") == entry["setting"]), None)
            made = unstated | stated[REFERENCE] | published["protocol"]["ablation"][key]
            yield {"title": f"Ablation, {entry['setting']}", key: entry, "made": made}, key, model


def _why_not(grid: Grid, key: str, model: str | None) -> str:
    if model is None:
        return NO_CODE
    return LEFT_OUT if any((column(grid, d)[0], m) == (key, model) for d, _, m in grid.absent()) else NOT_RUN


def _apart(published: float | None, ours: Sequence[float] | str) -> tuple[str, str]:
    """The difference, and in standard deviations; n/a where one side has no figure or there is one run."""
    if published is None or isinstance(ours, str):
        return NO_FIGURE, NO_FIGURE
    apart = statistics.fmean(ours) - published
    spread = statistics.stdev(ours) if len(ours) > 1 else 0.0
    return signed(apart), signed(apart / spread, 1) if spread else f"{NO_FIGURE} (n={len(ours)})"


def _differs(grid: Grid, place: Place, model: str, row: dict) -> str:
    """Published against ours, each part of the protocol in which they differ or of which nothing is known."""
    run, made = grid.at(place, model)[0], row["made"]
    folds = {run["dataset"] for run in grid.at(place, model)}
    ours = {
        "encoder": grid.title("encoders", place.encoder),
        "split": run["split"] if len(folds) == 1 else f"{run['split']} of {len(folds)} folds",
        "selection": f"{run['selection']} of {recipes.length(run['recipe'])}",
        "training": f"{run.get('trained_on', 'train').replace('+', ' + ')}, {run['train_sentences']} sentences",
        "runs": f"n={len(grid.seeds(place, model))}",
    }
    same = lambda part: made.get(part) == ours[part] or (part == "training" and made[part] == "train")  # noqa: E731
    return "; ".join(f"{part}: {made[part]} / {ours[part]}" for part in ours if part in made and not same(part))


def _lines(
    grid: Grid, place: Place, model: str, row: dict, dataset: str, name: str, published: float, ours: Sequence[float]
) -> list[dict]:
    encoder = grid.title("encoders", place.encoder)
    line = tidy_line("", row["title"], encoder, dataset, name, ours, grid.seeds(place, model))
    apart = line["mean"] - published
    return [
        {key: line[key] for key in ("system", "dataset", "figure", "encoder", "mean", "sd", "n", "values", "seeds")}
        | {"published_encoder": row["made"]["encoder"], "published": published, "recipe": place.recipe}
        | {"difference": round(apart, 4), "difference_in_sd": round(apart / line["sd"], 4) if line["sd"] else None}
        | {"differs": _differs(grid, place, model, row)}
    ]
