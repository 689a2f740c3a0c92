"""Finding the systems by what `baselines/settings.py` declares.

Reading a system's settings does not import it: importing torch costs seconds, and a workflow with a hundred jobs
plans before any of them runs.
"""

import importlib

from sinet.errors import UserError, nearest
from sinet.model.settings import Settings


def sources() -> dict[str, str]:
    """The module of each system by name."""
    return {name: "sinet.model.sinet" if name == "sinet" else f"baselines.{name}" for name in _declared()}


def module_name(system: str) -> str:
    """The dotted name of a system's module; raises `UserError` for an unknown system."""
    known = sources()
    if system not in known:
        raise UserError(f"unknown system {system!r}, {nearest(system, known)}")
    return known[system]


def entry(system: str) -> str:
    """The dotted name of a system's class, from which its code is reached."""
    return f"{module_name(system)}.System"


def load(system: str) -> type:
    """The `System` class of a system; imports torch."""
    return importlib.import_module(module_name(system)).System


def settings(system: str) -> type[Settings]:
    """The declared settings of a known system."""
    return _declared()[system]


def _declared() -> dict[str, type[Settings]]:
    # imported by its name, so that the settings of one system are no part of another's code (`sinet.provenance`)
    return importlib.import_module("baselines.settings").SETTINGS
