"""The paper's claim in numbers: where cross-task attention falls, and NER on entities in a triple and in none."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from sinet.files import read_sealed
from sinet.paper.runs import Runs
from sinet.paper.style import DIRECTIONS, GROUP_COLORS, PAGE_INCHES, save, use_style
from sinet.paper.table import NO_FIGURE, Table, frame, mean_sd, write

TITLES = {
    "in_triple": "Words of in-triple entities",
    "out_of_triple": "Words of out-of-triple entities",
    "other": "Other words",
}
ENTITY_TITLES = {"in_triple": "In-triple entities", "out_of_triple": "Out-of-triple entities"}
FIGURE_TITLES = {"precision": "P", "recall": "R", "f1": "F1"}
MARKERS = ("o", "s")
GROUP_RULE = (
    "In-triple: argument of a gold relation. Recall: the share of a group's gold entities that is found (type and "
    "boundaries); it depends on no predicted relation. For precision and F1 a wrong prediction counts in the group it "
    "is predicted in (in-triple: argument of a predicted relation), so that the two groups add up to Ent; these two "
    "figures mix NER with how many relations a system predicts"
)


def write_claim(
    shares: Path, groups: Path, records: Sequence[Path], declared: dict, what: str, tables: Path, figures: Path
) -> None:
    """Write the tables `attention_shares` and `triple_groups` (csv, md, tex) and the figure `attention_shares`.

    Args:
        records: of the runs whose entities `groups` counts. declared: as `sinet.grid.plan.Plan.declared`.
        what: what was measured, without the model.
    """
    attention = read_sealed(shares)
    scores = read_sealed(groups)
    tables.mkdir(parents=True, exist_ok=True)
    measured_on = f"Runs: {Runs(records, declared['models']).measured_on()}"
    for table in (shares_table(attention, declared, what), groups_table(scores, declared, f"{what}. {measured_on}")):
        write(table, tables)
    draw(attention, scores, declared, what, measured_on, figures / "attention_shares")


def shares_table(attention: dict, declared: dict, what: str) -> Table:
    """A row for uniform attention, then by direction the mean and each head of each seed."""
    rows = [_shares_row("uniform over pieces", "", "", None, None)]
    for group, title in TITLES.items():
        rows[0][(title, "share (%)")] = f"{100 * attention['uniform'][group]:.1f}"
        rows[0][(title, "/ uniform")] = "1"
    tidy = [_tidy("uniform", "", None, g, "share", v, (None, None)) for g, v in attention["uniform"].items()]
    for direction, heads in attention["directions"].items():
        title = DIRECTIONS.get(direction, direction)
        for row in heads:
            cells = _shares_row(title, row["head"], row["seed"] or _seeds(attention), row["special"], row["blank"])
            tidy.append(_tidy(title, row["head"], row["seed"], "special", "share", row["special"], (None, None)))
            for group, found in row["groups"].items():
                for figure, column, scale in (("share", "share (%)", 100), ("ratio", "/ uniform", 1)):
                    value = found[figure]
                    cells[(TITLES[group], column)] = NO_FIGURE if value is None else _with_interval(value, scale)
                    if value is not None:
                        tidy.append(
                            _tidy(title, row["head"], row["seed"], group, figure, value["value"], value["interval"])
                        )
            rows.append(cells)
    if not attention["directions"]:
        rows.append(_shares_row(f"{NO_FIGURE}: this model has no cross-task attention", "", "", None, None))
    notes = (
        f"{_studied(declared)} on {what}, {attention['split']} split ({attention['sentences']} sentences), in "
        f"{_machine(attention)}. Shares of the attention on words, mean over sentences; what falls on the task's own "
        "[CLS] and on [SEP] stands apart. In-triple: argument of a gold relation. Uniform: the same weight on every "
        "word piece.",
        f"[95 % interval]: bootstrap over sentences, {attention['resamples']:,} resamples. Heads of different seeds "
        "have nothing in common but their number; mean: of the mean attention of all heads and seeds, so that a head "
        "weighs as much as it gives to words.",
        "Left out: sentences on which a head leaves nothing for words, not even in float32; its shares are means "
        "over the others.",
        *_remark(declared),
    )
    return Table("attention_shares", "Where cross-task attention falls", frame(rows), pd.DataFrame(tidy), notes)


def groups_table(scores: dict, declared: dict, what: str) -> Table:
    """NER by group, a row for each model."""
    rows, tidy = [], []
    for model, groups in scores["models"].items():
        described = declared["models"][model]
        cells = {("", "System"): described["title"], ("", "Setting"): described.get("setting", "")}
        for group, figures in groups.items():
            title = f"{ENTITY_TITLES[group]} ({figures['gold']:,})"
            for figure, name in FIGURE_TITLES.items():
                found = figures[figure]
                values = list(found["values"].values())
                text = mean_sd(values)
                cells[(title, name)] = f"{text} {_interval(found['interval'], 1)}" if figure != "precision" else text
                tidy.append(
                    {
                        "system": described["title"],
                        "setting": described.get("setting", ""),
                        "group": group,
                        "figure": figure,
                        "mean": round(statistics.fmean(values), 4),
                        "sd": round(statistics.stdev(values), 4) if len(values) > 1 else None,
                        "n": len(values),
                        "low": round(found["interval"][0], 4),
                        "high": round(found["interval"][1], 4),
                        "values": " ".join(f"{v:.4f}" for v in values),
                        "seeds": " ".join(found["values"]),
                    }
                )
        cells[("", "n")] = str(len(values))
        rows.append(cells)
    notes = (
        f"{what}. NER precision, recall and F1 x 100, mean ± standard deviation over n seeds where n > 1. "
        f"{GROUP_RULE}.",
        f"[95 % interval]: bootstrap over sentences of the mean over seeds, {scores['resamples']:,} resamples.",
        *_remark(declared),
    )
    return Table("triple_groups", "NER of entities in a triple and in none", frame(rows), pd.DataFrame(tidy), notes)


def draw(attention: dict, scores: dict, declared: dict, what: str, measured_on: str, out: Path) -> None:
    """The attention each group gets over what uniform attention gives it; NER recall and F1 of the groups by model."""
    use_style()
    models = list(scores["models"])
    figure, (left, *right) = plt.subplots(
        *(1, 3), figsize=(PAGE_INCHES, 0.9 + 0.19 * max(len(models), 7)), layout="constrained", width_ratios=(2, 1, 1)
    )
    _draw_shares(left, attention)
    for axis, (name, title) in zip(right, (("recall", "NER recall"), ("f1", "NER F1")), strict=True):
        for row, model in enumerate(models):
            for group, color, marker, shift in zip(ENTITY_TITLES, GROUP_COLORS, MARKERS, (-0.13, 0.13), strict=False):
                found = scores["models"][model][group][name]
                _point(axis, statistics.fmean(found["values"].values()), found["interval"], row + shift, color, marker)
        titles = [declared["models"][m]["title"] for m in models] if axis is right[0] else []
        axis.set_yticks(range(len(titles)), titles)
        axis.set(ylim=(len(models) - 0.5, -0.5), xlabel=f"{title} x 100")
        axis.set_title(f"{title} by group", fontsize=7, loc="left")
        axis.grid(axis="x", linewidth=0.3)
    figure.legend(
        handles=[
            Line2D([], [], color=color, marker=marker, linestyle="", markersize=4, label=label)
            for color, marker, label in zip(
                GROUP_COLORS, "osD", ("in-triple entities", "out-of-triple entities", "other words"), strict=True
            )
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=6,
        frameon=False,
    )
    save(
        figure,
        out,
        f"{what}, {attention['split']} split ({attention['sentences']} sentences). Left: share of the cross-task "
        f"attention of {_studied(declared)} on words of each group over its share of the word pieces (1: as uniform "
        f"attention); large points are of the mean attention of heads and seeds ({_seeds(attention)}), small ones of "
        "single heads, each over the sentences on which a head leaves anything for words (a head without a point: "
        f"none); in {_machine(attention)}; in brackets what of the whole attention falls on words and not on [CLS] "
        f"and [SEP]. Right: NER recall and F1 of each group, mean over seeds. {GROUP_RULE}. Bars: 95 % bootstrap "
        f"interval over sentences. {measured_on}." + "".join(f" {line}" for line in _remark(declared)),
    )


def _draw_shares(axis: plt.Axes, attention: dict) -> None:
    axis.set_title("Attention / uniform attention", fontsize=7, loc="left")
    if not attention["directions"]:
        axis.axis("off")
        axis.text(0.5, 0.5, "n/a: this model has no cross-task attention", ha="center", va="center")
        return
    axis.axvline(1, color="black", linewidth=0.6, zorder=0)
    places = {}
    for nth, (direction, rows) in enumerate(attention["directions"].items()):
        for g, group in enumerate(TITLES):
            place = places[direction, group] = nth * (len(TITLES) + 0.5) + g
            for row in rows:
                if (found := row["groups"][group]["ratio"]) is None:
                    continue
                if row["head"] == "mean":
                    _point(axis, found["value"], found["interval"], place, GROUP_COLORS[g], "osD"[g])
                else:
                    axis.plot(found["value"], place + 0.25, ".", color=GROUP_COLORS[g], markersize=3, alpha=0.6)
    on_words = {d: 100 * (1 - rows[0]["special"]) for d, rows in attention["directions"].items()}
    axis.set_yticks(
        [np.mean([places[d, g] for g in TITLES]) for d in attention["directions"]],
        [f"{DIRECTIONS.get(d, d)}\n(which get {on_words[d]:.2g} %)" for d in attention["directions"]],
    )
    axis.set(ylim=(max(places.values()) + 0.6, -0.6), xlabel="share of attention / share of word pieces")
    axis.grid(axis="x", linewidth=0.3)


def _point(axis: plt.Axes, value: float, interval: list[float], y: float, color: str, marker: str) -> None:
    axis.plot(interval, [y, y], color=color, linewidth=1)
    axis.plot(value, y, marker=marker, color=color, markersize=4, linestyle="")


def _shares_row(direction: str, head: str, seed: str, special: float | None, blank: int | None) -> dict:
    return {
        ("", "Attention"): direction,
        ("", "Head"): head,
        ("", "Seed"): seed,
        ("", "on [CLS], [SEP] (%)"): "" if special is None else f"{100 * special:.2f}",
        ("", "Left out"): "" if blank is None else f"{blank:,}",
    } | {(title, column): "" for title in TITLES.values() for column in ("share (%)", "/ uniform")}


def _tidy(
    direction: str, head: str, seed: str | None, group: str, figure: str, value: float, interval: tuple | list
) -> dict:
    low, high = (None if bound is None else round(bound, 6) for bound in interval)
    return {
        "attention": direction,
        "head": head,
        "seed": seed,
        "group": group,
        "figure": figure,
        "value": round(value, 6),
        "low": low,
        "high": high,
    }


def _with_interval(found: dict, scale: float) -> str:
    digits = 1 if scale == 100 else 2
    return f"{scale * found['value']:.{digits}f} {_interval([scale * b for b in found['interval']], digits)}"


def _interval(bounds: list[float], digits: int) -> str:
    return "[{:.{d}f}, {:.{d}f}]".format(*bounds, d=digits)


def _studied(declared: dict) -> str:
    return declared["models"][declared["case_study"]["model"]]["title"]


def _machine(attention: dict) -> str:
    return "{precision}, {device_name} ({device}, {threads} threads)".format(**attention)


def _seeds(attention: dict) -> str:
    return ", ".join(attention["seeds"])


def _remark(declared: dict) -> list[str]:
    return [declared["remark"]] if declared["remark"] else []
