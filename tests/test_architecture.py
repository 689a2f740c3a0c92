"""The house: data flow one way, systems see the border alone, ARCHITECTURE.md is current."""

import importlib.util
from pathlib import Path

from sinet.provenance import ROOT

specification = importlib.util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
architecture = importlib.util.module_from_spec(specification)
specification.loader.exec_module(architecture)


def upwards(order: tuple[str, ...]) -> list[str]:
    """Imports of a package that comes later in an order."""
    found = []
    for place, package in enumerate(order):
        for path in sorted((ROOT / "sinet" / package).rglob("*.py")):
            later = architecture.imports(path).keys() & {*order[place + 1 :]}
            found += [f"{path.relative_to(ROOT)} imports sinet.{name}" for name in later]
    return found


def test_nothing_imports_upwards():
    assert upwards(architecture.PACKAGES) == []
    assert upwards(architecture.PACKAGES[::-1]), "the test sees an import against the order"


def test_what_all_packages_share_imports_none_of_them_that_runs():
    ran = {"infer", "train", "efficiency", "report", "cli"}
    entries = {"__init__.py", "__main__.py"}
    for path in sorted((ROOT / "sinet").glob("*.py")):
        assert path.name in entries or architecture.imports(path).keys().isdisjoint(ran), path


def test_systems_import_the_border_alone():
    border = {"sinet", "encoders", "model", "baselines"}
    for path in (*(ROOT / "baselines").glob("*.py"), ROOT / "sinet" / "model" / "sinet.py"):
        assert architecture.imports(path).keys() <= border, path


def test_the_map_is_current():
    assert (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8") == architecture.architecture()
    for line in architecture.HEAD.splitlines():
        for word in line.split("`")[1::2]:
            if "/" in word and " " not in word and not word.endswith(("/", "*.py")):
                assert Path(ROOT, word).exists(), f"{word} of ARCHITECTURE.md is not there"
