"""Runs archived without weights: what they hold, and a grid whose tables are made of nothing else."""

import gzip
import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sinet.archive import EFFICIENCY, archive, unarchive, with_archived
from sinet.captions import short_commit
from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed, write_sum
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from tests.conftest import copy_project, snakemake
from tests.test_workflow import jobs


@pytest.fixture
def plan(tmp_path):
    config = load_config()
    config["grid"] = [config["grid"][0] | {"models": ["sinet", "spert"]}]
    config |= {"results": str(tmp_path / "results"), "archive": str(tmp_path / "archive")}
    return resolve(config)


@pytest.fixture
def results(plan, tmp_path):
    """A results folder in which the first run is finished and the second was killed after its training."""
    for run, done in zip(plan.runs, (True, False), strict=True):
        folder = plan.file(run, "")
        folder.mkdir(parents=True)
        training = {"run": plan.spec(run).model_dump(), "seconds": {"train": 1.5}}
        write_sealed(folder / "training.json", training)
        for name in ("log.csv", "model.safetensors", *["predictions.jsonl"] * done):
            (folder / name).write_text(f"{name} of {run}\n")
            write_sum(folder / name)
        if done:
            write_sealed(folder / "record.json", {"seconds": {"train": 1.5}, "scores": {}})
    return tmp_path / "results"


FIRST = "scierc/minilm/sinet/0"


def test_a_finished_run_is_archived_without_its_weights_and_comes_back_the_same(plan, results, tmp_path):
    assert archive(plan, tmp_path / "archive") == [FIRST]
    kept = tmp_path / "archive" / FIRST
    first = {path.name: path.read_bytes() for path in kept.iterdir()}
    sums = ["log.csv.sha256", "predictions.jsonl.sha256"]
    assert sorted(first) == sorted(["log.csv", "predictions.jsonl.gz", "training.json", *sums])
    archive(plan, tmp_path / "archive")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == first, "the same run gives the same bytes"

    names = ("training.json", "log.csv", "predictions.jsonl")
    unarchive(kept, names, tmp_path / "back")
    for name in (*names, *sums):
        assert (tmp_path / "back" / name).read_bytes() == (results / "runs" / FIRST / name).read_bytes()


@pytest.mark.parametrize(
    "stale",
    [
        {"seconds": {"train": 1.7}},  # trained again; its predictions and their record are the old ones
        {"run": {"recipe": "another"}},
        None,  # a training that began again and failed
    ],
)
def test_what_an_unfinished_training_left_lying_is_not_archived(plan, results, tmp_path, stale):
    archive(plan, tmp_path / "archive")
    before = {path.name: path.read_bytes() for path in (tmp_path / "archive" / FIRST).iterdir()}
    training = results / "runs" / FIRST / "training.json"
    if stale is None:
        training.unlink()
    else:
        write_sealed(training, read_sealed(training) | stale)
    with pytest.raises(UserError, match=r"runs: none of the 2 runs is finished; run the grid first"):
        archive(plan, tmp_path / "archive")
    assert {path.name: path.read_bytes() for path in (tmp_path / "archive" / FIRST).iterdir()} == before


def test_attention_is_archived_only_of_the_same_training(plan, results, tmp_path):
    attention, training = (results / "runs" / FIRST / name for name in ("attention.json", "training.json"))
    attention.write_text("{}")
    archive(plan, tmp_path / "archive")
    assert (tmp_path / "archive" / FIRST / "attention.json.gz").is_file()
    os.utime(attention, (1, training.stat().st_mtime - 1))
    archive(plan, tmp_path / "archive")
    assert not (tmp_path / "archive" / FIRST / "attention.json.gz").exists()


