"""The whole chain through Snakemake: a complete run of the quick grid, and what re-runs when something changes."""

import csv
import json
import os
import random
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.provenance import ROOT
from tests.browser import chromium, in_a_browser, texts
from tests.conftest import copy_project, snakemake
from tests.tex import compile_tables, has_tex

FIGURES = {"draw_flops", "draw_results", "draw_speed"}
EVERYTHING = {
    "train",
    "predict",
    "evaluate",
    "compare",
    "count_flops",
    "time_inference",
    "attend",
    "tabulate",
} | FIGURES
CASE_STUDY = {"find_cases", "draw_attention", "measure_attention_mass", "score_in_triple_ner", "draw_attention_mass"}


def planned(folder: Path, *arguments: str) -> str:
    """What a dry run says."""
    done = snakemake(folder, "-n", *arguments)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr


def jobs(folder: Path, *arguments: str) -> set[str]:
    """Rules that a dry run would start."""
    return rules(planned(folder, *arguments))


def rules(plan: str) -> set[str]:
    return set(re.findall(r"^(?:local)?rule (\w+)", plan, re.M)) - {"all"}


def test_every_run_leaves_what_it_should(finished):
    plan = resolve(load_config(ROOT / "config" / "quick.yaml"))
    for run in plan.specs():
        folder = finished / plan.file(run.path, "")
        for name in ("model.safetensors", "predictions.jsonl", "log.csv", "record.json"):
            assert (folder / name).stat().st_size > 0
        record = json.loads((folder / "record.json").read_text())
        assert (record["model"], record["seed"], record["test_sentences"]) == (run.model, run.seed, 60)
        assert len((folder / "predictions.jsonl").read_text().splitlines()) == 60


def test_tables_hold_measured_rows(finished):
    tables = finished / "results" / "quick" / "tables"
    rows = list(csv.DictReader((tables / "main.csv").read_text().splitlines()))
    assert not any(r["source"].startswith("published") for r in rows), "the first sentences are another dataset"
    measured = {(r["system"], r["figure"]): r for r in rows if r["split"] == "test"}
    efficiency = (tables / "efficiency.md").read_text()
    for name in ("sinet", "spert", "pfn", "span-multihead", "table-sequence"):
        title = load_config()["models"][name]["title"]
        record = json.loads((finished / f"results/quick/runs/scierc/minilm/{name}/0/record.json").read_text())
        expected = record["scores"]["symmetric"]["ent"]["f1"]
        assert float(measured[title, "Ent"]["mean"]) == pytest.approx(expected, abs=1e-3)
        assert f"{title} (ours)" in efficiency
    order = re.findall(r"^\| (.+?) \(ours\)", (tables / "main.md").read_text(), re.M)
    assert order == ["SINET", "SpERT", "PFN", "SPAN Multi-Head", "Two are Better than One, no GloVe"], "as in the grid"
    assert "multiply-adds per sentence" in efficiency
    assert "not run" in (tables / "ablation.md").read_text(), "three of the five settings are not in this grid"


def test_comparisons_hold_what_the_records_say(finished):
    results = finished / "results" / "quick"
    made = json.loads((results / "comparisons.json").read_text())
    pairs = {(c["kind"], c["system"], c["other"]) for c in made["comparisons"]}
    systems = ("sinet", "spert", "pfn", "span-multihead", "table-sequence")
    assert pairs == {("system", *pair) for pair in combinations(systems, 2)} | {("ablation", "sinet", "sinet-base")}
    for c in made["comparisons"]:
        for system, values in ((c["system"], c["f1"]), (c["other"], c["other_f1"])):
            record = json.loads((results / "runs" / "scierc" / "minilm" / system / "0" / "record.json").read_text())
            assert values == [pytest.approx(record["scores"]["symmetric"][c["metric"]]["f1"])]
        assert c["p"] is c["p_holm"] is c["aso"] is None, "one seed has neither test nor order"
        assert 0 < c["bootstrap"]["p"] <= 1
    assert (len(made["comparisons"]), made["family"]) == (33, 0)


