"""What the documents say is there, and the figures they show are those of the tables."""

import re
from pathlib import Path

import pytest
import yaml

from sinet.data.sentence import parse_sentence
from sinet.provenance import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "baselines" / "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_files_exist(document: Path):
    text = document.read_text(encoding="utf-8")
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", text) + re.findall(r'src="([^"]+)"', text)
    named = re.findall(
        r"`((?:config|docs|tests|envs|workflow|sinet|baselines|slurm)/[a-z0-9_./-]+\.(?:py|yaml|md|smk|lock))`", text
    )
    absent = {name for name in linked if not (document.parent / name).exists()}
    absent |= {name for name in named if not (ROOT / name).exists()}
    assert absent == set()


def test_the_headline_figures_are_those_of_the_tables():
    readme, tables = (path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "results" / "README.md"))
    rows = re.findall(r"^\| ([\w +-]+?) \| (\d) \| (.+) \|$", readme, re.M)
    assert len(rows) == 7
    for system, _, cells in rows:
        shown = r" *\| ".join(map(re.escape, cells.split(" | ")))
        assert re.search(rf"^\| {re.escape(system)} \(ours\).*\| {shown} *\|", tables, re.M), system


def test_the_example_sentence_is_one():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("    {", 1)[1].split("\n\n", 1)[0]
    sentence = parse_sentence(yaml.safe_load("{" + lines), "README.md", "example")
    assert [(sentence.entities[r.head].type, r.type, sentence.entities[r.tail].type) for r in sentence.relations]


def test_the_citation_names_the_paper_as_the_readme_does():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert paper["title"] in readme and authors in readme and paper["url"] in readme
