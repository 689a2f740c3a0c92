"""One style for all figures, and how they are written: the same bytes from the same data."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns

COLUMN_INCHES = 3.3
"""Width of a column of a two-column paper."""


def use_style() -> None:
    """Fonts, sizes and a palette that every kind of colour vision tells apart."""
    sns.set_theme(context="paper", style="white", font_scale=0.7, palette="colorblind")
    plt.rcParams.update({"svg.hashsalt": "sinet", "pdf.fonttype": 42, "font.family": "DejaVu Sans"})


def save(figure: plt.Figure, out: Path, caption: str) -> None:
    """`out`.pdf, `out`.png and the caption as `out`.md."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out.with_suffix(".pdf"), bbox_inches="tight", metadata={"CreationDate": None, "ModDate": None})
    figure.savefig(out.with_suffix(".png"), bbox_inches="tight", dpi=300, metadata={"Software": None})
    plt.close(figure)
    out.with_suffix(".md").write_text(caption + "\n", encoding="utf-8")