def test_figures_are_there_in_both_forms(finished):
    figures = finished / "results" / "quick" / "figures"
    assert (figures / "attention_1.pdf").read_bytes().startswith(b"%PDF")
    assert (figures / "attention_1.png").read_bytes().startswith(b"\x89PNG")
    captions = [(figures / f"attention_{number}.md").read_text() for number in (1, 2, 3)]
    assert all("| **gold** |" in c or c.startswith("n/a: no sentence meets") for c in captions)
    assert [re.search(r"rule (\S+):", c)[1] for c in captions] == ["only-right", "out-of-triple", "hard-failure"]
    assert (figures / "attention_mass.pdf").read_bytes().startswith(b"%PDF")
    for name in ("curves", "speed", "lengths", "significance"):
        assert (figures / f"scierc/minilm/{name}.pdf").read_bytes().startswith(b"%PDF")
        caption = (figures / f"scierc/minilm/{name}.md").read_text()
        assert "Runs: test split (60 sentences), symmetric types direction-free; recipe quick (2 epochs" in caption
        assert "selection dev_rel_plus" in caption and caption.rstrip().endswith("seeds 0.")
    assert (figures / "scierc/minilm/flops.png").read_bytes().startswith(b"\x89PNG")
    assert "one multiply-add = 1" in (figures / "scierc/minilm/flops.md").read_text()


def test_rebuilt_tables_and_figures_are_the_same_bytes(finished, warm):
    made = sorted(p for d in ("tables", "figures") for p in (finished / "results/quick" / d).rglob("*.*"))
    made.append(finished / "results" / "quick" / "comparisons.json")
    before = {p: p.read_bytes() for p in made}
    again = ("evaluate", "compare", "tabulate")
    drawn = ("draw_attention", "draw_attention_mass", "draw_flops", "draw_results", "draw_speed")
    done = snakemake(finished, "--forcerun", *again, *drawn, environment=warm)
    assert done.returncode == 0, done.stderr[-4000:]
    assert {p: p.read_bytes() for p in made} == before


@in_a_browser
def test_the_report_of_a_grid_renders_whole(finished, warm, tmp_path):
    # an option ends the list of configuration files
    done = snakemake(finished, "--keep-going", "report_page", environment=warm)
    assert done.returncode == 0, done.stderr[-4000:]
    report = finished / "results" / "quick" / "report.html"
    figures = sorted((finished / "results" / "quick" / "figures").rglob("*.png"))
    with chromium(report, tmp_path) as browser:
        widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
        assert len(widths) == len(figures) and min(widths) > 300
        for name in ("main", "significance", "slices"):
            column = f"#table-{name} tbody td:first-child"
            browser.find_element("css selector", f"#table-{name} th:first-child button").click()
            assert (shown := texts(browser, column)) == sorted(shown, key=str.lower) and len(shown) >= 5
        assert "SINET" in texts(browser, "#plan td:first-child") and "60 sentences" in texts(browser, "#count")[0]
        assert browser.get_log("browser") == []
        browser.save_screenshot(str(tmp_path / "report.png"))
    assert (tmp_path / "report.png").stat().st_size > 10_000


@pytest.mark.skipif(not has_tex(), reason="pdflatex with siunitx is not installed; .ci/run installs it")
def test_tex_tables_compile(finished, tmp_path):
    tables = sorted((finished / "results" / "quick" / "tables").glob("*.tex"))
    assert compile_tables(tables, tmp_path) is None
    assert len(tables) == len(list((finished / "results" / "quick" / "tables").glob("*.md"))) > 8


