"""A grid of which runs fail: the others finish, what is missing is named, the last good results stay."""

import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml

from sinet.files import read_sealed
from sinet.infer.predict import load_run
from sinet.provenance import file_sha256
from sinet.report.missing import reason
from tests.conftest import copy_project, tiny_grid

RECIPE = {"epochs": 2, "batch_size": 4, "weight_decay": 0.01, "selection": "last"}
RECIPE |= {"encoder_lr": 3e-3, "head_lr": 3e-3, "warmup": 0.1}
DIVERGING = RECIPE | {"encoder_lr": 1e30, "head_lr": 1e30, "warmup": 0.0, "epochs": 3}


@pytest.fixture
def project(tiny_mirror, tmp_path, warm):
    """A project, and how to run its grid: two seeds of SINET, one of SpERT, each by a recipe."""
    folder = copy_project(tmp_path / "project")
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE, "spert": RECIPE})
    blocks = [
        {"datasets": ["ten"], "encoders": ["tiny"], "models": ["sinet"], "seeds": [0, 1], "recipe": "tiny"},
        {"datasets": ["ten"], "encoders": ["tiny"], "models": ["spert"], "seeds": [0], "recipe": "tiny"},
    ]

    def run(sinet: dict, spert: dict, *arguments: str, call: Callable = subprocess.run) -> Any:
        for system, recipe in (("sinet", sinet), ("spert", spert)):
            grid["recipes"]["tiny"][system] |= recipe
        (folder / "tiny.yaml").write_text(yaml.safe_dump(grid | {"grid": blocks}))
        command = ["python", "-m", "snakemake", "--logger", "sinet", "--cores", "all"]
        command += ["--configfile", "tiny.yaml", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return call(command, cwd=folder, env=warm, **output)

    return folder, run


def test_a_failed_run_stops_no_other_is_named_and_costs_no_good_result(project):
    folder, run = project
    runs = folder / "results/tiny/runs/ten/tiny"
    failed = run(RECIPE, DIVERGING)
    assert failed.returncode != 0
    assert all((runs / f"sinet/{seed}/record.json").is_file() for seed in (0, 1)), "the others finish"
    assert "1 of 3 runs have no result" in failed.stdout
    assert read_sealed(runs / "spert/0/diverged.json")["run"]["model"] == "spert"
    log = "results/tiny/logs/train/ten/tiny/spert/0.log"
    assert re.search(rf"failed train ten/tiny/spert/0: epoch 1, step .* it diverged; .* \({log}\)", failed.stdout)
    assert not re.search(r"WorkflowError|CalledProcessError|Traceback|\x1b", failed.stdout), failed.stdout
    assert "snakemake --cores all --configfile tiny.yaml --config allow_missing=True" in failed.stdout
    assert not (folder / "results/tiny/tables").exists() and not (folder / "results/tiny/incomplete").exists()

    printed = run(RECIPE, DIVERGING, "--config", "allow_missing=True")
    assert printed.returncode != 0, "a grid with holes is no success"
    main = (folder / "results/tiny/incomplete/main.md").read_text()
    assert main in printed.stdout
    (row,) = [line for line in main.splitlines() if line.startswith("| SpERT (ours)")]
    assert "| measured, tiny, n=0 " in row and row.count("| failed (n=0 of 1) ") == 4
    (row,) = [line for line in main.splitlines() if line.startswith("| SINET (ours)")]
    assert "| measured, tiny, n=2, test" in row and "failed" not in row
    assert "- No result: ten/tiny/spert/0: epoch 1, step" in main

    weights, kept = runs / "sinet/0/model.safetensors", ("predictions.jsonl", "analysis.json", "record.json")
    good, sum_of_good = [(runs / "sinet/0" / name).read_bytes() for name in kept], file_sha256(weights)
    again = run(DIVERGING, RECIPE)
    assert again.returncode != 0 and "2 of 3 runs have no result" in again.stdout
    assert not weights.exists(), "what the failed recipe should have made is not there"
    assert [(runs / "sinet/0" / name).read_bytes() for name in kept] == good
    (last_good,) = [p for p in folder.glob("state/*/model.safetensors") if file_sha256(p) == sum_of_good]
    model, _ = load_run(last_good.parent, torch.device("cpu"))
    assert model.labels.entity_types, "the weights of the last good recipe are whole, and a run by themselves"

    whole = run(RECIPE, RECIPE)
    assert whole.returncode == 0, whole.stdout[-3000:]
    assert (folder / "results/tiny/tables/main.md").is_file()
    assert not (folder / "results/tiny/incomplete").exists()
    assert "taken from state" in (folder / "results/tiny/logs/train/ten/tiny/sinet/0.log").read_text()
    assert file_sha256(weights) == sum_of_good


def test_the_reason_is_the_last_word_of_the_log_written_last(tmp_path):
    assert reason(tmp_path, "d/e/m/0") == "not started"
    log = tmp_path / "train" / "d" / "e" / "m" / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text("10:00:00 epoch 1/2: loss 1\n")
    assert reason(tmp_path, "d/e/m/0") == f"train ended without a message; its log: {log}"
    log.write_text("10:00:00 epoch 1/2: loss 1\n10:00:01 sinet train: it diverged\n")
    assert reason(tmp_path, "d/e/m/0") == "it diverged"
    later = tmp_path / "predict" / "d" / "e" / "m" / "0.log"
    later.parent.mkdir(parents=True)
    later.write_text("10:00:02 sinet predict failed\nTraceback (most recent call last):\n  ...\nValueError: two\n")
    assert reason(tmp_path, "d/e/m/0") == f"a fault of ours in predict: ValueError: two; its log: {later}"
    assert reason(tmp_path, "d/e/m/0", since=later.stat().st_mtime + 1) == "not started", "logs of an earlier call"


def test_a_run_that_was_not_started_has_the_reason_of_what_it_waited_for(tmp_path):
    for name, text in (
        ("prepare/d.log", "10:00:00 d: 10 sentences\n"),
        ("fetch_encoder/e.log", "sinet step fetch: no hub\n"),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    assert reason(tmp_path, "d/e/m/0") == "no hub"
    assert reason(tmp_path, "d/other/m/0") == "not started"


def test_a_second_workflow_in_one_folder_is_refused_and_told_what_to_do(project):
    folder, run = project
    first = run(RECIPE, RECIPE, call=subprocess.Popen)
    locks = folder / ".snakemake" / "locks"
    while not list(locks.glob("*")):
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGSTOP)  # so that it has not ended when the second one comes
    second = run(RECIPE, RECIPE)
    assert second.returncode != 0
    assert "make sure that no other Snakemake process" in second.stdout and "--unlock" in second.stdout
    first.kill()
    first.wait()
    assert run(RECIPE, RECIPE).returncode != 0, "a lock outlives a killed workflow"
    subprocess.run(["snakemake", "--unlock"], cwd=folder, check=True)
    assert not list(locks.glob("*"))
