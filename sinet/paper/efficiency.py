"""The figure of multiply-adds against sentence length."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

from sinet.paper.style import COLUMN_INCHES, save, use_style

MARKERS = "osD^vPX*<>"


def draw_flops(flops: Path, titles: dict[str, str], what: str, out: Path) -> None:
    """Draw total and head multiply-adds of every system of a `flops.json` by number of words.

    Args:
        titles: by model name. what: dataset and encoder, for the caption. out: path without its ending.
    """
    counted = json.loads(flops.read_text(encoding="utf-8"))["systems"]
    lines = {}
    for name, figures in counted.items():
        lines[titles[name]] = figures["by_words"]
        for formulation, other in figures["formulations"].items():
            lines[f"{titles[name]}, {formulation}"] = other["by_words"]
    use_style()
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN_INCHES * 2, 2.3), layout="constrained", sharex=True)
    for axis, part, label in ((axes[0], "total", "Whole system"), (axes[1], "heads", "Without the encoder")):
        for number, (title, by_words) in enumerate(lines.items()):
            words = sorted(map(int, by_words))
            axis.plot(
                words,
                [by_words[str(n)][part] / 1e6 for n in words],
                marker=MARKERS[number % len(MARKERS)],
                markersize=3.5,
                linewidth=1,
                linestyle="--" if "," in title else "-",
                label=title,
            )
        axis.set(xscale="log", yscale="log", xlabel="words", ylabel="FLOPs (M)")
        axis.set_title(label, fontsize=7, loc="left")
        axis.minorticks_off()
        axis.set_xticks(words, map(str, words))
        axis.grid(linewidth=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=6, frameon=False)
    each = next(iter(next(iter(lines.values())).values()))["sentences"]
    caption = (
        f"Millions of FLOPs (one multiply-add = 1, fvcore) of one sentence by its number of words, {what}: {each} "
        "sentences of each length, consecutive test sentences laid end to end; both axes logarithmic. Left the whole "
        "system, right what it adds to the encoder."
    )
    save(figure, out, caption)
