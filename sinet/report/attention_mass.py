"""Where the mass of cross-task attention falls, and NER of in-triple and out-of-triple entities: what the paper says of
its case study, in numbers."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.lines import Line2D

from sinet.captions import machine
from sinet.evaluate.stats import LEVEL
from sinet.files import read_sealed
from sinet.report.grid import NO_GOLD, Grid
from sinet.report.style import DIRECTIONS, GROUP_COLORS, PAGE_INCHES, save, use_style
from sinet.report.table import NO_FIGURE, Cell, Table, frame, interval, mean_sd, number, summary, write

TITLES = {
    "in_triple": "Words of in-triple entities",
    "out_of_triple": "Words of out-of-triple entities",
    "other": "Other words",
}
ENTITY_TITLES = {"in_triple": "In-triple entities", "out_of_triple": "Out-of-triple entities"}
FIGURE_TITLES = {"precision": "P", "recall": "R", "f1": "F1"}
FIGURES = {"share": ("share (%)", 100, 1), "ratio": ("/ uniform", 1, 2)}
"""Column, factor and digits of the two figures of attention."""
PAIRED = ("In- / out-of-triple", "log ratio")
NO_ATTENTION = f"{NO_FIGURE}: this model has no cross-task attention"
MARKERS = "osD"
GROUP_RULE = (
    "In-triple: argument of a gold relation. Recall: the share of a group's gold entities that is found (type and "
    "boundaries); it depends on no predicted relation. For precision and F1 a wrong prediction counts in the group it "
    "is predicted in (in-triple: argument of a predicted relation), so that the two groups add up to Ent; these two "
    "figures mix NER with how many relations a system predicts"
)


def draw_attention_mass(
    mass: Path, in_triple: Path, records: Sequence[Path], declared: dict, tables: Path, figures: Path
) -> None:
    """Write the tables `attention_mass` and `in_triple_ner` and the figure `attention_mass`.

    Args:
        records: of the runs whose entities `in_triple` counts. declared: as `sinet.grid.plan.Plan.declared`.
    """
    attention, scores = read_sealed(mass), read_sealed(in_triple)
    grid = Grid.read(records, declared, analyses=False)
    tables.mkdir(parents=True, exist_ok=True)
    for table in (mass_table(attention, grid), in_triple_table(scores, grid)):
        write(table, tables)
    draw(attention, scores, grid, figures / "attention_mass")


def mass_table(attention: dict, grid: Grid) -> Table:
    """A row for uniform attention, then by direction the mean and each head of each seed."""
    rows = [_mass_row("uniform over pieces")]
    for group, title in TITLES.items():
        uniform = attention["uniform"][group]
        rows[0] |= {(title, "share (%)"): number(100 * uniform, 1), (title, "/ uniform"): number(1, 0)}
    lines = [_line("uniform", {"head": "", "seed": None}, g, "share", v) for g, v in attention["uniform"].items()]
    for direction, heads in attention["directions"].items():
        title = DIRECTIONS.get(direction, direction)
        for head in heads:
            special, blank = number(100 * head["special"]), number(head["blank"], 0)
            cells = _mass_row(title, head["head"], head["seed"] or _seeds(attention), special, blank)
            lines.append(_line(title, head, "special", "share", head["special"]))
            for group, found in head["groups"].items():
                for figure, (column, factor, digits) in FIGURES.items():
                    value = found[figure]
                    cells[TITLES[group], column] = _with_interval(value, factor, digits) if value else NO_FIGURE
                    if value:
                        lines.append(_line(title, head, group, figure, value["value"], value["interval"]))
            if paired := head["paired"]:
                cells[PAIRED] = _with_interval(paired, 1, 2)
                lines.append(_line(title, head, "in_triple", "log_ratio", paired["value"], paired["interval"]))
            rows.append(cells)
    if not attention["directions"]:
        rows.append(_mass_row(NO_ATTENTION))
    notes = (
        f"{_studied(grid)} on {grid.caption()[0]}, {attention['split']} split ({attention['sentences']} sentences), in "
        f"{_measured(attention)}. Attention mass on words, in per cent, mean over sentences; what falls on the task's "
        "own [CLS] and on [SEP] stands apart. In-triple: argument of a gold relation. Uniform: the same weight on "
        "every word piece.",
        f"[95 % interval]: bootstrap over {attention['unit']}s, {attention['resamples']:,} resamples. Heads of "
        "different seeds have nothing in common but their number; mean: of the mean attention of all heads and seeds, "
        "so that a head weighs as much as it gives to words.",
        "Log ratio: within the sentences that hold both groups"
        f"{_counted(attention)}, the mean of the natural logarithm of the in-triple mass over its share of word pieces "
        "against the same of the out-of-triple mass; above 0, a piece of an in-triple entity gets more. Mean: over "
        f"seeds, of each the mean of its heads; its interval draws seeds and {attention['unit']}s again, which with "
        "few seeds is too narrow.",
        "Skipped: sentences on which a head leaves nothing for words, not even in float32; its figures are means "
        "over the others.",
        *_remark(grid),
    )
    return Table(
        "attention_mass", "Attention mass: where cross-task attention falls", frame(rows), pd.DataFrame(lines), notes
    )


def _mass_row(attention: str, head: str = "", seed: str = "", special: Cell | str = "", blank: Cell | str = "") -> dict:
    described = {"Attention": attention, "Head": head, "Seed": seed, "on [CLS], [SEP] (%)": special, "Skipped": blank}
    shares = {(title, column): "" for title in TITLES.values() for column, *_ in FIGURES.values()}
    return described | shares | {PAIRED: NO_FIGURE if attention else ""}


def _line(direction: str, head: dict, group: str, figure: str, value: float, bounds: Sequence = (None, None)) -> dict:
    low, high = (None if bound is None else round(bound, 6) for bound in bounds)
    described = {"attention": direction, "head": head["head"], "seed": head["seed"], "group": group, "figure": figure}
    return described | {"value": round(value, 6), "low": low, "high": high}


def _with_interval(found: dict, factor: float, digits: int) -> Cell:
    value = factor * found["value"]
    return Cell(f"{value:.{digits}f} {interval([factor * bound for bound in found['interval']], digits)}", value)


def in_triple_table(scores: dict, grid: Grid) -> Table:
    """NER by group, a row for each model."""
    rows, lines = [], []
    for model, groups in scores["models"].items():
        described = grid.declared["models"][model]
        of = {"system": described["title"], "setting": described.get("setting", "")}
        cells: dict = {"System": of["system"], "Setting": of["setting"]}
        for group, figures in groups.items():
            title = f"{ENTITY_TITLES[group]} ({figures['gold']:,})"
            for figure, name in FIGURE_TITLES.items():
                if not figures["gold"]:
                    cells[title, name] = NO_GOLD
                    continue
                values, bounds = list(figures[figure]["values"].values()), figures[figure]["interval"]
                cell = mean_sd(values)
                with_interval = Cell(f"{cell} {interval(bounds, 1)}", cell.value)
                cells[title, name] = cell if figure == "precision" else with_interval
                line = of | {"group": group, "figure": figure} | summary(values, figures[figure]["values"])
                low, high = (round(bound, 4) for bound in bounds)
                apart = figures[figure].get("difference", {})
                if figure != "precision":
                    cells[title, f"{name} - {_title(scores, grid)}'s"] = _difference(apart)
                told = {"difference": apart.get("value"), "p": apart.get("p"), "p_holm": apart.get("p_holm")}
                lines.append(line | {"low": low, "high": high} | told)
        rows.append(cells | {"n": number(sum(run["model"] == model for run in grid.runs), 0)})
    columns = ["system", "setting", "group", "figure", "mean", "sd", "n", "low", "high"]
    columns += ["difference", "p", "p_holm", "values", "seeds"]
    notes = (
        f"{'. '.join(grid.caption())} NER precision, recall and F1 x 100, mean ± standard deviation over n seeds "
        f"where n > 1. {GROUP_RULE}.",
        f"[95 % interval]: bootstrap over {scores['unit']}s of the mean over seeds, {scores['resamples']:,} resamples.",
        f"- {_title(scores, grid)}'s: difference of the means; with three or more seeds on each side [95 % t "
        f"interval], tested like the figures of systems (paired bootstrap over {scores['unit']}s plus what seeds add), "
        f"Holm over the {scores['family']} differences tested here. Bold: adjusted p < {LEVEL:g}. {NO_GOLD}: no such "
        "entity.",
        *_remark(grid),
    )
    tidy = pd.DataFrame(lines, columns=columns)
    return Table("in_triple_ner", "In-triple NER: entities in a triple and in none", frame(rows), tidy, notes)


def _difference(apart: dict) -> Cell:
    if not apart:
        return NO_FIGURE
    bold = apart["tested"] and apart["p_holm"] < LEVEL
    cell = number(apart["value"], sign=True, bold=bold)
    if not apart["tested"]:
        return cell
    return Cell(f"{cell} {interval(apart['interval'], 1, sign=True)}", cell.value, bold)


def draw(attention: dict, scores: dict, grid: Grid, out: Path) -> None:
    """The attention each group gets over what uniform attention gives it; NER recall and F1 of the groups by model."""
    use_style()
    models = list(scores["models"])
    figure, (left, *right) = plt.subplots(
        *(1, 3), figsize=(PAGE_INCHES, 0.9 + 0.19 * max(len(models), 7)), layout="constrained", width_ratios=(2, 1, 1)
    )
    _draw_mass(left, attention)
    for axis, (name, title) in zip(right, (("recall", "NER recall"), ("f1", "NER F1")), strict=True):
        for row, model in enumerate(models):
            for group, color, marker, shift in zip(ENTITY_TITLES, GROUP_COLORS, MARKERS, (-0.13, 0.13), strict=False):
                if (found := scores["models"][model][group].get(name)) is None:
                    continue  # no gold entities
                _point(axis, statistics.fmean(found["values"].values()), found["interval"], row + shift, color, marker)
        titles = [grid.title("models", m) for m in models] if axis is right[0] else []
        axis.set_yticks(range(len(titles)), titles)
        axis.set(ylim=(len(models) - 0.5, -0.5), xlabel=f"{title} x 100")
        axis.set_title(f"{title} by group", fontsize=7, loc="left")
        axis.grid(axis="x", linewidth=0.3)
    labels = "in-triple entities", "out-of-triple entities", "other words"
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", markersize=4, label=label)
        for color, marker, label in zip(GROUP_COLORS, MARKERS, labels, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=6, frameon=False)
    where, measured_on = grid.caption()
    caption = (
        f"{where}, {attention['split']} split ({attention['sentences']} sentences). Left: share of the "
        f"cross-task attention of {_studied(grid)} on words of each group over its share of the word pieces (1: as "
        f"uniform attention); large points are of the mean attention of heads and seeds ({_seeds(attention)}), small "
        "ones of single heads, each over the sentences on which a head leaves anything for words (a head without a "
        "point: "
        f"none); in {_measured(attention)}; in brackets what of the whole attention falls on words and not on [CLS] "
        f"and [SEP]. Right: NER recall and F1 of each group, mean over seeds. {GROUP_RULE}. Bars: 95 % bootstrap "
        f"interval over {attention['unit']}s. {measured_on}"
    )
    save(figure, out, " ".join([caption, *_remark(grid)]))


def _draw_mass(axis: plt.Axes, attention: dict) -> None:
    axis.set_title("Attention / uniform attention", fontsize=7, loc="left")
    if not attention["directions"]:
        axis.axis("off")
        axis.text(0.5, 0.5, NO_ATTENTION, ha="center", va="center")
        return
    axis.axvline(1, color="black", linewidth=0.6, zorder=0)
    ticks = {}
    for nth, (direction, heads) in enumerate(attention["directions"].items()):
        first = nth * (len(TITLES) + 0.5)
        for y, (group, color, marker) in enumerate(zip(TITLES, GROUP_COLORS, MARKERS, strict=True)):
            for head in heads:
                if (found := head["groups"][group]["ratio"]) is None:
                    continue
                if head["head"] == "mean":
                    _point(axis, found["value"], found["interval"], first + y, color, marker)
                else:
                    axis.plot(found["value"], first + y + 0.25, ".", color=color, markersize=3, alpha=0.6)
        on_words = 100 * (1 - heads[0]["special"])
        ticks[first + 1] = f"{DIRECTIONS.get(direction, direction)}\n(which get {on_words:.2g} %)"
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set(ylim=(max(ticks) + 1.6, -0.6), xlabel="share of attention / share of word pieces")
    axis.grid(axis="x", linewidth=0.3)


def _point(axis: plt.Axes, value: float, bounds: list[float], y: float, color: str, marker: str) -> None:
    axis.plot(bounds, [y, y], color=color, linewidth=1)
    axis.plot(value, y, marker=marker, color=color, markersize=4, linestyle="")


# -- words of notes and caption ------------------------------------------------------------------------------------


def _studied(grid: Grid) -> str:
    return grid.title("models", grid.declared["case_study"]["model"])


def _title(scores: dict, grid: Grid) -> str:
    return grid.title("models", scores["studied"])


def _measured(attention: dict) -> str:
    return f"{attention['precision']}, {machine(attention)}"


def _counted(attention: dict) -> str:
    """How many sentences the paired figures are of, where all directions agree."""
    counts = {heads[0]["paired"]["sentences"] for heads in attention["directions"].values() if heads[0]["paired"]}
    return f" ({counts.pop()} of {attention['sentences']})" if len(counts) == 1 else ""


def _seeds(attention: dict) -> str:
    return ", ".join(attention["seeds"])


def _remark(grid: Grid) -> list[str]:
    return [grid.declared["remark"]] if grid.declared["remark"] else []
