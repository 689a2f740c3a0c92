"""The workflow through the plugin on a real SLURM, undisturbed and with every kind of job dying."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.grid.site import cores_each, gpu_here
from sinet.mirrors import MIRRORS_VARIABLE
from sinet.model.sinet import System
from sinet.provenance import file_sha256
from sinet.train import trainer as train
from tests import rehearsal
from tests.conftest import copy_project, spec, tiny_grid, tiny_run
from tests.slurm.cluster import Cluster, missing

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; make test-slurm"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd starts jobs as their owners: it needs root"),
]

PATIENCE = 900
"""Seconds to wait for anything, on a machine that does other things too."""
CPUS = len(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


def command(*arguments: str) -> list[str]:
    return ["snakemake", "--cores", "all", "--profile", "slurm", "--latency-wait", "10", *arguments]


def until(what: str, true: Callable[[], object]) -> object:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.2)
    pytest.fail(f"waited {PATIENCE} s in vain until {what}")


def jobs(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Of every job SLURM knows, also of those that have ended, what it asked for; by the plugin's comment."""
    fields = {"comment": "%k", "id": "%i", "state": "%T", "cpus": "%C", "mem": "%m", "limit": "%l"}
    lines = cluster.run("squeue", "--noheader", "--states=all", "--format=" + "|".join(fields.values())).splitlines()
    found = [dict(zip(fields, map(str.strip, line.split("|")), strict=True)) for line in lines]
    return {job["comment"]: job for job in sorted(found, key=lambda job: int(job["id"]))}


# -- undisturbed ---------------------------------------------------------------------------------------------------


def test_a_grid_through_slurm_makes_the_local_tables(cluster, tiny_mirror, tmp_path, warm):
    projects = local, through_slurm = tmp_path / "local", tmp_path / "slurm"
    grid = tiny_grid(
        tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE | {"epochs": 3}, "spert": RECIPE | {"epochs": 3}}
    )
    block = {"datasets": ["ten"], "encoders": ["tiny"], "models": ["sinet", "spert"], "seeds": [0], "recipe": "tiny"}
    limits = {"cpus": CPUS, "mem_mb": 6000, "runtime": 90}
    for project in projects:
        copy_project(project)
        (project / "tiny.yaml").write_text(yaml.safe_dump(grid | {"grid": [block]}))
        (project / "site.yaml").write_text(yaml.safe_dump({"gpus": 0, "partitions": {"cpu": "main"}, "limits": limits}))
    runs = resolve(load_config(through_slurm / "tiny.yaml")).runs
    # as many CPUs as a step has in the local run, in which several go on side by side
    each = cores_each(CPUS, len(runs), gpu_here())
    fewer = [f"{rule}:cpus_per_task={each}" for rule in ("train", "predict", "attend", "find_cases")]
    here = ["snakemake", "--cores", "all", "--configfile", "tiny.yaml"]
    there = command("--configfile", "tiny.yaml", "--set-resources", *fewer)
    both = cluster.environment | {"PATH": f"{cluster.folder}/bin:{warm['PATH']}"}
    for call, project in ((here, local), (there, through_slurm)):
        done = subprocess.run(call, cwd=project, env=both, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-6000:]

    ran = jobs(cluster)
    asked = {
        "rule_count_flops_wildcards_ten_tiny": "1:30:00",
        "rule_time_inference_wildcards_ten_tiny": "1:30:00",
        "rule_attend_wildcards_ten_tiny_sinet_0": "30:00",
        "rule_find_cases": "30:00",
    }
    for run in runs:
        name = run.replace("/", "_")
        asked |= {f"rule_train_wildcards_{name}": "1:30:00", f"rule_predict_wildcards_{name}": "30:00"}
    assert {comment: job["limit"] for comment, job in ran.items()} == asked, "and short steps stay off the cluster"
    for comment, job in ran.items():
        cpus = CPUS if comment.startswith(("rule_count_flops", "rule_time_inference")) else each
        assert (job["state"], job["cpus"], job["mem"]) == ("COMPLETED", str(cpus), "6000M"), job
    timed = cluster.run("scontrol", "show", "job", ran["rule_time_inference_wildcards_ten_tiny"]["id"])
    assert "OverSubscribe=NO" in timed, "alone on its node"
    made, remade = (folder / "results" / "tiny" for folder in projects)
    for run in runs:
        assert json.loads((remade / "runs" / run / "record.json").read_text())["threads"] == each

    same = [path.relative_to(made) for d in ("tables", "figures") for path in sorted((made / d).rglob("*.*"))]
    same = [name for name in same if not name.name.startswith(("efficiency", "speed"))]
    assert len(same) >= 30
    for name in same:
        assert (remade / name).read_bytes() == (made / name).read_bytes(), name
    tables = [list(csv.DictReader((folder / "tables/efficiency.csv").open())) for folder in (made, remade)]
    assert [without_clock(row) for row in tables[0]] == [without_clock(row) for row in tables[1]]


