"""The paper's grids from beginning to end on stand-ins: every run, table, figure and page of them, in minutes.

    python -m tests.rehearsal FOLDER     (make rehearsal)     what is finished in FOLDER is not made again

`config/paper.yaml` and `config/equal.yaml` run as they stand under `tests/rehearsal.yaml`, in a fresh copy of the
project with the stand-ins as its mirror (`tests/standins.py`). Then what they made is checked, a line each.
"""

import csv
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.mirrors import DOWNLOADS, MIRRORS_VARIABLE, mirror_folders
from sinet.provenance import ROOT
from sinet.published import DATASETS as PUBLISHED_DATASETS
from sinet.published import is_system
from tests import standins
from tests.browser import CHROMIUM, DRIVER, chromium
from tests.conftest import DATASETS, copy_project
from tests.tex import compile_tables, has_tex
from tests.warm import warm_python

OVERLAY = Path(__file__).with_name("rehearsal.yaml")
GRIDS = (ROOT / "config" / "paper.yaml", ROOT / "config" / "equal.yaml")
NO_REASON = {"", "failed", "skipped", "not counted", "not timed"}
"""What no cell of a rehearsal may say: nothing is absent there, and nothing may fail."""


def main(folder: Path) -> int:
    """Rehearse both grids in a folder; gives the number of checks that failed."""
    began = time.monotonic()
    project, mirrors = prepare(folder.resolve())
    failed = 0
    with warm_python(project, folder.resolve()) as environment:
        said(began, "the project is copied, stand-ins are there, everything is imported")
        for grid in GRIDS:
            rehearse([grid, OVERLAY], project, environment | {MIRRORS_VARIABLE: mirrors})
            said(began, f"{grid.name} has run")
            for line in check([grid, OVERLAY], project, environment | {MIRRORS_VARIABLE: mirrors}):
                failed += line.startswith("FAILED")
                print(line, flush=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said(began, f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of one CPU in all; {failed or 'no'} checks failed")
    return failed


def said(began: float, what: str) -> None:
    print(f"{(time.monotonic() - began) / 60:5.1f} min: {what}", flush=True)


def prepare(folder: Path) -> tuple[Path, str]:
    """The copy of the project in a folder and the mirrors for it; what is there already stays."""
    project, made = folder / "project", folder / "mirror"
    public = [str(path.resolve()) for path in (*mirror_folders(), DOWNLOADS, DATASETS)]
    if not (made / "encoders" / "albert-xxlarge").is_dir():
        standins.make(made, public)
    if not project.is_dir():
        copy_project(project)
    return project, os.pathsep.join((str(made), *public))


def rehearse(configs: Sequence[Path], project: Path, environment: dict) -> None:
    """Run a grid and make its report as a user would; raises `CalledProcessError`."""
    for target in ([], ["report_page"]):
        call = ["snakemake", "--cores", "all", "--configfile", *map(str, configs), "--quiet", "rules", "--", *target]
        subprocess.run(call, cwd=project, env=environment, check=True)


def check(configs: Sequence[Path], project: Path, environment: dict) -> Iterator[str]:
    """What a finished grid should hold, a line each that begins with `ok`, `FAILED` or `NOT CHECKED`."""
    # the mirrors of the grid are what the rehearsal gives, here as well
    config = load_config(*configs) | {"mirrors": environment[MIRRORS_VARIABLE].split(os.pathsep)}
    results, plan = project / config["results"], resolve(config, offline=False)
    where = configs[0].name

    def line(holds: object, what: str) -> str:
        return f"{'ok' if holds else 'FAILED'} {where}: {what}"

    records = [project / path for path in plan.records()]
    yield line(all(path.is_file() for path in records), f"{len(records)} of {len(plan.runs)} runs have a record")
    yield line(not plan.skipped, f"{len(plan.skipped)} runs skipped")
    for name in ("main", "ablation", "efficiency", "published_vs_measured", "significance"):
        cells = table_cells(results / "tables" / f"{name}.md")
        words = without_figure(cells)
        bad = {word: n for word, n in words.items() if word in NO_REASON}
        yield line(cells and not bad, f"{name}: {len(cells)} cells; without a figure: {dict(words)}")
    lacking = measured_rows(config, results)
    yield line(not lacking, f"rows of main table and ablation without a measured figure: {sorted(lacking) or 'none'}")
    compared = json.loads((results / "comparisons.json").read_text())["comparisons"]
    untested = [c for c in compared if len(config["seeds"]) >= 3 and min(map(len, (c["f1"], c["other_f1"]))) < 3]
    yield line(compared, f"{len(compared)} comparisons, {len(untested)} with fewer than three runs a side")
    captions = [path.read_text() for path in sorted((results / "figures").glob("attention_[0-9]*.md"))]
    triples = config["case_study"]["triples"]
    found = drawn_triples(captions, triples)
    said = f"case study: {len(captions)} figures; golden triples drawn: {len(found)} of {len(triples)}"
    yield line(captions and found == triples, said)
    tables = sorted((results / "tables").glob("*.tex"))
    if not has_tex():
        yield f"NOT CHECKED {where}: whether {len(tables)} tables compile; there is no TeX here"
    else:
        with tempfile.TemporaryDirectory() as folder:
            wrong = compile_tables(tables, Path(folder))
        yield line(wrong is None, f"{len(tables)} tables compile" if wrong is None else wrong)
    if not (CHROMIUM and DRIVER):
        yield f"NOT CHECKED {where}: whether the report opens; there is no Chromium here"
    else:
        with tempfile.TemporaryDirectory() as folder, chromium(results / "report.html", Path(folder)) as browser:
            widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
            complaints = browser.get_log("browser")
        yield line(widths and min(widths) > 300 and not complaints, f"the report opens, {len(widths)} figures")
    call = ["snakemake", "-n", "--configfile", *map(str, configs), "--quiet", "rules", "--", "all", "report_page"]
    again = subprocess.run(call, cwd=project, env=environment, capture_output=True, text=True)
    yield line("Nothing to be done" in again.stdout + again.stderr, "a second plan is empty")


def table_cells(table: Path) -> list[str]:
    """The cells of a table's Markdown, without its header."""
    rows = [row for row in table.read_text().splitlines() if row.startswith("|")][2:]
    return [cell.strip().strip("*") for row in rows for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def drawn_triples(captions: Sequence[str], triples: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The golden triples of which a figure shows a sentence; one that shows none begins with n/a."""
    drawn = [caption for caption in captions if not caption.startswith("n/a")]
    return [triple for triple in triples if any(f"golden triple ⟨{', '.join(triple)}⟩" in c for c in drawn)]


def without_figure(cells: Sequence[str]) -> Counter:
    """The short cells that hold no figure, each without what it says in brackets (`failed (n=2 of 3)`)."""
    words = (re.sub(r" \(.*", "", cell) for cell in cells if len(cell) < 30)
    return Counter(word for word in words if not re.search(r"\d", word))


def measured_rows(config: dict, results: Path) -> set[tuple[str, ...]]:
    """Of what the plan measures those that the main table, or the ablation, has no measured figures of: table, name of
    the row, encoder, dataset."""
    wanted, there = set(), set()
    for run in resolve(config, offline=False).specs():
        model, dataset = config["models"][run.model], config["datasets"][run.dataset]
        column = PUBLISHED_DATASETS.get(dataset.get("published"), dataset["title"])
        at = config["encoders"][run.encoder_name]["title"], column
        if is_system(model):
            wanted.add(("main", model["title"], *at))
        else:
            wanted.add(("ablation", model["setting"], *at))
    for table in ("main", "ablation"):
        with open(results / "tables" / f"{table}.csv", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test" and row["mean"]]
        there |= {(table, row["system"], row["encoder"], row["dataset"]) for row in rows}
    return wanted - there


if __name__ == "__main__":
    sys.exit(bool(main(Path(sys.argv[1]))))
