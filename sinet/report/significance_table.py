"""Every comparison of the grid: difference of F1, its interval, p before and after correction, order of the seeds."""

import math

import pandas as pd

from sinet.report.grid import METRICS, Grid, Place, sign
from sinet.report.table import NO_FIGURE, Cell, Table, frame, interval, mean_sd, number, summary

COLUMNS = ("Dataset", "Encoder", "Recipe", "System", "Other", "Figure")
TESTS = (
    *("System's F1", "n", "Other's F1", "other n", "Difference", "95 % bootstrap", "bootstrap p"),
    *("95 % t", "t p", "Holm", "Detectable", "ASO", "ASO of other"),
)
CSV = (
    *map(str.lower, COLUMNS),
    *("system_f1", "other_f1", "difference", "bootstrap_low", "bootstrap_high", "bootstrap_p"),
    *("t_low", "t_high", "t_p", "p_holm", "detectable", "aso", "aso_of_other"),
    *("system_values", "system_seeds", "other_values", "other_seeds"),
)


def significance_table(grid: Grid) -> Table:
    """One row for each comparison and metric."""
    made = grid.comparisons
    rows, lines = [], []
    for c in made["comparisons"]:
        place = Place(c["dataset"], c["encoder"], c["recipe"])
        titles = (
            *(grid.title("datasets", place.dataset), grid.title("encoders", place.encoder), place.recipe),
            *(grid.title("models", c["system"]), grid.title("models", c["other"]), METRICS[c["metric"]]),
        )
        why = grid.without_gold(place, c["metric"])
        cells = _empty(c, why) if why else _cells(c, made)
        rows.append(dict(zip((*COLUMNS, *TESTS), (*titles, *cells), strict=True)))
        lines.append(_line(titles, c))
    cells, tidy = frame(rows, (*COLUMNS, *TESTS)), pd.DataFrame(lines, columns=CSV)
    return Table("significance", "Significance", cells, tidy, (*_notes(grid), *grid.protocol()))


def _cells(c: dict, made: dict) -> tuple[Cell, ...]:
    n = len(c["f1"]), len(c["other_f1"])
    few = Cell(f"n < {made['least_runs']}")
    order = "{:.2f}" if min(n) >= made["least_seeds"] else "({:.2f})"
    bootstrap = c["bootstrap"]
    return (
        *(mean_sd(c["f1"]), number(n[0], 0), mean_sd(c["other_f1"]), number(n[1], 0)),
        number(c["difference"], sign=True, bold=sign(c, made["level"]) != 0),
        *(_interval(bootstrap["interval"]), _p(bootstrap["p"])),
        *((_interval(c["interval"]), _p(c["p"]), _p(c["p_holm"])) if c["tested"] else (few, few, few)),
        number(c["detectable"]) if c["tested"] else few,
        *(few if c[key] is None else Cell(order.format(c[key]), c[key]) for key in ("aso", "aso_of_other")),
    )


def _empty(c: dict, why: Cell) -> tuple[Cell, ...]:
    sides = why, number(len(c["f1"]), 0), why, number(len(c["other_f1"]), 0)
    return *sides, *[NO_FIGURE] * (len(TESTS) - len(sides))


def _interval(bounds: list[float]) -> Cell:
    return Cell(interval(bounds, sign=True), bounds[0])


def _p(p: float) -> Cell:
    return Cell(f"{p:.4f}" if p >= 0.0001 else "< 0.0001", p)


def _line(titles: tuple[str, ...], c: dict) -> dict:
    sides = summary(c["f1"], c["seeds"]), summary(c["other_f1"], c["other_seeds"])
    *t, detectable = [round(of, 4) for of in (*c["interval"], c["detectable"])] if c["tested"] else [None] * 3
    figures = (
        *(side["mean"] for side in sides),
        *(round(figure, 4) for figure in (c["difference"], *c["bootstrap"]["interval"])),
        *(c["bootstrap"]["p"], *t, c["p"], c["p_holm"], detectable, c["aso"], c["aso_of_other"]),
    )
    return dict(zip(CSV, (*titles, *figures, *(s[key] for s in sides for key in ("values", "seeds"))), strict=True))


def _orders(seeds: int) -> int:
    """Of so many orders of the seeds of two equal systems, one has all of the one above all of the other."""
    return math.comb(2 * seeds, seeds)


def _notes(grid: Grid) -> list[str]:
    made = grid.comparisons
    notes = [
        f"Micro F1 x 100, mean ± standard deviation over n runs. Bootstrap: paired, over {grid.resampled()} "
        f"({made['resamples']:,} resamples, the same ones for both systems, of several seeds the mean of their F1 in "
        "each; folds are resampled one by one); interval (percentiles) and two-sided p speak of these trained runs "
        "only.",
        "t: Student's, interval and two-sided p for other runs and another test split: the variance of the difference "
        "is that of the bootstrap plus what the spread of each system's runs adds to it, degrees of freedom by "
        f"Welch-Satterthwaite. n < {made['least_runs']}: too few runs on a side to know how far runs are apart, so no "
        "test and no bold.",
        f"Holm: p of t adjusted for the {made['family']} comparisons of this grid that are tested. Bold: adjusted p < "
        f"{made['level']:g}. Detectable: the true difference that this comparison finds with {grid.power()}, "
        f"tested at {made['level']:g}/{made['family'] or 1} with runs and sentences that vary as here; a smaller one "
        "may well be there where nothing is bold.",
        "ASO: almost stochastic order over the seeds' F1, the upper bound of the violation ratio at confidence 1 - "
        f"{made['level']:g}/{2 * made['family'] or 1}, corrected for both directions of each test; below "
        f"{made['ordered_below']:g} the system (ASO of other: the other) is almost stochastically larger. "
        f"(in brackets): fewer than {made['least_seeds']} seeds on a side, a hint at most. Few seeds bound the level, "
        "whatever the correction: all of one of two equal systems lie above all of the other in 1 of "
        f"{_orders(made['least_runs'])} cases with {made['least_runs']} seeds each, in 1 of "
        f"{_orders(made['least_seeds'])} with {made['least_seeds']}.",
    ]
    for c in made["not_compared"]:
        names = grid.title("models", c["system"]), grid.title("models", c["other"])
        where = grid.where(c["dataset"], c["encoder"], c["recipe"])
        notes.append(f"Not compared on {where}: {names[0]} with {names[1]}: {c['why']}.")
    if not made["comparisons"]:
        notes.append("This grid has no two systems to compare on one dataset, with one encoder and recipe.")
    return notes
