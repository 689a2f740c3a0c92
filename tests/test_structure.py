"""Data flow one way: who imports whom, read from the sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("data", "model", "score", "run", "paper")
COMMON = {
    "captions",
    "config",
    "contract",
    "copied",
    "errors",
    "files",
    "markup",
    "mirrors",
    "plan",
    "provenance",
    "published",
    "recipes",
    "systems",
}
FOR_BASELINES = {"contract", "model"}


def imported(path: Path) -> set[str]:
    """Parts of `sinet`, and `baselines`, that a module imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = {tuple(name.split(".")[:2]) for name in names if name.split(".")[0] in ("sinet", "baselines")}
    return {second if first == "sinet" else first for first, second in ours}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_what_is_below_it(layer):
    below = {*COMMON, *LAYERS[: LAYERS.index(layer) + 1]}
    modules = sorted((ROOT / "sinet" / layer).glob("*.py"))
    assert len(modules) > 3
    assert {m.name: above for m in modules if (above := imported(m) - below)} == {}


def test_baselines_know_the_border_and_the_models_only():
    modules = sorted((ROOT / "baselines").glob("*.py"))
    assert len(modules) > 6
    assert {m.name: above for m in modules if (above := imported(m) - FOR_BASELINES - {"baselines"})} == {}


def test_what_all_layers_share_imports_no_layer():
    for name in sorted(COMMON - {"contract", "config"}):
        assert imported(ROOT / "sinet" / f"{name}.py").isdisjoint(LAYERS), name