def test_the_papers_grid_runs_by_the_command_as_it_is_typed(cluster, tmp_path):
    """A run and a half of it, on stand-ins; the shorter training stands in the base configuration, not on the command
    line, whose --configfile would take the place of the profile's."""
    project, mirrors = rehearsal.prepare(tmp_path)
    base = yaml.safe_load((project / "config.yaml").read_text())
    overlay = yaml.safe_load(rehearsal.OVERLAY.read_text())
    (project / "config.yaml").write_text(yaml.safe_dump(base | {key: overlay[key] for key in ("datasets", "recipes")}))
    limits = {"cpus": CPUS, "mem_mb": 6000, "runtime": 10}
    (project / "site.yaml").write_text(yaml.safe_dump({"gpus": 0, "limits": limits}))
    made = [
        "results/paper/runs/ace05/albert-xxlarge/sinet/0/record.json",
        "results/paper/runs/scierc/scibert-uncased/pfn/2/model.safetensors",
    ]
    done = subprocess.run(
        ["snakemake", "--cores", "all", "--profile", "slurm", *made],
        cwd=project,
        env=cluster.environment | {MIRRORS_VARIABLE: mirrors},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert all((project / path).is_file() for path in made)
    names = ("train_wildcards_ace05_albert-xxlarge_sinet_0", "train_wildcards_scierc_scibert-uncased_pfn_2")
    assert all(jobs(cluster)[f"rule_{name}"]["state"] == "COMPLETED" for name in names)


def without_clock(row: dict) -> dict:
    """A row of the efficiency table without what a clock measured, which no second run repeats: `Sentences/s` in both
    precisions and batches, `Inference (s)`, `Time / SINET's`. The figure of F1 against speed is left out for the same
    reason; all other tables and figures are the same bytes."""
    by_clock = row["figure"].startswith(("Sentences/s", "Inference (s)", "Time /")) and row["source"] == "measured"
    return row | {"mean": "", "values": ""} if by_clock else row


def test_a_job_gets_the_gpu_that_it_asks_for(cluster, tiny_project):
    (tiny_project / "site.yaml").write_text(yaml.safe_dump({"limits": {"cpus": 1, "mem_mb": 3000}}))  # gpus: auto
    call = command("--configfile", "tiny.yaml", "--retries", "0", "--", place(0))
    done = subprocess.run(call, cwd=tiny_project, env=cluster.environment, capture_output=True, text=True)
    sent = cluster.run("scontrol", "show", "job", jobs(cluster)["rule_train_wildcards_ten_tiny_sinet_0"]["id"])
    assert "TresPerJob=gres:gpu:1" in sent
    # the cluster's GPUs are devices that torch cannot use: a training that went on without would be no help
    assert done.returncode != 0 and "SLURM granted a GPU, torch" in log_of(tiny_project, 0)


# -- disturbed -----------------------------------------------------------------------------------------------------

CANCELLED, WARNED, TOO_LONG, TOO_LARGE, REQUEUED, ORPHANED = SEEDS = tuple(range(6))
RECIPE = {"epochs": 240, "batch_size": 2, "weight_decay": 0.01, "selection": "last"}


@pytest.fixture
def tiny_project(tiny_mirror, tmp_path) -> Path:
    """A project with a grid of one system, six seeds: trainings of seconds on the hand-made corpus."""
    project = copy_project(tmp_path / "project")
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": RECIPE})
    block = {"datasets": ["ten"], "encoders": ["tiny"], "models": ["sinet"], "seeds": list(SEEDS), "recipe": "tiny"}
    (project / "tiny.yaml").write_text(yaml.safe_dump(grid | {"grid": [block]}))
    # one CPU of those the host has, where nothing but SLURM's word says so
    (project / "site.yaml").write_text(yaml.safe_dump({"gpus": 0, "limits": {"cpus": 1, "mem_mb": 3000}}))
    return project


def place(seed: int) -> str:
    return f"results/tiny/runs/ten/tiny/sinet/{seed}/training.json"


def log_of(project: Path, seed: int) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (project / f"results/tiny/logs/train/ten/tiny/sinet/{seed}.log").read_text()
    return ""


def test_every_fault_leaves_a_grid_that_finishes_with_the_undisturbed_results(
    cluster, tiny_project, tiny_mirror, prepared, tmp_path, monkeypatch
):
    project = tiny_project
    # without a signal two minutes ahead of the limit of one minute that a job gets below
    unwarned = ("--set-resources", "train:slurm_extra=--nice=0")
    asked = command("--configfile", "tiny.yaml", "--retries", "0", *unwarned, "--", *map(place, SEEDS))
    start = {"cwd": project, "env": cluster.environment, "stderr": subprocess.STDOUT, "text": True}

    def job(seed: int) -> dict[str, str]:
        return jobs(cluster).get(f"rule_train_wildcards_ten_tiny_sinet_{seed}", {"state": "", "id": ""})

    def training(seed: int) -> bool:
        return job(seed)["state"] == "RUNNING" and ": epoch 3," in log_of(project, seed)

    def control(*arguments: str) -> None:
        subprocess.run(["scontrol", *arguments], check=True, env=cluster.environment)

    def tell(seed: int, number: int) -> None:
        trainer = ["pgrep", "--full", f"python -m sinet train ten/tiny/sinet/{seed} "]
        found = subprocess.run(trainer, capture_output=True, text=True).stdout.split()
        assert found
        for process in map(int, found):
            os.kill(process, number)

    def requeue() -> None:
        control("requeue", job(REQUEUED)["id"])
        until("it is back in the queue", lambda: job(REQUEUED)["state"] == "PENDING")
        control("update", f"JobId={job(REQUEUED)['id']}", "StartTime=now")  # SLURM itself waits two minutes

    def time_out() -> None:
        tell(TOO_LONG, signal.SIGSTOP)  # so that it is still at work when its minute is over
        control("update", f"JobId={job(TOO_LONG)['id']}", "TimeLimit=1")

    # nothing starts before one of the jobs has a limit that is too small, and one is held back
    control("update", f"NodeName={cluster.host}", "State=DRAIN", "Reason=test")
    with open(tmp_path / "first.log", "w") as log:
        first = subprocess.Popen(asked, stdout=log, **start)
    until("all jobs are queued", lambda: all(job(seed)["state"] == "PENDING" for seed in SEEDS))
    control("update", f"JobId={job(TOO_LARGE)['id']}", "MinMemoryNode=150")
    control("hold", job(ORPHANED)["id"])
    control("update", f"NodeName={cluster.host}", "State=RESUME")

    faults = {
        CANCELLED: lambda: cluster.run("scancel", job(CANCELLED)["id"]),
        WARNED: lambda: cluster.run("scancel", "--signal=USR1", job(WARNED)["id"]),  # as ahead of a time limit
        TOO_LONG: time_out,
        REQUEUED: requeue,
    }

    def all_done() -> bool:
        for seed in [seed for seed in faults if training(seed)]:
            faults.pop(seed)()
        return not faults

    until("each fault has struck in mid-training", all_done)
    cluster.restart_controller(seconds_down=5)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    undisturbed = {}
    for seed in SEEDS:  # here, while the minute goes by
        run = tiny_run(dict(System.test_settings), seed, **RECIPE)
        train.train_run(spec(run), prepared, tmp_path / "here", tmp_path / "state", [tiny_mirror])
        undisturbed[seed] = file_sha256(tmp_path / "here" / "model.safetensors")
    others = set(SEEDS) - {ORPHANED}
    alive = {"PENDING", "RUNNING", "COMPLETING"}
    until("the others have ended", lambda: not {job(seed)["state"] for seed in others} & alive)
    ended = {seed: job(seed) for seed in others}
    assert {seed: ended[seed]["state"] for seed in sorted(others - {TOO_LARGE})} == {
        CANCELLED: "CANCELLED",
        WARNED: "FAILED",
        TOO_LONG: "TIMEOUT",
        REQUEUED: "COMPLETED",
    }
    assert ended[TOO_LARGE]["state"] in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert "stopped by SIGTERM; the state is saved" in log_of(project, CANCELLED)
    assert "stopped by SIGUSR1; the state is saved" in log_of(project, WARNED)
    assert "stopped by SIGTERM; the state is saved" in log_of(project, TOO_LONG)
    assert "resumed in epoch" in log_of(project, REQUEUED)

    control("release", job(ORPHANED)["id"])
    until("the last one trains", lambda: training(ORPHANED))
    tell(ORPHANED, signal.SIGSTOP)  # it outlives the workflow that sent it
    first.kill()
    first.wait()

    refused = subprocess.run(asked, stdout=subprocess.PIPE, **start)
    assert refused.returncode != 0 and "--unlock" in refused.stdout
    subprocess.run(["snakemake", "--unlock"], cwd=project, check=True)
    with open(tmp_path / "second.log", "w") as log:
        second = subprocess.Popen(asked, stdout=log, **start)
    until("its successor waits", lambda: "another process trains this very run" in log_of(project, ORPHANED))
    tell(ORPHANED, signal.SIGCONT)
    assert second.wait() == 0, (tmp_path / "second.log").read_text()[-6000:]

    assert job(REQUEUED) == ended[REQUEUED], "a finished run is not sent again"
    for seed in (CANCELLED, WARNED, TOO_LONG):
        assert "resumed in epoch" in log_of(project, seed)
    assert "taken from state" in log_of(project, ORPHANED)
    for seed in SEEDS:
        assert json.loads((project / place(seed)).read_text())["threads"] == 1, f"granted one CPU of {CPUS}"
        assert file_sha256((project / place(seed)).with_name("model.safetensors")) == undisturbed[seed], seed