def test_damage_is_said(plan, results, tmp_path):
    archive(plan, tmp_path / "archive")
    kept = tmp_path / "archive" / FIRST
    whole = (kept / "predictions.jsonl.gz").read_bytes()
    flipped = bytes(byte ^ (255 if 10 <= i < 20 else 0) for i, byte in enumerate(whole))
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:-6] + bytes(6), flipped):
        (kept / "predictions.jsonl.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"predictions.jsonl.gz is damaged \(.+\); take it from the repository"):
            unarchive(kept, ["predictions.jsonl"], tmp_path / "back")
    assert not (tmp_path / "back" / "predictions.jsonl").exists()
    (kept / "predictions.jsonl.gz").write_bytes(gzip.compress(b"whole, and of another run\n"))
    with pytest.raises(UserError, match=r"predictions.jsonl: changed since it was made"):
        unarchive(kept, ["predictions.jsonl"], tmp_path / "back")
    for text, said in (("{", "broken JSON"), ((kept / "training.json").read_text().replace("1.5", "1.4"), "changed")):
        (kept / "training.json").write_text(text)
        with pytest.raises(UserError, match=f"training.json: {said}"):
            with_archived(replace(plan, results=tmp_path / "new"))


def test_only_a_run_that_is_whole_and_has_the_same_settings_is_taken(plan, results, tmp_path):
    archive(plan, tmp_path / "archive")
    kept = tmp_path / "archive" / FIRST

    def found(studied: bool = False, there: Path = tmp_path / "new") -> tuple[list[str], list[str]]:
        case = plan.config.case_study if studied else None
        made, refused = with_archived(
            replace(plan, results=there, config=plan.config.model_copy(update={"case_study": case}))
        )
        return made.archived, refused

    assert found() == ([FIRST], [])
    assert found(there=results) == ([], []), "where the weights are, nothing is taken"
    lacks = f"{kept}: archived without {{}}, which this grid needs; it is trained anew"
    assert found(studied=True)[1] == [lacks.format("attention.json.gz")]
    (kept / "log.csv").unlink()
    assert found() == ([], [lacks.format("log.csv")])
    changed = read_sealed(kept / "training.json")
    changed["run"]["recipe"]["steps"] += 1
    write_sealed(kept / "training.json", changed)
    assert found() == ([], [f"{kept}: archived under other settings than the configuration's; it is trained anew"])


def finish(plan, run: str, seconds: float) -> None:
    """Make a run as if it had been trained in so many seconds, predicted and scored."""
    write_sealed(plan.file(run, "training.json"), {"run": plan.spec(run).model_dump(), "seconds": {"train": seconds}})
    write_sealed(plan.file(run, "record.json"), {"seconds": {"train": seconds}, "scores": {}})
    plan.file(run, "predictions.jsonl").write_text("{}\n")
    write_sum(plan.file(run, "predictions.jsonl"))


def test_counts_and_times_are_archived_with_the_trainings_they_are_of(plan, results, tmp_path):
    source, kept = (tmp_path / name / "efficiency/scierc/minilm" for name in ("results", "archive"))
    source.mkdir(parents=True)
    place, (_, second) = ("scierc", "minilm"), plan.runs

    def measure() -> None:
        for name, keys in EFFICIENCY.items():
            write_sealed(source / name, plan.asked(*place, keys) | {"systems": name})

    def found(plan=plan) -> tuple[list, list[str]]:
        without = plan.config.model_copy(update={"case_study": None})
        made, refused = with_archived(replace(plan, results=tmp_path / "new", config=without))
        of_archived = [tuple(of) for of in made.archived_places]
        assert made.measured == (of_archived if made.archived else [place]), "here, where none is archived"
        return made.archived_places, refused

    measure()
    archive(plan, tmp_path / "archive")
    assert not kept.exists() and found() == ([], []), "one of its systems is not finished"
    finish(plan, second, 1.5)
    archive(plan, tmp_path / "archive")
    assert found() == ([[*place]], [])
    unarchive(kept, [*EFFICIENCY], tmp_path / "back")
    assert all((tmp_path / "back" / name).read_bytes() == (source / name).read_bytes() for name in EFFICIENCY)

    for name, keys in EFFICIENCY.items():
        asked = plan.asked(*place, keys)
        write_sealed(
            kept / name, asked | {"trainings": {m: of for m, of in asked["trainings"].items() if m != "spert"}}
        )
    assert found() == ([], [f"{kept}: archived without spert; efficiency is skipped there"])
    archive(plan, tmp_path / "archive")

    said = f"{kept}: archived of other trainings, or under other settings than the configuration's; efficiency is "
    for key, value in (("counted_sentences", 7), ("timed_seconds", 3.0)):
        other = plan.config.efficiency.model_copy(update={key: value})
        changed = replace(plan, config=plan.config.model_copy(update={"efficiency": other}))
        assert found(changed) == ([], [f"{said}skipped there"])
        archive(changed, tmp_path / key)
        there = sorted(path.name for path in (tmp_path / key / "efficiency").rglob("*.json"))
        assert there == [name for name, keys in EFFICIENCY.items() if key not in keys], (
            "measured under the old settings"
        )

    finish(plan, second, 1.7)
    archive(plan, tmp_path / "archive")
    assert found() == ([], [f"{said}skipped there"]), "trained anew, and not measured since"
    measure()
    archive(plan, tmp_path / "archive")
    assert found() == ([[*place]], [])
    (tmp_path / "archive" / second / "training.json").rename(tmp_path / "training.json")
    together = "systems are measured together, spert is trained here, and archived runs lack weights"
    assert found() == ([], [f"{kept}: {together}; efficiency is skipped there"])
    (tmp_path / "training.json").rename(tmp_path / "archive" / second / "training.json")
    (kept / "timing.json").unlink()
    assert found() == ([], [])


def test_archived_runs_make_the_tables_of_their_grid(finished, tmp_path, warm):
    project = copy_project(tmp_path / "project")
    kept = project / "results" / "archive"
    call = ["python", "-m", "sinet", "step", "archive", "config/quick.yaml", "--out", str(kept)]
    said = subprocess.run(call, cwd=finished, env=warm, capture_output=True, text=True, check=True).stdout
    assert said == f"config/quick.yaml: 6 of 6 runs archived in {kept}/\n"

    done = snakemake(project, "--config", "archive=results/archive", environment=warm)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "archived in results/archive, and not trained: 6 of 6 runs" in done.stderr and "unarchive" in done.stderr
    for rule in ("train", "predict", "attend", "count_flops", "time_inference"):
        assert f"rule {rule}:" not in done.stderr
    ours, theirs = (folder / "results" / "quick" for folder in (project, finished))
    made = {path.relative_to(theirs) for d in ("tables", "figures") for path in (theirs / d).rglob("*.*")}
    made = {path for path in made if path.suffix != ".json"}  # it has the checksum of its notes
    cases = {path for path in made if re.match(r"attention_\d", path.name)}
    captions = [(ours / path).read_text() for path in cases if path.suffix == ".md"]
    assert len(captions) == 3 and all("archived runs have no weights to predict dev with" in c for c in captions)
    made -= cases
    assert len(made) >= 30 and {"efficiency.md", "speed.png", "flops.png"} <= {path.name for path in made}
    commit = short_commit(json.loads((ours / "runs/scierc/minilm/sinet/0/record.json").read_text())["git_commit"])
    note = f"Archived runs, scored here and trained before at commit {commit}: 6."
    for path in made:
        written = (ours / path).read_bytes()
        for more in (f"- {note}\n", f" {note}"):  # as Markdown and TeX put it
            written = written.replace(more.encode(), b"")
        assert written == (theirs / path).read_bytes(), path
    assert note in (ours / "tables" / "main.md").read_text()

    (kept / "efficiency/scierc/minilm/timing.json").unlink()
    done = snakemake(project, "--config", "archive=results/archive", environment=warm)
    assert done.returncode == 0 and "rule time_inference" not in done.stderr, done.stderr[-4000:]
    efficiency = (ours / "tables" / "efficiency.md").read_text()
    assert "not timed" in efficiency and "5 of their runs are archived without weights" in efficiency

    # a run that is no longer archived is trained, and nothing is timed all the same: one clock for all, or none
    (kept / "scierc/minilm/spert/0/training.json").unlink()
    planned = jobs(project, "--config", "archive=results/archive")
    assert planned >= {"train", "predict"} and not planned & {"count_flops", "time_inference", "draw_speed"}
