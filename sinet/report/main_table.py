"""The main table: every row that the paper publishes, with what was measured here under it."""

from sinet.evaluate.metrics import REL_GOLD_ENTITIES
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import is_system, remark_on
from sinet.report.frame import DEV, NOT_SEEN, PLACE, TEST
from sinet.report.grid import (
    GOLD_ENTITIES,
    METRICS,
    NOT_DECIDED,
    NOT_REPORTED,
    NOT_RUN,
    PUBLISHED_ENCODERS,
    PUBLISHED_METRICS,
    SKIPPED,
    UNREPORTED,
    WHY_EMPTY,
    Grid,
    Place,
    split_of,
)
from sinet.report.table import Cell, Cells, Table, number, shown, tidy_line

Figure = tuple[str, str, str, str]
"""Of a column: key and title of its dataset, key and title of its metric."""
BETWEEN_GOLD = (
    f"{GOLD_ENTITIES[REL_GOLD_ENTITIES]}: relations between the gold entities; not tested. {NOT_DECIDED} there: "
    "the system tags words and relates no given entities, or a run was archived without them."
)


def main_table(grid: Grid, paper: list[dict], own: list[dict]) -> Table:
    """Systems x datasets: each published row (of the paper, none of a grid of other datasets; then those of one's own,
    `sinet.published.own_rows`), directly under it what was measured of that system with that encoder, one row for each
    recipe; last what has no published row."""
    models, encoders = grid.declared["models"], grid.declared["encoders"]
    columns = dict(PUBLISHED_DATASETS) if paper else {}
    published = [*paper, *({**row, **_by_column(grid, row["figures"])} for row in own)]
    columns |= {key: title for key, title in PUBLISHED_DATASETS.items() if any(key in row for row in published)}
    columns |= {key: title for key, title in map(grid.column, grid.datasets()) if key not in columns}
    between_gold = [(run["dataset"], run["scores"]["symmetric"].get(REL_GOLD_ENTITIES)) for run in grid.runs]
    given = {grid.column(grid.whole(dataset))[0] for dataset, of in between_gold if of and of["types"]}
    figures = [
        (key, title, metric, name)
        for key, title in columns.items()
        for metric, name in (METRICS | (GOLD_ENTITIES if key in given else {})).items()
    ]
    rest = [row for model in grid.models() if is_system(models[model]) for row in _measured_rows(grid, model)]
    made = []
    for row in published:
        of = row["system"], row["encoder"]
        ours = [m for m in rest if (models[m[0]].get("published"), encoders[m[1]].get("published")) == of]
        made += [_published(grid, figures, row, bool(ours)), *(_measured(grid, figures, *m) for m in ours)]
        rest = [m for m in rest if m not in ours]
    made += [_measured(grid, figures, *m) for m in rest]
    cited = [f"{row['system']} ({row['cite']})" for row in own]
    remark = f" {remark_on('main')}" if paper else ""
    beside = (
        f" {UNREPORTED}{remark} A measured row says by which recipe, over n seeds, on "
        "which split; the published row of the same system and encoder is the one to hold it against."
    )
    notes = (
        f"Micro F1 x 100. {WHY_EMPTY}{beside if published else ''}",
        *([f"Published elsewhere: {'; '.join(cited)}."] if cited else []),
        *_tested(grid),
        *([BETWEEN_GOLD] if given else []),
        *_without_seen(grid),
        *grid.protocol([run for run in grid.runs if is_system(models[run["model"]])]),
    )
    return Table.of("main", "Main results", made, notes)


def _by_column(grid: Grid, figures: dict[str, dict]) -> dict[str, dict]:
    """Figures of datasets by the columns that they stand in: a published one, else that of a dataset of the grid."""
    shown_here = {dataset: grid.column(dataset)[0] for dataset in grid.datasets()}
    return {key if key in PUBLISHED_DATASETS else shown_here.get(key, key): of for key, of in figures.items()}


def _published(grid: Grid, figures: list[Figure], row: dict, measured: bool) -> tuple[dict, list[dict]]:
    """Cells and csv lines of a published row, which says why no measured one stands under it."""
    system, source = row["system"], "published"
    encoder = PUBLISHED_ENCODERS.get(row["encoder"], row["encoder"])  # one's own rows may have any
    if not measured:
        here = any(declared.get("published") == system for declared in grid.declared["models"].values())
        source += f"; {NOT_RUN}" if here else f"; no {system} here"
    cells: Cells = {"System": f"{system} ({row['cite']})", "Encoder": encoder, "Source": source}
    lines = []
    for key, title, metric, name in figures:
        value = row.get(key, {}).get(PUBLISHED_METRICS.get(metric))
        cells[title, name] = NOT_REPORTED if value is None else number(value)
        if value is not None:
            lines.append(tidy_line(source, system, encoder, title, name, [value]))
    return cells, lines


