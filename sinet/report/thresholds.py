"""The curve of precision and recall of a run's relations on dev, and how far its scores are probabilities."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from sinet.report.style import PAGE_INCHES, save, use_style


def draw_thresholds(
    curve: Sequence[Mapping], calibration: Sequence[Mapping], points: Mapping[str, Mapping], out: Path
) -> None:
    """Write `out`.csv (the curve), `out`.pdf, .png and .md (the figure and its caption).

    Args:
        curve, calibration: as `sinet.evaluate.thresholds` gives them.
        points: `precision`, `recall` and `f1` x 100 by what the thresholds are.
    """
    pd.DataFrame(curve).to_csv(out.with_suffix(".csv"), index=False, float_format="%.4f")
    use_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE_INCHES, 2.4), layout="constrained")
    left.plot([p["recall"] for p in curve], [p["precision"] for p in curve], linewidth=1, label="one for all types")
    for (name, point), marker in zip(points.items(), "osD", strict=False):
        left.plot(point["recall"], point["precision"], marker, markersize=4, label=f"{name}: F1 {point['f1']:.2f}")
    left.set(xlabel="recall x 100", ylabel="precision x 100", xlim=(0, 101), ylim=(0, 101))
    left.legend(fontsize=6, frameon=False)
    right.plot([0, 1], [0, 1], linewidth=0.6, color="grey")
    right.plot([b["score"] for b in calibration], [b["right"] for b in calibration], "o-", markersize=3.5, linewidth=1)
    right.set(xlabel="mean score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    for axis, title in ((left, "Precision and recall, Rel+"), (right, "Calibration")):
        axis.grid(linewidth=0.3)
        axis.set_title(title, fontsize=7, loc="left")
    caption = (
        "Relations of the dev split between predicted entities, strict (Rel+), symmetric types direction-free. "
        "Left: precision and recall at one threshold for all types from 0.01 to 0.99, and at the thresholds named. "
        "Right: candidates by tenths of their score, the share of right ones against their mean score; on the diagonal "
        "scores are probabilities."
    )
    save(figure, out, caption)