def test_results_are_shown_with_what_they_were_made_by(finished, warm):
    call = ["python", "-m", "sinet", "step", "results", "config/quick.yaml"]
    done = subprocess.run(call, cwd=finished, env=warm, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (finished / "results" / "README.md").read_text()
    assert "`make tables CONFIG=config/quick.yaml`, finished 20" in text and "6 runs; " in text
    shown, made = finished / "results" / "shown" / "results-quick", finished / "results" / "quick"
    for kind, ending in (("tables", "csv"), ("figures", "png")):
        files = sorted((made / kind).rglob(f"*.{ending}"))
        assert len(files) > 5
        assert all((shown / file.relative_to(made / kind)).read_bytes() == file.read_bytes() for file in files)
    pictures = re.findall(r'src="(shown/results-quick/.*?[.]png)"', text)
    assert len(pictures) == 2 and all((finished / "results" / picture).is_file() for picture in pictures)
    clock = r"times, float32: .*: 4 of 60 test sentences on .* \(cpu, \d+ threads\), at commit \S+\. Weights of"
    assert re.search(clock, text)
    assert "Efficiency" in text and yaml.safe_load((finished / "config/quick.yaml").read_text())["remark"] in text
    refused = subprocess.run([*call, "config/open.yaml"], cwd=finished, env=warm, capture_output=True, text=True)
    assert refused.returncode == 2 and "run the grid first: make tables CONFIG=config/open.yaml" in refused.stderr


def test_a_second_run_has_nothing_to_do(finished):
    assert jobs(finished) == set()


def test_copied_results_are_not_made_again(finished, tmp_path):
    """Neither beside Snakemake's notes nor alone, whatever the times that the copy gave its files."""
    whole, alone = tmp_path / "whole", copy_project(tmp_path / "alone")
    shutil.copytree(finished, whole, symlinks=True, copy_function=shutil.copyfile)
    shutil.copytree(finished / "results", alone / "results", copy_function=shutil.copyfile)
    for project in (whole, alone):
        files = sorted(path for path in (project / "results").rglob("*") if path.is_file())
        random.Random(0).shuffle(files)
        for path in files:
            path.touch()
        assert jobs(project) == set()
    (alone / "results/quick/tables/main.md").unlink()
    assert jobs(alone) == {"tabulate"}


def test_touched_files_re_run_nothing(finished):
    for pattern in ("sinet/**/*.py", "results/quick/runs/**/*", "results/quick/data/**/*", "config.yaml"):
        for path in finished.glob(pattern):
            path.touch()
    assert jobs(finished) == set()


@pytest.mark.parametrize(
    "source, old, new, rerun",
    [
        ("baselines/pfn.py", "\n\n\n", "\n\n# a comment\n\n", set()),
        ("sinet/report/attention.py", "def draw_cases(", "EDITED = 1\n\n\ndef draw_cases(", set()),
        (
            "sinet/evaluate/stats.py",
            "def holm(",
            "def holm(edited=1, /, *, ",
            {"compare", "tabulate", "draw_results", "score_in_triple_ner", "draw_attention_mass"},
        ),
        (
            "baselines/pfn.py",
            "class System(",
            "@staticmethod\nclass System(",
            EVERYTHING - {"attend"} | CASE_STUDY - {"measure_attention_mass"},
        ),
    ],
)
def test_an_edited_definition_re_runs_what_reaches_it(finished, source, old, new, rerun):
    path = finished / source
    before = path.read_text()
    try:
        assert old in before
        path.write_text(before.replace(old, new, 1))
        plan = planned(finished)
        assert rules(plan) == rerun
        trained = set(re.findall(r"^rule train:.*?model=([\w-]+)", plan, re.M | re.S))
        assert trained == ({"pfn"} if "class System" in old else set())
    finally:
        path.write_text(before)


def test_a_new_system_is_no_reason_to_train_an_old_one(finished):
    other = finished / "baselines" / "other.py"
    other.write_text((finished / "baselines" / "spert.py").read_text())
    try:
        assert jobs(finished) == set()
    finally:
        other.unlink()


def test_a_mistake_is_refused_before_any_job(finished):
    done = subprocess.run(
        ["snakemake", "--cores", "1", "--config", "resutls=x"], cwd=finished, capture_output=True, text=True
    )
    assert done.returncode != 0 and "did you mean 'results'?" in done.stderr and "Traceback" not in done.stderr


def test_paper_grid_plans_and_names_what_is_skipped(finished):
    done = subprocess.run(
        ["snakemake", "-n", "--configfile", "config/paper.yaml"], cwd=finished, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "skipped: ace05/albert-xxlarge/sinet/0" in done.stdout + done.stderr
    assert "scibert-cased" in done.stdout + done.stderr


def test_without_a_cluster_the_slurm_profile_says_so_before_anything_starts(tmp_path):
    project, tools = copy_project(tmp_path / "project"), tmp_path / "tools"
    tools.mkdir()
    folders = [str(tools), *os.environ["PATH"].split(os.pathsep)]
    for folder in [f for f in folders if (Path(f) / "sbatch").exists()]:  # all that it has but the commands of SLURM
        folders.remove(folder)
        for tool in Path(folder).iterdir():
            link = tools / tool.name
            if not (re.match(r"sbatch|sacct|scontrol|squeue|sinfo", tool.name) or link.is_symlink()):
                link.symlink_to(tool)
    done = subprocess.run(
        ["snakemake", "--cores", "all", "--profile", "slurm", "--configfile", "config/quick.yaml"],
        cwd=project,
        env=os.environ | {"PATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "there is no sbatch on this machine" in said.rstrip().splitlines()[-1]
    assert "Traceback" not in said and not (project / "results" / "quick").exists()
