"""Runs kept without weights: what they are made of, and a grid whose tables are made of nothing else."""

import json
import logging
import subprocess

import pytest

from sinet.config import load_config, resolve
from sinet.errors import UserError
from sinet.kept import keep, kept_runs, restore
from tests.conftest import copy_project, snakemake


@pytest.fixture
def plan():
    config = load_config()
    config["grid"] = [config["grid"][0] | {"models": ["sinet", "spert"]}]
    return resolve(config)


@pytest.fixture
def results(plan, tmp_path):
    """A results folder in which the first run is finished and the second was killed after its training."""
    for run, names in zip(plan.runs, (("predictions.jsonl", "record.json"), ()), strict=True):
        folder = tmp_path / "results" / "runs" / run.path
        folder.mkdir(parents=True)
        (folder / "training.json").write_text(json.dumps({"run": run.details, "dev": run.seed}))
        for name in ("log.csv", "model.safetensors", *names):
            (folder / name).write_text(f"{name} of {run.model}\n")
    return tmp_path / "results"


def test_a_finished_run_is_kept_without_its_weights_and_comes_back_the_same(plan, results, tmp_path):
    assert keep(results, plan, tmp_path / "kept") == ["scierc/minilm/sinet/0"]
    kept = tmp_path / "kept" / "scierc/minilm/sinet/0"
    first = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert sorted(first) == ["log.csv", "predictions.jsonl.gz", "training.json"]
    keep(results, plan, tmp_path / "kept")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == first, "the same run gives the same bytes"

    names = ("training.json", "log.csv", "predictions.jsonl")
    restore(kept, names, tmp_path / "back")
    for name in names:
        original = results / "runs" / "scierc/minilm/sinet/0" / name
        assert (tmp_path / "back" / name).read_bytes() == original.read_bytes()


def test_nothing_finished_and_damage_are_said(plan, results, tmp_path):
    with pytest.raises(UserError, match=r"runs: none of the 2 runs of this grid is finished; run it first"):
        keep(tmp_path / "elsewhere", plan, tmp_path / "kept")
    keep(results, plan, tmp_path / "kept")
    kept = tmp_path / "kept" / "scierc/minilm/sinet/0"
    whole = (kept / "predictions.jsonl.gz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", whole[:-6] + bytes(6)):
        (kept / "predictions.jsonl.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"predictions.jsonl.gz is damaged \(.+\); take it from the repository"):
            restore(kept, ["predictions.jsonl"], tmp_path / "back")
    assert not (tmp_path / "back" / "predictions.jsonl").exists()


def test_only_a_run_of_the_same_settings_is_taken(plan, results, tmp_path, caplog):
    keep(results, plan, tmp_path / "kept")
    found = kept_runs(tmp_path / "kept", plan.runs, ())
    assert found == {"scierc/minilm/sinet/0": tmp_path / "kept/scierc/minilm/sinet/0"}
    assert kept_runs(tmp_path / "kept", plan.runs, found.keys()) == {}
    assert "sinet/0: kept without its attention, which the case study needs; it is trained anew" in caplog.text
    training = tmp_path / "kept/scierc/minilm/sinet/0/training.json"
    changed = json.loads(training.read_text())
    changed["run"]["recipe"]["epochs"] += 1
    training.write_text(json.dumps(changed))
    with caplog.at_level(logging.WARNING):
        assert kept_runs(tmp_path / "kept", plan.runs, ()) == {}
    assert "sinet/0: kept under other settings than the configuration's; it is trained anew" in caplog.text


def test_kept_runs_make_the_tables_of_their_grid(finished, tmp_path):
    project = copy_project(tmp_path / "project")
    kept = project / "results" / "kept"
    call = ["python", "-m", "sinet", "keep", "--configs", "config/quick.yaml", "--out", str(kept)]
    said = subprocess.run(call, cwd=finished, capture_output=True, text=True, check=True).stdout
    assert said == f"config/quick.yaml: 6 of 6 runs kept in {kept}/\n"

    done = snakemake(project, "--config", "kept=results/kept")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "restore" in done.stderr
    for rule in ("train", "predict", "attend", "count_flops", "time_inference"):
        assert f"rule {rule}:" not in done.stderr
    ours, theirs = (folder / "results" / "quick" for folder in (project, finished))
    made = {path.relative_to(theirs) for d in ("tables", "figures") for path in (theirs / d).iterdir()}
    clock = {path for path in made if path.name.startswith(("efficiency", "speed_", "flops_"))}
    assert len(made - clock) >= 30
    for path in made - clock:
        assert (ours / path).read_bytes() == (theirs / path).read_bytes(), path
    efficiency = (ours / "tables" / "efficiency.md").read_text()
    assert "not timed" in efficiency and "of 6 runs no weights are here, only what they predicted" in efficiency

    # a run that is not kept is trained, and then nothing is timed all the same: one clock for all, or none
    (kept / "scierc/minilm/spert/0/training.json").unlink()
    planned = snakemake(project, "--config", "kept=results/kept", "--dry-run", "--rerun-triggers", "mtime")
    assert planned.returncode == 0, planned.stderr[-4000:]
