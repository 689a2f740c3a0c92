"""One style for all figures, and how they are written: the same bytes from the same data."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

from sinet.markup import markdown

COLUMN_INCHES, PAGE_INCHES = 3.3, 6.9
"""Widths of a column and of the text of a two-column paper."""
GROUP_COLORS = ("#0072b2", "#d55e00", "#7f7f7f")
"""Of in-triple entities, out-of-triple entities and other words; told apart by every kind of colour vision."""
DIRECTIONS = {
    "entity": "NER [CLS] over RE projection",
    "relation": "RE [CLS] over NER projection",
    "head": "aspect [CLS] over RE projection",  # SCI-Net's, of aspects and opinions
    "head_relation": "RE [CLS] over aspect projection",
    "tail": "opinion [CLS] over RE projection",
    "tail_relation": "RE [CLS] over opinion projection",
}
"""Of cross-task attention: a task's own [CLS] over the words as projected for the other task."""
MARKERS = "osD^vPX*<>p"
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 2)), (0, (2, 2)))


def use_style() -> None:
    """Fonts, sizes and a palette that every kind of colour vision tells apart."""
    sns.set_theme(context="paper", style="white", font_scale=0.7, palette="colorblind")
    plt.rcParams.update(
        {
            "text.parse_math": False,  # a $ in a title or a word is a dollar
            "svg.hashsalt": "sinet",
            "pdf.fonttype": 42,
            "font.family": "DejaVu Sans",
            "axes.linewidth": 0.6,
        }
    )


def looks(systems: Mapping[str, str]) -> dict[str, dict]:
    """Colour, marker and dashes of each model (model -> system), the same in every figure: a colour for each of twenty
    systems, dark ones from the eleventh on, solid for its first model and dashed for its further ones, such as the
    steps of an ablation; a marker of its own for each of the first eleven models."""
    palette = [tuple(shade * c for c in color) for shade in (1, 0.55) for color in sns.color_palette("colorblind")]
    colors = {system: palette[i % len(palette)] for i, system in enumerate(dict.fromkeys(systems.values()))}
    seen: dict[str, int] = {}
    styles = {}
    for i, (model, system) in enumerate(systems.items()):
        nth = seen[system] = seen.get(system, -1) + 1
        styles[model] = {
            "color": colors[system],
            "marker": MARKERS[i % len(MARKERS)],
            "linestyle": DASHES[nth % len(DASHES)],
        }
    return styles


def absent(reason: str) -> plt.Figure:
    """A figure that says why there is none."""
    figure, axes = plt.subplots(figsize=(COLUMN_INCHES, 0.7), layout="constrained")
    axes.axis("off")
    axes.text(0.5, 0.5, f"n/a: {reason}", ha="center", va="center", wrap=True, fontsize=6, parse_math=False)
    return figure


def save(figure: plt.Figure, out: Path, caption: str, below: str = "") -> None:
    """`out`.pdf, `out`.png and the caption, a plain text, with what is Markdown `below` it as `out`.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix(".pdf"), bbox_inches="tight", metadata={"CreationDate": None, "ModDate": None})
    figure.savefig(out.with_suffix(".png"), bbox_inches="tight", dpi=300, metadata={"Software": None})
    plt.close(figure)
    out.with_suffix(".md").write_text(f"{markdown(caption)}\n{below}", encoding="utf-8")
