"""The ablation: five settings, each with its difference to Base, in the paper and measured here on test and dev."""

import statistics
from collections.abc import Iterator
from dataclasses import replace

from sinet.captions import span
from sinet.published import BASE
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.report.frame import DEV, TEST
from sinet.report.grid import (
    METRICS,
    NOT_REPORTED,
    NOT_RUN,
    PUBLISHED_METRICS,
    SKIPPED,
    WHY_EMPTY,
    Grid,
    Place,
    matching_on_dev,
    published_encoders,
    sign,
    split_of,
)
from sinet.report.table import Cell, Cells, Table, number, shown, tidy_line

DESCRIBED = ("Dataset", "Encoder", "Source", "Setting")


def ablation_table(grid: Grid, published: dict) -> Table:
    """The paper's settings on each of its datasets, under them ours with each encoder and recipe, on test and on dev.

    Args:
        published: the published tables (`sinet.published.tables`).
    """
    settings = {m["setting"]: n for n, m in grid.declared["models"].items() if "setting" in m}
    places, of_paper = grid.ablated(), published["ablation"]
    order = dict.fromkeys([*(entry["setting"] for entries in of_paper.values() for entry in entries), *settings])
    made: list[tuple[dict, list[dict]]] = []
    for key in dict.fromkeys([*of_paper, *(grid.column(place.dataset)[0] for place in places)]):
        if key in of_paper:
            encoders = published_encoders(published["protocol"]["ablation"][key]["encoders"])
            made += _published(PUBLISHED_DATASETS[key], of_paper[key], encoders)
        for place in (place for place in places if grid.column(place.dataset)[0] == key):
            made += _measured(grid, place, settings, list(order))
    unstated = (
        " Published: split not stated in the paper, one figure each; the figures do not match its main table, and may "
        "be of dev."
    )
    notes = (
        f"Micro F1 x 100.{unstated if of_paper else ''} {WHY_EMPTY}",
        f"Ent - {BASE} and so on: difference of the means; in brackets the difference for which the test has "
        f"{grid.power()}. Bold: significantly different from {BASE} on test; "
        f"{grid.test_note()}. Figures of dev are not tested. The full model against each other setting: table of "
        "significance.",
        *(_of_dev(grid, place, settings) for place in places if grid.there(place)),
        *grid.protocol([run for run in grid.runs if run["model"] in settings.values() and grid.place(run) in places]),
    )
    columns = [*DESCRIBED, *(n for m in METRICS.values() for n in (m, f"{m} - {BASE}"))]
    return Table.of("ablation", "Ablation", made, notes, columns=columns)


def _published(title: str, entries: list[dict], encoder: str) -> Iterator[tuple[dict, list[dict]]]:
    """Cells and csv lines of each setting in the paper."""
    source = "published, split not stated"
    base = next(entry for entry in entries if entry["setting"] == BASE)
    for entry in entries:
        cells, lines = dict(zip(DESCRIBED, (title, encoder, source, entry["setting"]), strict=True)), []
        for metric, name in METRICS.items():
            value, of_base = (e.get(PUBLISHED_METRICS[metric]) for e in (entry, base))
            if value is None or of_base is None:
                cells |= {name: NOT_REPORTED, f"{name} - {BASE}": NOT_REPORTED}
                continue
            cells |= {name: number(value), f"{name} - {BASE}": number(value - of_base, sign=True)}
            lines.append(tidy_line(source, entry["setting"], encoder, title, name, [value]))
        yield cells, lines


def _measured(grid: Grid, place: Place, settings: dict, order: list[str]) -> Iterator[tuple[dict, list[dict]]]:
    """Cells and csv lines of each setting at a place, on test and then on dev."""
    titles = grid.title("datasets", place.dataset), grid.title("encoders", place.encoder)
    for split in (TEST, DEV) if place.recipe else (TEST,):
        for setting in order:
            model, base = settings.get(setting, ""), settings.get(BASE, "")
            if (place, model) in grid.planned:
                runs = grid.at(place, model)
                source = grid.source(place.recipe, runs, [split_of(runs, split)])
            else:
                why = grid.why_none(place, model)
                source = f"{why}: {grid.why_absent(place.encoder, model)}" if why is SKIPPED else str(NOT_RUN)
            cells: Cells = dict(zip(DESCRIBED, (*titles, source, setting), strict=True))
            lines = []
            for metric, name in METRICS.items():
                values, of_base = (grid.f1(place, m, metric, split) for m in (model, base))
                compared = grid.comparison(place, model, base, metric) if split == TEST else None
                cells |= {name: shown(values), f"{name} - {BASE}": _difference(grid, values, of_base, compared)}
                if not isinstance(values, Cell):
                    on = *titles[::-1], name, values, grid.seeds(place, model)
                    lines.append(tidy_line(source, setting, *on, place.recipe, split))
            yield cells, lines


def _difference(grid: Grid, values: list[float] | Cell, of_base: list[float] | Cell, compared: dict | None) -> Cell:
    """The difference of the means and what could have been found; where one has no figures the reason."""
    if isinstance(values, Cell):
        return values
    if isinstance(of_base, Cell):
        return of_base
    significant = compared is not None and sign(compared, grid.comparisons["level"]) != 0
    cell = number(statistics.fmean(values) - statistics.fmean(of_base), sign=True, bold=significant)
    if compared is None or compared["detectable"] is None:
        return cell
    least = f" ({compared['detectable']:.1f})"
    return replace(cell, text=cell.text + least, tex=f"{cell.tex}{least}")


def _of_dev(grid: Grid, place: Place, settings: dict) -> str:
    """What the figures of dev at a place were measured on."""
    runs = [run for run in grid.there(place) if run["model"] in settings.values()]
    matching = " or ".join(dict.fromkeys(map(matching_on_dev, runs)))
    return (
        f"Ours on dev of {grid.title('datasets', place.dataset)} with {grid.title('encoders', place.encoder)}: "
        f"{span([run['dev_sentences'] for run in runs])} sentences, at the weights that the recipe selects, "
        f"matching {matching} (of symmetric types; test: symmetric)."
    )
