"""SINET and its rivals under one data format, one trainer, one scorer and one clock."""

from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"


if TYPE_CHECKING:
    from sinet.infer.extract import Predictor


def load(folder: Path | str, thresholds: float | Path | str | None = None) -> "Predictor":
    """A trained run, ready for text: `sinet.load("results/default/runs/scierc/minilm/sinet/0").predict(["..."])` gives
    the sentences with entities and relations.

    Raises:
        UserError: the folder holds no finished run, or one that cannot be read.
    """
    from sinet.infer.extract import Predictor  # torch takes seconds to import: only when it is needed

    return Predictor(folder, thresholds)
