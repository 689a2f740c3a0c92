"""Runs kept without weights: what they are made of, and a grid whose tables are made of nothing else."""

import gzip
import json
import os
import subprocess

import pytest

from sinet.config import load_config, resolve
from sinet.errors import UserError
from sinet.files import read_sealed, write_sealed, write_sum
from sinet.kept import keep, kept_runs, restore
from tests.conftest import copy_project, snakemake
from tests.test_workflow import jobs


@pytest.fixture
def plan():
    config = load_config()
    config["grid"] = [config["grid"][0] | {"models": ["sinet", "spert"]}]
    return resolve(config)


@pytest.fixture
def results(plan, tmp_path):
    """A results folder in which the first run is finished and the second was killed after its training."""
    for run, done in zip(plan.runs, (True, False), strict=True):
        folder = tmp_path / "results" / "runs" / run.path
        folder.mkdir(parents=True)
        training = {"run": run.details, "seconds": {"train": 1.5}}
        write_sealed(folder / "training.json", training)
        for name in ("log.csv", "model.safetensors", *["predictions.jsonl"] * done):
            (folder / name).write_text(f"{name} of {run.model}\n")
            write_sum(folder / name)
        if done:
            write_sealed(folder / "record.json", {"seconds": {"train": 1.5}, "scores": {}})
    return tmp_path / "results"


FIRST = "scierc/minilm/sinet/0"


def test_a_finished_run_is_kept_without_its_weights_and_comes_back_the_same(plan, results, tmp_path):
    assert keep(results, plan, tmp_path / "kept") == [FIRST]
    kept = tmp_path / "kept" / FIRST
    first = {path.name: path.read_bytes() for path in kept.iterdir()}
    sums = ["log.csv.sha256", "predictions.jsonl.sha256"]
    assert sorted(first) == sorted(["log.csv", "predictions.jsonl.gz", "training.json", *sums])
    keep(results, plan, tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == first, "the same run gives the same bytes"

    names = ("training.json", "log.csv", "predictions.jsonl")
    restore(kept, names, tmp_path / "back")
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
def test_what_an_unfinished_training_left_lying_is_not_kept(plan, results, tmp_path, stale):
    keep(results, plan, tmp_path / "kept")
    before = {path.name: path.read_bytes() for path in (tmp_path / "kept" / FIRST).iterdir()}
    training = results / "runs" / FIRST / "training.json"
    if stale is None:
        training.unlink()
    else:
        write_sealed(training, read_sealed(training) | stale)
    with pytest.raises(UserError, match=r"runs: none of the 2 runs of this grid is finished; run it first"):
        keep(results, plan, tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in (tmp_path / "kept" / FIRST).iterdir()} == before


def test_attention_is_kept_only_of_the_same_training(plan, results, tmp_path):
    attention, training = (results / "runs" / FIRST / name for name in ("attention.json", "training.json"))
    attention.write_text("{}")
    keep(results, plan, tmp_path / "kept")
    assert (tmp_path / "kept" / FIRST / "attention.json.gz").is_file()
    os.utime(attention, (1, training.stat().st_mtime - 1))
    keep(results, plan, tmp_path / "kept")
    assert not (tmp_path / "kept" / FIRST / "attention.json.gz").exists()


def test_damage_is_said(plan, results, tmp_path):
    keep(results, plan, tmp_path / "kept")
    kept = tmp_path / "kept" / FIRST
    whole = (kept / "predictions.jsonl.gz").read_bytes()
    flipped = bytes(byte ^ (255 if 10 <= i < 20 else 0) for i, byte in enumerate(whole))
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:-6] + bytes(6), flipped):
        (kept / "predictions.jsonl.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"predictions.jsonl.gz is damaged \(.+\); take it from the repository"):
            restore(kept, ["predictions.jsonl"], tmp_path / "back")
    assert not (tmp_path / "back" / "predictions.jsonl").exists()
    (kept / "predictions.jsonl.gz").write_bytes(gzip.compress(b"whole, and of another run\n"))
    with pytest.raises(UserError, match=r"predictions.jsonl: changed since it was made"):
        restore(kept, ["predictions.jsonl"], tmp_path / "back")
    for text, said in (("{", "broken JSON"), ((kept / "training.json").read_text().replace("1.5", "1.4"), "changed")):
        (kept / "training.json").write_text(text)
        with pytest.raises(UserError, match=f"training.json: {said}"):
            kept_runs(tmp_path / "kept", plan.runs, (), tmp_path / "new")


def test_only_a_run_that_is_whole_and_has_the_same_settings_is_taken(plan, results, tmp_path):
    keep(results, plan, tmp_path / "kept")
    kept = tmp_path / "kept" / FIRST

    def found(attended=(), there=tmp_path / "new"):
        return kept_runs(tmp_path / "kept", plan.runs, attended, there)

    assert found() == ([FIRST], [])
    assert found(there=results) == ([], []), "where the weights are, nothing is taken"
    assert found([FIRST])[1] == [f"{kept}: kept without attention.json.gz, which this grid needs; it is trained anew"]
    (kept / "log.csv").unlink()
    assert found() == ([], [f"{kept}: kept without log.csv, which this grid needs; it is trained anew"])
    changed = read_sealed(kept / "training.json")
    changed["run"]["recipe"]["epochs"] += 1
    write_sealed(kept / "training.json", changed)
    assert found() == ([], [f"{kept}: kept under other settings than the configuration's; it is trained anew"])


def test_kept_runs_make_the_tables_of_their_grid(finished, tmp_path):
    project = copy_project(tmp_path / "project")
    kept = project / "results" / "kept"
    call = ["python", "-m", "sinet", "keep", "--configs", "config/quick.yaml", "--out", str(kept)]
    said = subprocess.run(call, cwd=finished, capture_output=True, text=True, check=True).stdout
    assert said == f"config/quick.yaml: 6 of 6 runs kept in {kept}/\n"

    done = snakemake(project, "--config", "kept=results/kept")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "kept in results/kept, and not trained: 6 of 6 runs" in done.stderr and "restore" in done.stderr
    for rule in ("train", "predict", "attend", "count_flops", "time_inference"):
        assert f"rule {rule}:" not in done.stderr
    ours, theirs = (folder / "results" / "quick" for folder in (project, finished))
    made = {path.relative_to(theirs) for d in ("tables", "figures") for path in (theirs / d).rglob("*.*")}
    clock = {path for path in made if path.name.startswith(("efficiency", "speed", "flops"))}
    assert len(made - clock) >= 30
    commit = json.loads((ours / "runs/scierc/minilm/sinet/0/record.json").read_text())["git_commit"]
    note = f"Kept runs, scored here and trained before at commit {commit}: 6."
    for path in made - clock:
        written = (ours / path).read_bytes()
        for more in (f"- {note}\n", f" {note}"):  # as Markdown and TeX put it
            written = written.replace(more.encode(), b"")
        assert written == (theirs / path).read_bytes(), path
    assert note in (ours / "tables" / "main.md").read_text()
    efficiency = (ours / "tables" / "efficiency.md").read_text()
    assert "not timed" in efficiency and "5 of their runs are kept without weights" in efficiency

    # a run that is no longer kept is trained, and nothing is timed all the same: one clock for all, or none
    (kept / "scierc/minilm/spert/0/training.json").unlink()
    assert jobs(project, "--config", "kept=results/kept") >= {"train", "predict"}
    assert not jobs(project, "--config", "kept=results/kept") & {"count_flops", "time_inference", "draw_speed"}
