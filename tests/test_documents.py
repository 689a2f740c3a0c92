"""What the documents say is there, and the figures they show are those of the tables."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sinet.cli import build_parser, main
from sinet.data.sentence import parse_sentence
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.provenance import ROOT
from sinet.report.table import tidy_line
from tests.conftest import SOURCES, command_parsers

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "baselines" / "README.md"]
OWN_DATA, HOW_TO = (ROOT / "docs" / name for name in ("own-data.md", "how-to.md"))
CHEAP = ("check", "plan", "step", "search")


def commands(document: Path) -> list[list[str]]:
    """The words of each line of a document's code blocks that calls sinet or make."""
    lines = re.findall(r"^(?: {4})?((?:python -m )?sinet .+|make .+)$", document.read_text(encoding="utf-8"), re.M)
    return [shlex.split(line.removeprefix("python -m "), comments=True) for line in lines]


def titled_blocks(document: Path) -> dict[str, str]:
    """The code blocks of a document that are files, by their title."""
    text = document.read_text(encoding="utf-8")
    return dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.M | re.S))


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
    rows = [
        (system, cells.split(" | ")) for system, cells in re.findall(r"^\| ([\w +,=-]+?) \| (\S.+) \|$", readme, re.M)
    ]
    (_, head), *rows = [(system, cells) for system, cells in rows if len(cells) == 8]
    assert head == ["SciERC Ent", "Rel", "Rel+", "dev Rel+", "CoNLL04 Ent", "Rel", "Rel+", "dev Rel+"]
    assert len(rows) == 9
    shown = re.split(r"^### (.+)$", tables, flags=re.M)
    for dataset, text in zip(shown[1::2], shown[2::2], strict=True):
        of_systems, _, _ = text.partition("SINET's ablation")
        for system, cells in rows:
            figures = cells[:4] if dataset == "SciERC" else cells[4:]
            cells_of = r" *\| ".join(map(re.escape, figures))
            in_main = rf"^\| {re.escape(system)} +\| MiniLM +\| 3 +\| {cells_of} *\|"
            in_ablation = rf"^\| {re.escape(system)} +\| {dataset}, MiniLM +\| 3 +\| {cells_of} *\|"
            there = re.search(in_main, of_systems, re.M) or re.search(in_ablation, tables, re.M)
            assert bool(there) == (figures != ["not run"] * 4), (dataset, system)
            assert there or not re.search(rf"^\| {re.escape(system)} +\|", of_systems, re.M), "measured, and not shown"
    said = " ".join(readme.split())
    tested, found = map(int, re.search(r"Of (\d+) comparisons (\d+) are significant", said).groups())
    counts = re.findall(r"Significant \(Holm over the grid, 0\.05\): (\d+) of (\d+) tested comparisons", tables)
    assert (found, tested) == tuple(sum(map(int, each)) for each in zip(*counts, strict=True))
    with open(ROOT / "results/shown/results-grid/significance.csv", newline="", encoding="utf-8") as file:
        pairs = [row for row in csv.DictReader(file) if row["p_holm"]]
    significant = [row for row in pairs if float(row["p_holm"]) < 0.05]
    assert "each of DyGIE++ below SINET, SpERT or SPAN on SciERC" in said and len(significant) == found
    assert {(row["dataset"], row["other"]) for row in significant} == {("SciERC", "DyGIE++")}
    assert {row["system"] for row in significant} == {"SINET", "SpERT", "SPAN Multi-Head"}
    assert all(float(row["difference"]) > 0 for row in significant)
    reach = [float(row["detectable"]) for row in pairs if row["figure"] == "Rel+"]
    assert f"differences below {min(reach):.1f} to {max(reach):.1f} Rel+ would have been missed" in said
    with open(ROOT / "config" / "search" / "trials.csv", newline="", encoding="utf-8") as file:
        trials = list(csv.DictReader(file))
    named = ("sinet", "spert", "span-multihead", "pfn", "dygiepp")
    trials = [row for row in trials if row["dataset"] == "scierc" and row["model"] in named]
    low = [row["model"] for row in trials if float(row["dev_rel_plus"]) < 5]
    assert "five of PFN's six trials stay below 5 Rel+ on dev" in said and low == ["pfn"] * 5
    steps = {row["model"]: json.loads(row["drawn"])["steps"] for row in trials if row["chosen"]}
    longest = max(json.loads(row["drawn"])["steps"] for row in trials)
    assert "of at most 1,750 steps" in said and longest == 1750
    assert [model for model in steps if steps[model] < longest] == ["sinet"], "all but SINET chose the longest"


