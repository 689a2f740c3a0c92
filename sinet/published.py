"""What the published tables hold, by name: what a configuration may refer to."""

import copy
import functools

import yaml

from sinet.provenance import ROOT

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
    return yaml.safe_load((ROOT / "sinet" / "report" / "published.yaml").read_text(encoding="utf-8"))


def remark_on(table: str) -> str:
    """What is to be said of a published table."""
    return tables()["remarks"][table]


def is_system(declared: dict) -> bool:
    """Whether a declared model is a system by itself, not a step of the ablation."""
    return "published" in declared or "setting" not in declared
