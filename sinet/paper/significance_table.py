"""Every comparison of the grid: difference of F1, its interval, p before and after correction, order of the seeds."""

import math
import statistics
from collections.abc import Sequence

import pandas as pd

from sinet.paper.grid import METRICS, NO_GOLD, Grid, Place, bold
from sinet.paper.table import NO_FIGURE, Table, frame, mean_sd, signed

COLUMNS = ("Dataset", "Encoder", "Recipe", "System", "Other", "Figure")
TESTS = (
    *("System's F1", "n", "Other's F1", "other n", "Difference", "95 % bootstrap", "bootstrap p"),
    *("95 % t", "t p", "Holm", "ASO", "ASO of other"),
)

SIDES = (("f1", "seeds"), ("other_f1", "other_seeds"))
CSV = (
    *map(str.lower, COLUMNS),
    *("system_f1", "other_f1", "difference", "bootstrap_low", "bootstrap_high", "bootstrap_p"),
    *("t_low", "t_high", "t_p", "p_holm", "aso", "aso_of_other"),
    *("system_values", "system_seeds", "other_values", "other_seeds"),
)


def significance_table(grid: Grid) -> Table:
    """One row for each comparison and metric."""
    made = grid.comparisons
    columns = [("", name) for name in (*COLUMNS, *TESTS)]
    rows, lines = [], []
    for c in made["comparisons"]:
        titles = (
            grid.title("datasets", c["dataset"]),
            grid.title("encoders", c["encoder"]),
            c["recipe"],
            grid.title("models", c["system"]),
            grid.title("models", c["other"]),
            METRICS[c["metric"]],
        )
        n = len(c["f1"]), len(c["other_f1"])
        few = f"n < {made['least_runs']}"
        order = "{:.2f}" if min(n) >= made["least_seeds"] else "({:.2f})"
        texts = (
            *(mean_sd(c["f1"]), str(n[0]), mean_sd(c["other_f1"]), str(n[1])),
            bold(signed(c["difference"]), grid.significant(c) != 0),
            *(_interval(c["bootstrap"]["interval"]), _p(c["bootstrap"]["p"])),
            *((_interval(c["interval"]), _p(c["p"]), _p(c["p_holm"])) if c["tested"] else (few, few, few)),
            *(few if c[key] is None else order.format(c[key]) for key in ("aso", "aso_of_other")),
        )
        if grid.without_gold(Place(c["dataset"], c["encoder"], c["recipe"]), c["metric"]):
            texts = (NO_GOLD, str(n[0]), NO_GOLD, str(n[1]), *[NO_FIGURE] * (len(TESTS) - 4))
        rows.append(dict(zip(columns, (*titles, *texts), strict=True)))
        lines.append(_line(titles, c))
    return Table(
        "significance", "Significance", frame(rows, columns), pd.DataFrame(lines, columns=CSV), tuple(_notes(grid))
    )


def _interval(interval: Sequence[float]) -> str:
    return f"[{signed(interval[0])}, {signed(interval[1])}]"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _line(titles: tuple[str, ...], c: dict) -> dict:
    figures = [statistics.fmean(c["f1"]), statistics.fmean(c["other_f1"]), c["difference"], *c["bootstrap"]["interval"]]
    t = [round(end, 4) for end in c["interval"]] if c["tested"] else [None, None]
    values = [(" ".join(f"{v:.4f}" for v in c[f1]), " ".join(map(str, c[of]))) for f1, of in SIDES]
    tests = c["bootstrap"]["p"], *t, c["p"], c["p_holm"], c["aso"], c["aso_of_other"]
    return dict(zip(CSV, (*titles, *(round(f, 4) for f in figures), *tests, *values[0], *values[1]), strict=True))


def _cases(seeds: int) -> int:
    """Of so many orders of the seeds of two equal systems, one has all of the one above all of the other."""
    return math.comb(2 * seeds, seeds)


def _notes(grid: Grid) -> list[str]:
    made = grid.comparisons
    notes = [
        "Micro F1 x 100, mean ± standard deviation over n runs. Bootstrap: paired, over the test sentences "
        f"({made['resamples']:,} resamples, the same sentences for both systems, of several seeds the mean of their F1 "
        "in each; folds are resampled one by one); interval (percentiles) and two-sided p speak of these trained runs "
        "only.",
        "t: Student's, interval and two-sided p for other runs and other test sentences: the variance of the "
        "difference is that of the bootstrap plus that of each mean over runs, degrees of freedom by "
        f"Welch-Satterthwaite. n < {made['least_runs']}: too few runs on a side to know how far runs are apart, so no "
        "test and no bold.",
        f"Holm: p of t adjusted for the {made['family']} comparisons of this grid that are tested. Bold: adjusted p < "
        f"{made['level']:g}.",
        "ASO: almost stochastic order over the seeds' F1, the upper bound of the violation ratio at confidence 1 - "
        f"{made['level']:g}/{2 * made['family'] or 1}, corrected for both directions of each test; below "
        f"{made['ordered_below']:g} the system (ASO of other: the other) is almost stochastically larger. "
        f"(in brackets): fewer than {made['least_seeds']} seeds on a side, a hint at most. Few seeds bound the level, "
        "whatever the correction: all of one of two equal systems lie above all of the other in 1 of "
        f"{_cases(made['least_runs'])} cases with {made['least_runs']} seeds each, in 1 of "
        f"{_cases(made['least_seeds'])} with {made['least_seeds']}.",
    ]
    for c in made["not_compared"]:
        names = grid.title("models", c["system"]), grid.title("models", c["other"])
        where = grid.title("datasets", c["dataset"]), grid.title("encoders", c["encoder"]), c["recipe"]
        notes.append(f"Not compared on {', '.join(where)}: {names[0]} with {names[1]}: {c['why']}.")
    if not made["comparisons"]:
        notes.append("This grid has no two systems to compare on one dataset, with one encoder and recipe.")
    return notes + grid.protocol()
