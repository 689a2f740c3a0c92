"""Figures of all systems on one dataset with one encoder: learning curves, F1 by sentence length, the differences that
are significant, F1 against speed, FLOPs against length. A system has the same colour and marker in all of them."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from sinet.captions import machine, span
from sinet.files import check_sum, read_sealed
from sinet.report.frame import ALL
from sinet.report.grid import METRICS, NO_TYPES, Grid, sign
from sinet.report.style import COLUMN_INCHES, PAGE_INCHES, absent, looks, save, use_style
from sinet.report.table import number


def draw_results(records: Sequence[Path], comparisons: Path, declared: dict, out: Path) -> None:
    """Draw `curves`, `lengths` and `significance` (pdf, png, caption) in the folder `out`.

    Args:
        records: `record.json` of the runs on one dataset with one encoder, with `log.csv` and `analysis.json` beside
            each. declared: as `sinet.grid.plan.Plan.declared`.
    """
    grid = Grid.read(records, declared, comparisons)
    use_style()
    for name, draw in (("curves", _curves), ("lengths", _lengths), ("significance", _significance)):
        save_of(grid, *draw(grid), out / name)


def draw_speed(records: Sequence[Path], timing: Path, declared: dict, out: Path) -> None:
    """Draw F1 against sentences a second as `out` with its endings; arguments as those of `draw_results`."""
    grid = Grid.read(records, declared, analyses=False)
    use_style()
    save_of(grid, *_speed(grid, read_sealed(timing)), out)


def draw_flops(flops: Path, records: Sequence[Path], declared: dict, out: Path) -> None:
    """Draw total and head multiply-adds of every system of a `flops.json` by number of words as `out` with its endings.

    Args:
        records: of the runs that were counted. declared: as `sinet.grid.plan.Plan.declared`.
    """
    grid = Grid.read(records, declared, analyses=False)
    use_style()
    save_of(grid, *_flops(grid, read_sealed(flops)["systems"]), out)


def save_of(grid: Grid, figure: plt.Figure, caption: str, out: Path) -> None:
    """Write a figure of runs on one dataset with one encoder; the caption says on which, and what they are."""
    where, measured_on = grid.caption()
    save(figure, out, f"{where}. {caption} {measured_on}")


def models_of(grid: Grid) -> dict[str, dict]:
    """The models of a grid's runs, and how each is drawn: as in every grid that declares the same ones."""
    style = looks({model: declared["system"] for model, declared in grid.declared["models"].items()})
    return {model: style[model] for model in dict.fromkeys(run["model"] for run in grid.runs)}


# -- the figures ----------------------------------------------------------------------------------------------


def _curves(grid: Grid) -> tuple[plt.Figure, str]:
    figure, (left, right) = _two_axes(sharex=False)
    metric = "ent" if _nothing(grid, "rel_plus") else "rel_plus"
    once = []
    models = {model: look for model, look in models_of(grid).items() if not grid.is_external(model)}
    for model, look in models.items():
        logs = [_log(run["folder"] / "log.csv") for run in grid.runs if run["model"] == model]
        shortest = min(logs, key=len)
        loss = np.array([log["loss"][: len(shortest)] / log["loss"].iloc[0] for log in logs])
        left.plot(shortest["epoch"], loss.mean(axis=0), markersize=3, linewidth=1, **look)
        area = shortest["epoch"], loss.min(axis=0), loss.max(axis=0)
        left.fill_between(*area, color=look["color"], alpha=0.15, linewidth=0)
        dev = pd.concat([log.set_index("epoch")[f"dev_{metric}"] for log in logs], axis=1, join="inner").dropna()
        if len(dev) == 1:
            once.append(grid.title("models", model))
        elif len(dev):
            right.plot(dev.index, dev.mean(axis=1), markersize=3, linewidth=1, **look)
    left.set(xlabel="epoch", ylabel="training loss (first = 1)")
    left.set_ylim(bottom=0)
    right.set(xlabel="epoch", ylabel=f"dev {METRICS[metric]} (F1 x 100)")
    right.set_xlim(left.get_xlim())
    _scale(right)
    for axis, title in ((left, "Training loss"), (right, "Dev")):
        axis.set_title(title, fontsize=7, loc="left")
        axis.xaxis.get_major_locator().set_params(integer=True)
    if not right.lines:
        _write(right, "n/a: dev was evaluated once in each run" if once else "n/a: no dev split")
    _legend(figure, grid, models)
    return figure, (
        "Learning curves. Left: mean training loss of each epoch over that of the first (losses of different systems "
        "are different functions); lines are means over seeds, areas reach from the lowest to the highest "
        "seed; of a system whose parts are trained one after another the last part. Right: "
        f"{METRICS[metric]} on the dev split, whenever it was evaluated."
        + (f" Dev was evaluated only once, which makes no curve: {', '.join(once)}." if once else "")
    )


