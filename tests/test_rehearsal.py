"""A part of the rehearsal (`tests/rehearsal.py`): the paper's grid on stand-ins with one seed and one fold of ACE04."""

import yaml

from sinet.mirrors import MIRRORS_VARIABLE
from sinet.provenance import ROOT
from tests import rehearsal


def test_every_cell_of_the_papers_tables_is_filled(tmp_path, warm):
    paper = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    for block in paper["grid"]:
        block["datasets"] = [name.replace("ace04", "ace04-0") for name in block["datasets"]]
    part = tmp_path / "part.yaml"
    part.write_text(yaml.safe_dump({"grid": paper["grid"], "seeds": [0]}))
    grid = [rehearsal.GRIDS[0], rehearsal.OVERLAY, part]
    project, mirrors = rehearsal.prepare(tmp_path)
    environment = warm | {MIRRORS_VARIABLE: mirrors}
    rehearsal.rehearse(grid, project, environment)
    lines = list(rehearsal.check(grid, project, environment))
    print("\n".join(lines))
    assert [line for line in lines if line.startswith("FAILED")] == []


def test_a_cell_that_failed_is_seen_whatever_it_counts():
    cells = ["failed (n=2 of 3)", "skipped", "0.12 ± 0.01", "(0.50)", "not run", "SciBERT (uncased)"]
    found = rehearsal.without_figure(cells)
    assert found == {"failed": 1, "skipped": 1, "not run": 1, "SciBERT": 1}
    assert found.keys() & rehearsal.NO_REASON == {"failed", "skipped"}


def test_a_figure_that_says_why_it_is_empty_shows_no_golden_triple():
    triples = [["his", "PER-SOC", "buddies"], ["Virginia", "PART-WHOLE", "schools"]]
    captions = [
        "n/a: no sentence holds the golden triple ⟨his, PER-SOC, buddies⟩ (searched: ACE05; test, dev, train).",
        "Cross-task attention (the first sentence that holds the golden triple ⟨Virginia, PART-WHOLE, schools⟩).",
    ]
    assert rehearsal.drawn_triples(captions, triples) == triples[1:]
