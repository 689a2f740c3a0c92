"""The ablation: five settings, each with its difference to Base, in the deck and measured here."""

import statistics

import pandas as pd

from sinet.paper.grid import (
    METRICS,
    PUBLISHED_METRICS,
    WHY_EMPTY,
    Grid,
    Place,
    bold,
    f1_of,
    shown,
)
from sinet.paper.table import Table, frame, signed, tidy_line
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.score.compare import BASE


def ablation_table(grid: Grid, published: dict) -> Table:
    """The deck's figures beside ours for each dataset, encoder and recipe that was run."""
    settings = {m["setting"]: n for n, m in grid.declared["models"].items() if "setting" in m}
    runs = [run for run in grid.runs if run["model"] in settings.values()]
    places = list(dict.fromkeys(place for place, model in grid.planned() if model in settings.values()))
    several = len({place.recipe for place in places}) > 1
    rows, lines = [], []
    for reference in published["scierc"]:
        setting = reference["setting"]
        cells = {("", "Setting"): setting}
        for dataset, entries in published.items():
            entry, base = (next(e for e in entries if e["setting"] == s) for s in (setting, BASE))
            title = PUBLISHED_DATASETS[dataset]
            for metric, name in METRICS.items():
                value, of_base = (e[PUBLISHED_METRICS[metric]] for e in (entry, base))
                cells[(f"{title}, published", name)] = f"{value:.2f}"
                cells[(f"{title}, published", f"{name} - {BASE}")] = signed(value - of_base)
                lines.append(tidy_line("published", setting, "", title, name, [value]))
        for place in places:
            titles = grid.title("datasets", place.dataset), grid.title("encoders", place.encoder)
            over = f"{titles[0]}, {titles[1]}, ours" + (f", {place.recipe}" if several else "")
            for metric, name in METRICS.items():
                values = grid.values(place, settings.get(setting), f1_of(metric))
                cells[(over, name)] = shown(values)
                cells[(over, f"{name} - {BASE}")] = _to_base(grid, place, settings, setting, metric)
                if not isinstance(values, str):
                    source, of = f"measured, recipe {place.recipe}", grid.seeds(place, settings[setting])
                    lines.append(tidy_line(source, setting, titles[1], titles[0], name, values, of))
        rows.append(cells)
    notes = (
        "Micro F1 x 100. Published: split not stated in the deck, its encoders, one figure each; the figures do not "
        f"match its main table. {WHY_EMPTY}",
        f"Ent - {BASE} and so on: difference of the means. Bold: significantly different from {BASE}; "
        f"{grid.test_note()}. The full model against each other setting: table of significance.",
        *(grid.numbers(place, settings.values()) for place in places if grid.there(place)),
        *grid.protocol(runs),
    )
    return Table("ablation", "Ablation", frame(rows), pd.DataFrame(lines), notes)


def _to_base(grid: Grid, place: Place, settings: dict, setting: str, metric: str) -> str:
    both = [grid.values(place, settings.get(s), f1_of(metric)) for s in (setting, BASE)]
    if any(isinstance(values, str) for values in both):
        return next(v for v in both if isinstance(v, str))
    compared = grid.compared(place, settings[setting], settings[BASE], metric)
    return bold(signed(statistics.fmean(both[0]) - statistics.fmean(both[1])), grid.significant(compared) != 0)