def _log(path: Path) -> pd.DataFrame:
    """The log of a training; of parts trained one after another that of the last. Archived runs may have no `stage`."""
    check_sum(path)
    log = pd.read_csv(path, dtype={"stage": str})
    stage = log.get("stage", pd.Series("", log.index)).fillna("")
    return log[stage == stage.iloc[-1]]


def _speed(grid: Grid, timing: dict) -> tuple[plt.Figure, str]:
    figure, axes = _two_axes()
    models = [model for model in models_of(grid) if model in timing["systems"]]
    for axis, metric in zip(axes, ("ent", "rel_plus"), strict=True):
        if _nothing(grid, metric):
            _write(axis, "no relation types")
            continue
        f1 = _test(grid, metric, ALL).groupby("model")["value"].agg(list)
        for model in models:
            speed = timing["systems"][model]["float32"]["best"]["sentences_per_s"]
            spread = statistics.stdev(f1[model]) if len(f1[model]) > 1 else None
            look = models_of(grid)[model] | {"linestyle": ""}
            axis.errorbar(speed, statistics.fmean(f1[model]), spread or None, markersize=4.5, elinewidth=0.8, **look)
        axis.set(xscale="log", xlabel="sentences/s")
        _f1_axis(axis, metric)
        axis.margins(0.1)
        _scale(axis)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    _legend(figure, grid, models, linestyle="")
    return figure, (
        "F1 against speed of inference: sentences a second in float32 at the best batch, token ids to triples, over "
        f"{timing['sentences']} of {timing['of_sentences']} test sentences, median of passes, {machine(timing)}, "
        "logarithmic. F1: mean over seeds, bars one standard deviation where there are several."
    )


def _lengths(grid: Grid) -> tuple[plt.Figure, str]:
    figure, axes = _two_axes()
    for axis, metric in zip(axes, ("ent", "rel_plus"), strict=True):
        if _nothing(grid, metric):
            _write(axis, "no relation types")
            continue
        of = _test(grid, metric, "length")
        of = of[of["sentences"] > 0]
        means = of.pivot_table("value", "label", "model", aggfunc="mean", sort=False)
        for model, look in models_of(grid).items():
            axis.plot(range(len(means)), means[model], markersize=3, linewidth=1, **look)
        sentences = of.groupby("label", sort=False)["sentences"].first()
        axis.set_xticks(range(len(means)), [f"{label}\n({sentences[label]:.0f})" for label in means.index])
        _scale(axis)
        axis.set(xlabel="words of the sentence (number of sentences)")
        _f1_axis(axis, metric)
    _legend(figure, grid, models_of(grid))
    return figure, "Micro F1 over the sentences of each class of length, mean over seeds."


def _significance(grid: Grid) -> tuple[plt.Figure, str]:
    made, first = grid.comparisons, grid.runs[0]
    dataset, encoder = grid.place(first)[:2]
    there = [c for c in made["comparisons"] if (c["dataset"], c["encoder"]) == (dataset, encoder)]
    if not there:
        reason = "this grid has no two systems to compare on one dataset, with one encoder and recipe"
        return absent(reason), f"n/a: {reason}."
    found = pd.DataFrame(there)
    titles = grid.titles("models")
    found["pair"] = found["system"].map(titles) + " vs " + found["other"].map(titles)
    if found["recipe"].nunique() > 1:
        found["pair"] += " (" + found["recipe"] + ")"
    found["sign"] = [sign(c, made["level"]) for c in there]
    differences = found.pivot_table("difference", "pair", "metric", sort=False)[[*METRICS]]
    greatest = max(found["difference"].abs().max(), 1e-9)
    figure, axis = plt.subplots(figsize=(COLUMN_INCHES, 0.65 + 0.17 * len(differences)), layout="constrained")
    sns.heatmap(
        differences.to_numpy(),
        ax=axis,
        cmap=sns.color_palette("vlag_r", as_cmap=True),
        vmin=-greatest,
        vmax=greatest,
        linewidths=0.6,
        linecolor="white",
        cbar_kws={"pad": 0.03, "aspect": 20, "label": "difference of F1 x 100"},
        xticklabels=list(METRICS.values()),
        yticklabels=list(differences.index),
    )
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=6)
    axis.tick_params(axis="y", rotation=0)
    colours = figure.axes[-1]
    colours.tick_params(labelsize=6, length=1.5)
    colours.yaxis.label.set_fontsize(6)
    for c in found.itertuples():
        x, y = list(METRICS).index(c.metric), differences.index.get_loc(c.pair)
        if not c.tested:
            axis.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="0.88", hatch="///", linewidth=0))
        axis.text(
            *(x + 0.5, y + 0.5, number(c.difference, sign=True).text + "*" * (c.sign != 0)),
            ha="center",
            va="center",
            fontsize=6,
            fontweight="bold" if c.sign else "normal",
            color="white" if c.tested and abs(c.difference) > 0.75 * greatest else "black",
        )
    folds = " Over all folds of the dataset." if dataset != first["dataset"] else ""
    return figure, (
        "Differences of F1 between systems, means over seeds, blue where the first is better. Bold with a star: "
        f"{grid.test_note()}. Hatched: not tested.{folds} {grid.detectable(there)}"
    )


