"""Finding the systems: every module of `baselines/` and SINET itself, by file name.

Reading a system's settings does not import it: importing torch costs seconds, and a workflow with a hundred jobs
plans before any of them runs.
"""

import ast
import importlib
from pathlib import Path

from sinet.errors import UserError, nearest

ROOT = Path(__file__).resolve().parent.parent


def sources() -> dict[str, Path]:
    """The source file of each system by name; a file in `baselines/` that begins with `_` is none."""
    found = {"sinet": ROOT / "sinet" / "model" / "sinet.py"}
    for path in sorted((ROOT / "baselines").glob("[!_]*.py")):
        found[path.stem] = path
    return found


def module_name(system: str) -> str:
    """The dotted name of a system's module; raises `UserError` for an unknown system."""
    known = sources()
    if system not in known:
        raise UserError(f"unknown system {system!r}, {nearest(system, known)}")
    return ".".join(known[system].relative_to(ROOT).with_suffix("").parts)


def load(system: str) -> type:
    """The `System` class of a system; imports torch."""
    return importlib.import_module(module_name(system)).System


def default_settings(system: str) -> dict[str, object]:
    """The settings a system takes with their defaults, read from the source of its constructor."""
    module_name(system)
    tree = ast.parse(sources()[system].read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "System":
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    arguments = member.args
                    return {
                        a.arg: ast.literal_eval(d)
                        for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                        if d is not None
                    }
    raise UserError(f"{sources()[system]}: no class `System` with an `__init__`; see CONTRIBUTING.md")