def test_the_example_sentence_is_one():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").split("    {", 1)[1].split("\n\n", 1)[0]
    sentence = parse_sentence(yaml.safe_load("{" + lines), "README.md", "example")
    assert [(sentence.entities[r.head].type, r.type, sentence.entities[r.tail].type) for r in sentence.relations]


def test_the_citation_names_the_paper_as_the_readme_does():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert paper["title"] in readme and authors in readme and paper["url"] in readme


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_exist(document: Path):
    parser = build_parser()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for program, *arguments in commands(document):
        if program == "make":
            assert arguments[0] in targets
        else:
            parser.parse_args(arguments)  # SystemExit, which fails the test, where it is not understood
    in_text = re.findall(r"`(?:python -m )?(sinet|make)\s+([^`]+)`", document.read_text(encoding="utf-8"))
    for program, (name, *rest) in [(program, text.split()) for program, text in in_text]:
        if program == "make":
            assert name in targets
        else:
            known = command_parsers()[f"step {rest[0]}" if name == "step" else name]._option_string_actions
            assert {word for word in rest if word.startswith("--")} <= known.keys(), name


def test_the_pages_can_be_followed(tmp_path, monkeypatch, capsys):
    """The files of both pages written where they say, then every cheap command and the preparing by the workflow."""
    monkeypatch.delenv("SINET_MIRRORS", raising=False)
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for name, text in (titled_blocks(OWN_DATA) | titled_blocks(HOW_TO)).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    train = Path("data/mirror/mine/train.jsonl")
    for split in ("dev", "test"):
        train.with_stem(split).write_text(train.read_text().replace("Paris", f"the-{split}-city"))
    sent = Path("predictions/gpt.jsonl")
    sent.write_text(sent.read_text().replace("Paris.", "the-test-city").replace("Paris", "the-test-city"))
    followed = [c[1:] for page in (OWN_DATA, HOW_TO) for c in commands(page) if c[1] in CHEAP and "--cost" not in c]
    assert {name for name, *_ in followed} == set(CHEAP)
    for arguments in followed:
        given = [str(path) for a in arguments for path in (sorted(tmp_path.glob(a)) if "*" in a else [a])]
        assert main(given) == 0, arguments
    printed = capsys.readouterr().out
    assert "no faults" in printed and "encoder_lr: 3.0e-05" in printed
    assert '{"run": "mine/minilm/gpt/0", "predictions": "predictions/gpt.jsonl"}' in printed
    planned = json.loads(Path("results/one/plan.json").read_text())["runs"]
    shown = resolve(load_config("mine.yaml") | {"published": "rows.yaml"}).declared["published"]
    assert shown[0]["figures"] == {"mine": {"ent": 91.2, "rel": None, "rel_strict": 60.5}}
    assert {run.split("/")[2] for run in planned} == {"sinet", "spert"}
    trials = resolve(load_config("mine.yaml", "results/search/grid.yaml")).runs
    assert len(trials) == 12 and "mine/minilm/spert.trial-5/0" in trials

    target = Path("results/mine/data/mine/card.json")
    step = ("snakemake", "--cores", "1", "--configfile", "mine.yaml", "--", str(target.with_name("train.jsonl")))
    done = subprocess.run(step, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(target.read_text())["splits"]["test"]["relations"] == {"lives-in": 1}

    lines = [
        tidy_line("measured", system, "MiniLM", "Mine", figure, values, [0, 1], "short", split)
        for split, values in (("test", [60.0, 61.0]), ("dev", [70.0, 71.0]))
        for system in ("SINET", "SpERT", "PFN")
        for figure in ("Ent", "Rel", "Rel+")
    ]
    Path("results/mine/tables").mkdir()
    pd.DataFrame(lines).to_csv("results/mine/tables/main.csv", index=False)
    chosen = subprocess.run([sys.executable, "choose.py"], capture_output=True, text=True, check=True).stdout
    assert "SINET & 60.50 & 60.50" in chosen and "PFN" not in chosen


def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path):
    build = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path))
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    for name, page in pages.items():
        assert re.findall(r'(?:src="|<link[^>]+href=")https?:', page) == [], name
    for key in load_config():
        assert f"<code>{key}</code>" in pages["docs/configuration.html"]
    assert "ready for text" in pages["docs/api.html"]