def _flops(grid: Grid, systems: dict) -> tuple[plt.Figure, str]:
    counted = {model: of["ours"]["by_words"] for model, of in systems.items() if "not_counted" not in of}
    figure, axes = _two_axes(figsize=(COLUMN_INCHES * 2, 2.3))
    words = sorted({int(words) for of in counted.values() for words in of})
    for axis, part, title in zip(axes, ("total", "heads"), ("Whole system", "Without the encoder"), strict=True):
        if not words:
            why = "too few test words for one sentence" if counted else "not counted"
            _write(axis, f"n/a: {why}")
            continue
        for model, of in counted.items():
            flops = [of[str(n)][part] / 1e6 for n in words]
            axis.plot(words, flops, markersize=3.5, linewidth=1, **models_of(grid)[model])
        axis.set(xscale="log", yscale="log", xlabel="words", ylabel="FLOPs (M)")
        axis.set_title(title, fontsize=7, loc="left")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.minorticks_off()
        axis.set_xticks(words, map(str, words))
    _legend(figure, grid, counted)
    sizes = [figures["sentences"] for of in counted.values() for figures in of.values()]
    caption = (
        "Millions of FLOPs (one multiply-add = 1, fvcore) of one sentence of the test split by its number of words: "
        f"{span(sizes) if sizes else 'no'} sentence{'s' * (set(sizes) != {1})} of each length, consecutive test "
        "sentences laid end to end; both axes logarithmic. In our form. Left the whole system, right what it adds to "
        "the encoder."
    )
    if lost := [grid.title("models", model) for model in systems if model not in counted]:
        caption += f" Not counted, for the reasons under the table of efficiency: {', '.join(lost)}."
    return figure, caption


def _two_axes(sharex: bool = True, figsize: tuple[float, float] = (PAGE_INCHES, 2.4)) -> tuple[plt.Figure, np.ndarray]:
    figure, axes = plt.subplots(1, 2, figsize=figsize, layout="constrained", sharex=sharex)
    for axis in axes:
        axis.grid(linewidth=0.3)
    return figure, axes


def _test(grid: Grid, metric: str, slicing: str) -> pd.DataFrame:
    """F1 on test under a metric, a row a run and class."""
    return grid.figures.query("split == 'test' and metric == @metric and slicing == @slicing")


def _nothing(grid: Grid, metric: str) -> bool:
    """Whether the dataset has no type that a metric is of."""
    return grid.without_gold(grid.place(grid.runs[0]), metric) is NO_TYPES


def _write(axis: plt.Axes, why: str) -> None:
    """Why nothing is drawn, in the middle of the axes."""
    axis.text(0.5, 0.5, why, ha="center", va="center", fontsize=6, transform=axis.transAxes)


def _f1_axis(axis: plt.Axes, metric: str) -> None:
    axis.set_ylabel(f"{METRICS[metric]} (F1 x 100)")
    axis.set_title(METRICS[metric], fontsize=7, loc="left")


def _scale(axis: plt.Axes) -> None:
    """F1 that is 0 everywhere needs a scale all the same."""
    if axis.get_ylim()[1] < 1:
        axis.set_ylim(-0.05, 1)


def _legend(figure: plt.Figure, grid: Grid, models: Iterable[str], **changed: str) -> None:
    titles, style = grid.titles("models"), models_of(grid)
    handles = [Line2D([], [], markersize=4, linewidth=1, label=titles[m], **style[m] | changed) for m in models]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=6, frameon=False, handlelength=2.5)
