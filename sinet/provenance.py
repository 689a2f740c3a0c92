"""What a result depends on: a digest over the code that a step reaches, and over its settings and data.

Snakemake repeats a job when its params change; a rule that passes `digest("sinet.train.trainer.train_run")` is repeated
when a definition is edited that this function reaches: by name, through imports, directly or not. Comments,
docstrings and layout are no part of it, nor are definitions that are never named on the way.
"""

import ast
import functools
import gc
import hashlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("sinet", "baselines")
DECLARED = ROOT if (ROOT / "config.yaml").is_file() else ROOT / "sinet" / "declared"
"""Where `config.yaml` and `config/` lie: in the checkout, or in the installed package."""
BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")
"""Where a statement holds others."""
Definition = tuple[str, str]
"""A module and a name that it defines; "" for the statements that importing it runs."""


@functools.cache
def _source(module: str) -> Path | None:
    """The file of one of our modules."""
    path = ROOT.joinpath(*module.split("."))
    files = (path.with_suffix(".py"), path / "__init__.py") if module.split(".")[0] in OURS else ()
    return next((file for file in files if file.is_file()), None)


def _statements(block: list) -> Iterator[ast.AST]:
    """All statements of a block and of the blocks in it; docstrings, of fields as well, become `pass` there."""
    for place, statement in enumerate(block):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            if isinstance(statement.value.value, str):
                block[place] = ast.Pass()
        else:
            yield statement
            for inner in BLOCKS:
                yield from _statements(getattr(statement, inner, []))


@dataclass(frozen=True)
class _Module:
    """Top-level statements by the names that they define, and what imported names stand for."""

    statements: dict[str, list[ast.stmt]]
    imported: dict[str, str]


@functools.cache
def _module(name: str, source: Path) -> _Module:
    gc.disable()  # which would walk all trees again and again, while none of them can go
    try:
        tree = ast.parse(source.read_text(encoding="utf-8"))
    finally:
        gc.enable()
    imported: dict[str, str] = {}
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            imported |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    statements: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for defined in _defined(statement):
            statements.setdefault(defined, []).append(statement)
    return _Module(statements, imported)


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines; [""] for one that does something else."""
    if isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
        return []
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        stored = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        return stored or [""]
    return [""]


def _resolved(dotted: str) -> Iterator[Definition]:
    """What a dotted name of ours stands for: a definition, through re-imports; of a module all that it defines."""
    module, _, name = dotted.rpartition(".")
    if (source := _source(dotted)) is not None:
        yield from ((dotted, defined) for defined in _module(dotted, source).statements)
    elif (source := _source(module)) is not None:
        held = _module(module, source)
        if name in held.statements:
            yield module, name
        elif name in held.imported:
            yield from _resolved(held.imported[name])


@functools.cache
def _names(module: str, name: str) -> frozenset[Definition]:
    """The definitions of ours that one of them names."""
    source = _source(module)
    assert source is not None  # it was read before
    held = _module(module, source)
    found: set[Definition] = set()
    taken: set[int] = set()  # names of which an attribute is taken
    for node in itertools.chain.from_iterable(map(ast.walk, held.statements[name])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            target = held.imported.get(node.value.id)
            if target and _source(target):
                taken.add(id(node.value))
                found.update(_resolved(f"{target}.{node.attr}"))
        elif isinstance(node, ast.Name) and id(node) not in taken:  # its attribute was walked before it
            if node.id in held.statements:
                found.add((module, node.id))
            elif node.id in held.imported:
                found.update(_resolved(held.imported[node.id]))
    return frozenset(found)


@functools.cache
def _code(module: str, name: str) -> str:
    source = _source(module)
    assert source is not None
    return "\n".join(map(ast.unparse, _module(module, source).statements[name]))


def reached(*steps: str) -> list[Definition]:
    """The definitions that some functions or classes, each `module.name`, reach, sorted; raises `ValueError` for a step
    that is not there."""
    found: set[Definition] = set()
    for step in steps:
        if not (waiting := set(_resolved(step))):
            raise ValueError(f"{step} is no function or class of ours")
        while waiting := waiting - found:
            found |= waiting
            waiting = {each for definition in waiting for each in (*_names(*definition), *_on_import(definition[0]))}
    return sorted(found)


def _on_import(module: str) -> list[Definition]:
    """The statements that importing a module runs besides its definitions."""
    source = _source(module)
    return [(module, "")] if source is not None and "" in _module(module, source).statements else []


@functools.cache
def digest(*steps: str) -> str:
    """SHA-256 over the definitions that some functions or classes, each `module.name`, reach."""
    total = hashlib.sha256()
    for module, name in reached(*steps):
        total.update(f"{module}.{name}\0{_code(module, name)}\0".encode())
    return total.hexdigest()[:16]


def digest_of(value: object) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    plain = json.loads(json.dumps(value))  # keys that are numbers become texts, and are sorted as such
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_commit() -> str:
    """The checked-out commit, with `+` when the working tree differs from it; "unknown" outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