def _measured(grid: Grid, figures: list[Figure], model: str, encoder: str, recipe: str) -> tuple[dict, list[dict]]:
    """Cells and csv lines of what was measured of a model with an encoder and a recipe."""
    planned = [place for place, m in grid.planned if (m, place.encoder, place.recipe) == (model, encoder, recipe)]
    planned += [Place(dataset, encoder, recipe) for dataset, *of in grid.absent if of == [encoder, model]]
    # of the datasets that share a published column, the one that this row is planned on
    places = {grid.column(place.dataset)[0]: place for place in reversed(planned)}
    runs = [run for place in dict.fromkeys(places.values()) for run in grid.at(place, model)]
    splits = dict.fromkeys(run["split"] + _of_dataset(grid, run["dataset"]) for run in runs)
    sources = [grid.source(recipe, runs, splits)] if recipe else []
    if lacking := grid.why_absent(encoder, model):
        sources.append(f"{SKIPPED}: {lacking}")
    of = "; ".join(sources), grid.title("models", model), grid.encoder_of(model, encoder)
    cells: Cells = {"System": grid.named(model), "Encoder": of[2], "Source": of[0]}
    lines = []
    for key, title, metric, name in figures:
        if place := places.get(key):
            values = grid.f1(place, model, metric)
            lines.append(tidy_line(*of, title, name, values, grid.seeds(place, model), recipe, TEST))
            on_dev = grid.f1(place, model, metric, DEV)
            if not isinstance(on_dev, Cell):
                there = grid.at(place, model)
                source = grid.source(recipe, there, [split_of(there, DEV) + _of_dataset(grid, there[0]["dataset"])])
                lines.append(tidy_line(source, *of[1:], title, name, on_dev, grid.seeds(place, model), recipe, DEV))
        cells[title, name] = shown(values, _wins(grid, place, model, metric)) if place else NOT_RUN
    return cells, lines


def _of_dataset(grid: Grid, dataset: str) -> str:
    """Which dataset a figure is of, where its column is named after another."""
    title = grid.title("datasets", grid.whole(dataset))
    return "" if title == grid.column(dataset)[1] else f" of {title}"


def _measured_rows(grid: Grid, model: str) -> dict[tuple[str, str, str], None]:
    """Model, encoder and recipe of each row of a model; no recipe where all runs with an encoder were skipped."""
    planned = dict.fromkeys((m, place.encoder, place.recipe) for place, m in grid.planned if m == model)
    out = dict.fromkeys((m, encoder, "") for _, encoder, m in grid.absent if m == model)
    return planned | {row: None for row in out if not any(row[1] == encoder for _, encoder, _ in planned)}


def _tested(grid: Grid) -> list[str]:
    """What is bold, and what could have been, where systems were compared."""
    compared = [c for c in grid.comparisons["comparisons"] if c["kind"] == "system"]
    if not compared:
        return []
    return [
        "Bold: a system that is significantly better than every other one measured here on the same dataset with the "
        f"same encoder and recipe; {grid.test_note()}. {grid.detectable(compared)} Published rows are not tested."
    ]


def _without_seen(grid: Grid) -> list[str]:
    """How many test sentences stand in train, and the figures without them, of each place that has any."""
    of = grid.figures[(grid.figures["split"] == NOT_SEEN) & (grid.figures["metric"] == "ent")]
    seen = of.drop_duplicates([*PLACE, "fold"]).groupby(PLACE, sort=False)["sentences"].sum()
    lines = []
    for place in (Place(*key) for key, n in seen.items() if n):
        n, total = seen[place], sum({run["dataset"]: run["test_sentences"] for run in grid.there(place)}.values())
        figures = [
            f"{grid.title('models', model)} "
            + " / ".join(shown(grid.f1(place, model, metric, NOT_SEEN)).text for metric in METRICS)
            for model in grid.models(place)
            if is_system(grid.declared["models"][model])
        ]
        without = f"; without them {' / '.join(METRICS.values())}: {'; '.join(figures)}" if n < total else ""
        lines.append(
            f"{grid.where(*place)}: {n:.0f} of {total} test sentences also stand in train, with the same words but for "
            f"capitals{without}."
        )
    return lines


def _wins(grid: Grid, place: Place, model: str, metric: str) -> bool:
    """Whether a system is significantly better than every other system there."""
    others = [m for m in grid.models(place) if is_system(grid.declared["models"][m]) and m != model]
    return bool(others) and all(grid.beats(place, model, other, metric) for other in others)
