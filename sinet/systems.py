"""Finding the systems: every module of `baselines/` and SINET itself, by file name.

Reading a system's settings does not import it: importing torch costs seconds, and a workflow with a hundred jobs
plans before any of them runs.
"""

import ast
import functools
import importlib
from pathlib import Path

from sinet.errors import UserError, nearest
from sinet.provenance import ROOT


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


def entry(system: str) -> str:
    """The dotted name of a system's class, from which its code is reached."""
    return f"{module_name(system)}.System"


def load(system: str) -> type:
    """The `System` class of a system; imports torch."""
    return importlib.import_module(module_name(system)).System


def default_settings(system: str) -> dict[str, object]:
    """The settings a system takes with their defaults, read from the source of its constructor."""
    for member in _class_body(system):
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            keywords = zip(member.args.kwonlyargs, member.args.kw_defaults, strict=True)
            return {argument.arg: ast.literal_eval(default) for argument, default in keywords if default is not None}
    raise UserError(f"{sources()[system]}: class `System` has no `__init__`; see CONTRIBUTING.md")


def valid_settings(system: str) -> dict[str, tuple]:
    """`Extractor.valid_settings` of a system."""
    return _literal(system, "valid_settings", {})


def part_names(system: str) -> tuple[str, ...]:
    """The parts of a system that a recipe may train one after another (`Extractor.parts`); none of one."""
    return tuple(_literal(system, "parts", ()))


def judged_by(system: str) -> dict[str, str]:
    """`Extractor.judged_by` of a system."""
    return _literal(system, "judged_by", {})


def with_one_type(what: str) -> list[str]:
    """The systems that predict one type alone of a `span` or a `pair` (`Extractor.one_type`)."""
    return [system for system in sources() if what in _literal(system, "one_type", ("span",))]


def trains_encoder(system: str) -> bool:
    """`Extractor.trains_encoder` of a system."""
    return _literal(system, "trains_encoder", True)


def _literal(system: str, name: str, default: object) -> object:
    """A class attribute of a system that is a literal, read from its source."""
    for member in _class_body(system):
        if isinstance(member, ast.AnnAssign) and getattr(member.target, "id", None) == name:
            return ast.literal_eval(member.value)
    return default


@functools.cache
def _class_body(system: str) -> list[ast.stmt]:
    module_name(system)
    for node in ast.parse(sources()[system].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "System":
            return node.body
    raise UserError(f"{sources()[system]}: no class `System`; see CONTRIBUTING.md")
