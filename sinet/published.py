"""What the published tables hold, by name: what a configuration may refer to."""

import copy
import functools
from pathlib import Path

import yaml

from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.mistakes import validated
from sinet.provenance import ROOT
from sinet.schema import PublishedRows

DATASETS = {"ace04": "ACE04", "ace05": "ACE05", "scierc": "SciERC"}
"""Columns of the published tables and their titles."""
EFFICIENCY_ENCODERS = {"scierc": "SciB", "ace05": "ALB"}
"""The encoder of the published efficiency table on each of its datasets."""

FULL, BASE = "Base+TAP+CTAM", "Base"
"""Two settings of the published ablation."""


def tables() -> dict:
    """The published figures (`sinet/report/published.yaml`), a copy."""
    return copy.deepcopy(_read())


@functools.cache
def _read() -> dict:
    path = ROOT / "sinet" / "report" / "published.yaml"
    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)


def own_rows(path: Path) -> list[dict]:
    """The rows in a file of one's own: `{system, cite, encoder, figures: {dataset: {ent, rel, rel_strict}}}`.

    Raises:
        UserError: a file that cannot be read, or is not of the form of `main` in `published.yaml`.
    """
    said = read_yaml(path)
    rows = said.get("main") if isinstance(said, dict) else None
    if isinstance(rows, list):
        said = said | {"main": [_with_figures(row) if isinstance(row, dict) else row for row in rows]}
    return [row.declared() for row in validated(PublishedRows, said, where=f"{path}: ").main]


def _with_figures(row: dict) -> dict:
    described = {key: value for key, value in row.items() if key in ("system", "cite", "encoder")}
    return described | {"figures": {key: value for key, value in row.items() if key not in described}}


def remark_on(table: str) -> str:
    """What is to be said of a published table."""
    return tables()["remarks"][table]


def is_system(declared: dict) -> bool:
    """Whether a declared model is a system by itself, not a step of the ablation."""
    return "published" in declared or "setting" not in declared
