"""SINET and its rivals under one data format, one trainer, one scorer and one clock."""

from pathlib import Path

__version__ = "0.1.0"


def load(folder: Path | str) -> object:
    """A trained run, ready for text: `sinet.load("results/runs/scierc/minilm/sinet/0").predict(["..."])` gives the
    sentences with entities and relations (`sinet.run.extract.Loaded`)."""
    from sinet.run.extract import Loaded  # torch takes seconds to import: only when it is needed

    return Loaded(folder)
