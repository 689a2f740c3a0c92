"""What a result depends on: a digest over the sources that a step really imports, and over its settings and data.

Snakemake re-runs a job when its params change; a rule that passes `digest("sinet.run.train", ...)` is repeated when
one of those sources (or anything of ours they import) is edited, and not when another file is.
"""

import ast
import functools
import hashlib
import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("sinet", "baselines")


def _source(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def _imports(module: str) -> frozenset[str]:
    """Our modules that a module imports anywhere in its source, itself included."""
    found = {module}
    for node in ast.walk(ast.parse(_source(module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found.update(n for n in names if n.split(".")[0] in OURS and _source(n))
    return frozenset(found)


def closure(*modules: str) -> list[str]:
    """All our modules that `modules` import, directly or not, sorted by name."""
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(_imports(module) - found)
    return sorted(found)


@functools.cache
def digest(*modules: str) -> str:
    """SHA-256 over the sources of `modules` and of everything of ours that they import."""
    total = hashlib.sha256()
    for module in closure(*modules):
        total.update(module.encode() + b"\0" + _source(module).read_bytes() + b"\0")
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
