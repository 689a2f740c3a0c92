"""The figure of multiply-adds against sentence length."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from sinet.files import read_sealed
from sinet.paper.runs import Runs
from sinet.paper.style import COLUMN_INCHES, looks, save, use_style


def draw_flops(flops: Path, records: Sequence[Path], models: Mapping[str, dict], what: str, out: Path) -> None:
    """Draw total and head multiply-adds of every system of a `flops.json` by number of words.

    Args:
        records: of the runs that were counted. models: all declared models with `title` and `system`. what: dataset
            and encoder, for the caption. out: path without its ending.
    """
    everything = read_sealed(flops)["systems"]
    counted = {name: figures for name, figures in everything.items() if "not_counted" not in figures}
    use_style()
    style = looks({model: declared["system"] for model, declared in models.items()})
    lines = {models[name]["title"]: (f["ours"]["by_words"], style[name]) for name, f in counted.items()}
    figure, axes = plt.subplots(1, 2, figsize=(COLUMN_INCHES * 2, 2.3), layout="constrained", sharex=True)
    for axis, part, label in ((axes[0], "total", "Whole system"), (axes[1], "heads", "Without the encoder")):
        for title, (by_words, look) in lines.items():
            words = sorted(map(int, by_words))
            axis.plot(
                words,
                [by_words[str(n)][part] / 1e6 for n in words],
                markersize=3.5,
                linewidth=1,
                label=title,
                **look,
            )
        if not any(by_words for by_words, _ in lines.values()):
            why = "too few test words for one sentence" if counted else "not counted"
            axis.text(0.5, 0.5, f"n/a: {why}", ha="center", va="center", fontsize=6)
            continue
        axis.set(xscale="log", yscale="log", xlabel="words", ylabel="FLOPs (M)")
        axis.set_title(label, fontsize=7, loc="left")
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.minorticks_off()
        axis.set_xticks(words, map(str, words))
        axis.grid(linewidth=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=6, frameon=False)
    each = sorted({figures["sentences"] for by_words, _ in lines.values() for figures in by_words.values()})
    each = " to ".join(map(str, dict.fromkeys((each[0], each[-1])))) if each else "no"
    caption = (
        f"Millions of FLOPs (one multiply-add = 1, fvcore) of one sentence by its number of words, {what}: {each} "
        f"sentence{'s' * (each != '1')} of each length, consecutive test sentences laid end to end; both axes "
        "logarithmic. In our form. Left the whole system, right what it adds to the encoder. Runs: "
        f"{Runs(records, models).measured_on()}."
    )
    if lost := [models[name]["title"] for name in everything if name not in counted]:
        caption += f" Not counted, for the reasons under the table of efficiency: {', '.join(lost)}."
    save(figure, out, caption)
