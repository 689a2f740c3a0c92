"""Figures of all systems on one dataset with one encoder: learning curves, F1 against speed, F1 by sentence length, and
the differences that are significant. A system has the same colour and marker in all of them."""

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from sinet.files import read_sealed
from sinet.paper.grid import METRICS, sign, test_of
from sinet.paper.runs import Runs
from sinet.paper.style import COLUMN_INCHES, PAGE_INCHES, save, use_style
from sinet.paper.table import signed


def draw_results(
    records: Sequence[Path],
    comparisons: Path,
    models: Mapping[str, dict],
    place: tuple[str, str],
    what: str,
    out: Path,
) -> None:
    """Draw `curves`, `lengths` and `significance` (pdf, png, caption) in the folder `out`.

    Args:
        records: `record.json` of the runs, with `log.csv` and `analysis.json` beside each.
        models: all declared models with `title` and `system`. place: dataset (whole, not a fold) and encoder as the
            comparisons name them. what: dataset and encoder, for the captions.
    """
    runs = Runs(records, models)
    use_style()
    over = " Over all folds of the dataset." if {place[0]} != runs.datasets else ""
    for name, draw in (
        ("curves", lambda: _curves(runs)),
        ("lengths", lambda: _lengths(runs)),
        ("significance", lambda: _significance(read_sealed(comparisons), place, models)),
    ):
        figure, caption = draw()
        caption += over if name == "significance" else ""
        save(figure, out / name, f"{what}. {caption} Runs: {runs.measured_on()}.")


def draw_speed(records: Sequence[Path], timing: Path, models: Mapping[str, dict], what: str, out: Path) -> None:
    """Draw F1 against sentences a second as `out` with its endings; arguments as those of `draw_results`."""
    runs = Runs(records, models)
    use_style()
    figure, caption = _speed(runs, read_sealed(timing))
    save(figure, out, f"{what}. {caption} Runs: {runs.measured_on()}.")


# -- the four figures ----------------------------------------------------------------------------------------------


def _curves(runs: Runs) -> tuple[plt.Figure, str]:
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_INCHES, 2.4), layout="constrained")
    measured = False
    for model in runs.records:
        look = runs.looks[model]
        logs = [list(csv.DictReader(path.read_text("utf-8").splitlines())) for path in runs.files(model, "log.csv")]
        # of parts trained one after another the last
        logs = [[row for row in rows if row.get("stage") == rows[-1].get("stage")] for rows in logs]
        epochs = [float(row["epoch"]) for row in min(logs, key=len)]
        loss = np.array([[float(row["loss"]) for row in rows[: len(epochs)]] for rows in logs])
        loss /= loss[:, :1]
        left.plot(epochs, loss.mean(axis=0), markersize=3, linewidth=1, **look)
        left.fill_between(epochs, loss.min(axis=0), loss.max(axis=0), color=look["color"], alpha=0.15, linewidth=0)
        dev = [{float(r["epoch"]): float(r["dev_rel_plus"]) for r in rows if r["dev_rel_plus"]} for rows in logs]
        if shared := sorted(set.intersection(*map(set, dev))):
            measured = True
            means = [statistics.fmean(seed[epoch] for seed in dev) for epoch in shared]
            right.plot(shared, means, markersize=3, linewidth=1, **look)
    left.set(xlabel="epoch", ylabel="training loss (first = 1)")
    left.set_ylim(bottom=0)
    right.set(xlabel="epoch", ylabel="dev Rel+ (F1 x 100)")
    right.set_xlim(left.get_xlim())
    _scale(right)
    for axis, title in ((left, "Training loss"), (right, "Dev")):
        axis.set_title(title, fontsize=7, loc="left")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(linewidth=0.3)
    if not measured:
        right.text(0.5, 0.5, "n/a: no dev split", ha="center", va="center", transform=right.transAxes)
    _legend(figure, runs, runs.records)
    return figure, (
        "Learning curves. Left: mean training loss of each epoch over that of the first (losses of different systems "
        "are different functions); lines are means over seeds, areas reach from the lowest to the highest "
        "seed; of a system whose parts are trained one after another the last part. Right: Rel+ on the dev split where "
        "it was measured: whenever dev was looked at under a selection on dev, else after the last epoch."
    )


def _speed(runs: Runs, timing: dict) -> tuple[plt.Figure, str]:
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_INCHES, 2.4), layout="constrained", sharex=True)
    models = [model for model in runs.records if model in timing["systems"]]
    for axis, metric in zip(axes, ("ent", "rel_plus"), strict=True):
        for model in models:
            speed, values = timing["systems"][model]["float32"]["best"]["sentences_per_s"], runs.f1(model, metric)
            spread = statistics.stdev(values) if len(values) > 1 else 0
            look = runs.looks[model] | {"linestyle": ""}
            axis.errorbar(speed, statistics.fmean(values), spread or None, markersize=4.5, elinewidth=0.8, **look)
        axis.set(xscale="log", xlabel="sentences/s", ylabel=f"{METRICS[metric]} (F1 x 100)")
        axis.set_title(METRICS[metric], fontsize=7, loc="left")
        axis.margins(0.1)
        _scale(axis)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(linewidth=0.3)
    _legend(figure, runs, models, line=False)
    return figure, (
        "F1 against speed of inference: sentences a second in float32 at the best batch, token ids to triples, over "
        f"{timing['sentences']} of {timing['of_sentences']} test sentences, median of passes, {timing['device_name']} "
        f"({timing['device']}, {timing['threads']} threads), logarithmic. F1: mean over seeds, bars one standard "
        "deviation where there are several."
    )


