"""The ablation: five settings, each with its difference to Base, in the deck and measured here on test and dev."""

import statistics
from collections.abc import Iterator

import pandas as pd

from sinet.paper.grid import (
    DEV,
    LEFT_OUT,
    METRICS,
    NOT_RUN,
    PUBLISHED_METRICS,
    TEST,
    WHY_EMPTY,
    Grid,
    Place,
    bold,
    matching_on_dev,
    published_encoders,
    shown,
    split_of,
)
from sinet.paper.table import Table, frame, signed, tidy_line
from sinet.published import BASE
from sinet.published import DATASETS as PUBLISHED_DATASETS


def ablation_table(grid: Grid, published: dict) -> Table:
    """The deck's settings on each of its datasets, under them ours with each encoder and recipe, on test and on dev.

    Args:
        published: the published tables (`sinet.published.tables`).
    """
    settings = {m["setting"]: n for n, m in grid.declared["models"].items() if "setting" in m}
    places = grid.ablated()
    of_paper = [entry["setting"] for entries in published["ablation"].values() for entry in entries]
    order = list(dict.fromkeys([*of_paper, *settings]))
    made = []
    for key, entries in published["ablation"].items():
        made += _published(key, entries, published_encoders(published["protocol"]["ablation"][key]["encoders"]))
        for place in (place for place in places if grid.column(place.dataset)[0] == key):
            made += _measured(grid, place, settings, order)
    for place in (place for place in places if grid.column(place.dataset)[0] not in published["ablation"]):
        made += _measured(grid, place, settings, order)
    of_deck = (
        " Published: split not stated in the deck, one figure each; the figures do not match its main table, and may "
        "be of dev."
    )
    notes = (
        f"Micro F1 x 100.{of_deck if of_paper else ''} {WHY_EMPTY}",
        f"Ent - {BASE} and so on: difference of the means. Bold: significantly different from {BASE} on test; "
        f"{grid.test_note()}. Figures of dev are not tested. The full model against each other setting: table of "
        "significance.",
        *(_of_dev(grid, place, settings) for place in places if grid.there(place)),
        *grid.protocol([run for run in grid.runs if run["model"] in settings.values() and grid.place(run) in places]),
    )
    rows, lines = [cells for cells, _ in made], [line for _, of_row in made for line in of_row]
    columns = [*_row(*["Dataset"] * 4), *(("", n) for m in METRICS.values() for n in (m, f"{m} - {BASE}"))]
    return Table("ablation", "Ablation", frame(rows, columns), pd.DataFrame(lines), notes)


def _row(*described: str) -> dict[tuple[str, str], str]:
    return {("", name): text for name, text in zip(("Dataset", "Encoder", "Source", "Setting"), described, strict=True)}


def _published(key: str, entries: list[dict], encoder: str) -> Iterator[tuple[dict, list[dict]]]:
    """Cells and csv lines of each setting in the deck."""
    title, source = PUBLISHED_DATASETS[key], "published, split not stated"
    base = next(entry for entry in entries if entry["setting"] == BASE)
    for entry in entries:
        cells, lines = _row(title, encoder, source, entry["setting"]), []
        for metric, name in METRICS.items():
            value, of_base = (e[PUBLISHED_METRICS[metric]] for e in (entry, base))
            cells[("", name)], cells[("", f"{name} - {BASE}")] = f"{value:.2f}", signed(value - of_base)
            lines.append(tidy_line(source, entry["setting"], encoder, title, name, [value]))
        yield cells, lines


def _measured(grid: Grid, place: Place, settings: dict, order: list[str]) -> Iterator[tuple[dict, list[dict]]]:
    """Cells and csv lines of each setting at a place, on test and then on dev."""
    titles = grid.title("datasets", place.dataset), grid.title("encoders", place.encoder)
    for split in (TEST, DEV) if place.recipe else (TEST,):
        for setting in order:
            model = settings.get(setting)
            if (place, model) in grid.planned():
                runs = grid.at(place, model)
                source = grid.source(place.recipe, runs, [split_of(runs, split)])
            else:
                absent = grid.left_out(place, model)
                source = f"{LEFT_OUT}: {grid.why_absent(place.encoder, model)}" if absent else NOT_RUN
            cells, lines = _row(*titles, source, setting), []
            for metric, name in METRICS.items():
                values = grid.f1(place, model, metric, split)
                cells[("", name)] = shown(values)
                cells[("", f"{name} - {BASE}")] = _to_base(grid, place, settings, setting, metric, split)
                if not isinstance(values, str):
                    lines.append(tidy_line(source, setting, *titles[::-1], name, values, grid.seeds(place, model)))
            yield cells, lines


def _of_dev(grid: Grid, place: Place, settings: dict) -> str:
    """What the figures of dev at a place were measured on."""
    runs = [run for run in grid.there(place) if run["model"] in settings.values()]
    sizes = sorted({run["dev_sentences"] for run in runs})
    matching = " or ".join(dict.fromkeys(map(matching_on_dev, runs)))
    return (
        f"Ours on dev of {grid.title('datasets', place.dataset)} with {grid.title('encoders', place.encoder)}: "
        f"{' to '.join(map(str, sizes[:: max(len(sizes) - 1, 1)]))} sentences, at the weights that the recipe selects, "
        f"matching {matching} (of symmetric types; test: symmetric)."
    )


def _to_base(grid: Grid, place: Place, settings: dict, setting: str, metric: str, split: str) -> str:
    both = [grid.f1(place, settings.get(s), metric, split) for s in (setting, BASE)]
    if any(isinstance(values, str) for values in both):
        return next(v for v in both if isinstance(v, str))
    compared = grid.compared(place, settings[setting], settings[BASE], metric) if split == TEST else None
    return bold(signed(statistics.fmean(both[0]) - statistics.fmean(both[1])), grid.significant(compared) != 0)