def _lengths(runs: Runs) -> tuple[plt.Figure, str]:
    figure, axes = plt.subplots(1, 2, figsize=(PAGE_INCHES, 2.4), layout="constrained", sharex=True)
    for axis, metric in zip(axes, ("ent", "rel_plus"), strict=True):
        for model in runs.records:
            slices = [read_sealed(path)["slices"]["length"] for path in runs.files(model, "analysis.json")]
            classes = [name for name, figures in slices[0].items() if figures["sentences"]]
            values = [statistics.fmean(s[name][metric]["f1"] for s in slices) for name in classes]
            axis.plot(range(len(classes)), values, markersize=3, linewidth=1, **runs.looks[model])
        labels = [f"{name}\n({slices[0][name]['sentences']})" for name in classes]
        axis.set_xticks(range(len(classes)), labels)
        _scale(axis)
        axis.set(xlabel="words of the sentence (number of sentences)", ylabel=f"{METRICS[metric]} (F1 x 100)")
        axis.set_title(METRICS[metric], fontsize=7, loc="left")
        axis.grid(linewidth=0.3)
    _legend(figure, runs, runs.records)
    return figure, "Micro F1 over the sentences of each class of length, mean over seeds."


def _significance(made: dict, place: tuple[str, str], models: Mapping[str, dict]) -> tuple[plt.Figure, str]:
    found = [c for c in made["comparisons"] if (c["dataset"], c["encoder"]) == place]
    if not found:
        figure, axes = plt.subplots(figsize=(COLUMN_INCHES, 0.6), layout="constrained")
        axes.axis("off")
        axes.text(0.5, 0.5, "n/a: no two systems to compare", ha="center", va="center")
        return figure, "n/a: this grid has no two systems to compare on one dataset, with one encoder and recipe."
    several = len({c["recipe"] for c in found}) > 1
    rows: dict[str, dict[str, dict]] = {}
    for c in found:
        name = f"{models[c['system']]['title']} vs {models[c['other']]['title']}"
        rows.setdefault(f"{name} ({c['recipe']})" if several else name, {})[c["metric"]] = c
    table = np.array([[row[metric]["difference"] for metric in METRICS] for row in rows.values()])
    greatest = max(np.abs(table).max(), 1e-9)
    figure, axis = plt.subplots(figsize=(COLUMN_INCHES, 0.65 + 0.17 * len(rows)), layout="constrained")
    sns.heatmap(
        table,
        ax=axis,
        cmap=sns.color_palette("vlag_r", as_cmap=True),
        vmin=-greatest,
        vmax=greatest,
        linewidths=0.6,
        linecolor="white",
        cbar_kws={"pad": 0.03, "aspect": 20, "label": "difference of F1 x 100"},
        xticklabels=list(METRICS.values()),
        yticklabels=list(rows),
    )
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=6)
    axis.tick_params(axis="y", rotation=0)
    axis.collections[0].colorbar.ax.tick_params(labelsize=6, length=1.5)
    axis.collections[0].colorbar.ax.yaxis.label.set_size(6)
    for y, row in enumerate(rows.values()):
        for x, metric in enumerate(METRICS):
            tested, significant = row[metric]["p_holm"] is not None, sign(row[metric], made["level"]) != 0
            dark = tested and abs(table[y, x]) > 0.75 * greatest
            if not tested:
                axis.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="0.88", hatch="///", linewidth=0))
            axis.text(
                *(x + 0.5, y + 0.5, signed(table[y, x]) + ("*" if significant else "")),
                **{"ha": "center", "va": "center", "fontsize": 6, "color": "white" if dark else "black"},
                fontweight="bold" if significant else "normal",
            )
    return figure, (
        "Differences of F1 between systems, means over seeds, blue where the first is better. Bold with a star: "
        f"significant, {test_of(made)}. Hatched: not tested."
    )


def _scale(axis: plt.Axes) -> None:
    """F1 that is 0 everywhere needs a scale all the same."""
    if axis.get_ylim()[1] < 1:
        axis.set_ylim(-0.05, 1)


def _legend(figure: plt.Figure, runs: Runs, models: Iterable[str], line: bool = True) -> None:
    handles = [
        Line2D(
            [],
            [],
            markersize=4,
            linewidth=1,
            label=runs.titles[m],
            **runs.looks[m] | ({} if line else {"linestyle": ""}),
        )
        for m in models
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6, frameon=False, handlelength=2.5)
