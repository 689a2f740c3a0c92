"""What jobs ask of a cluster, and site.yaml."""

import os
import re

import pytest

from sinet import machine
from sinet.errors import UserError
from sinet.grid import site
from sinet.provenance import ROOT
from sinet.schema import Site


def load(tmp_path, text: str) -> Site:
    (tmp_path / "site.yaml").write_text(text)
    return site.load_site(tmp_path / "site.yaml")


def test_the_example_is_valid_and_without_a_file_nothing_is_assumed(tmp_path):
    assert load(tmp_path, (ROOT / "slurm" / "site.example.yaml").read_text()).limits.runtime == 1440
    assert site.load_site(tmp_path / "absent.yaml") == Site()
    assert load(tmp_path, "# nothing yet\n") == Site()


@pytest.mark.parametrize(
    "text, message",
    [
        ("acount: x", "acount: unknown key, did you mean 'account'?"),
        ("gpus: atuo", "gpus: 'atuo' is unknown, did you mean 'auto'?"),
        ("limits: {cpus: four}", "limits.cpus: 'four' is text, should be a whole number"),
        ("limits: {runtime: 0}", "limits.runtime: 0 should be at least 1"),
        ("partitions: [gpu]", "partitions: .* is a list, should be a mapping"),
        ("- account", "site.yaml: top level: .* is a list, should be a mapping"),
        ("account: [", "site.yaml:2: broken YAML"),
    ],
)
def test_a_mistake_names_the_key_and_what_would_be_right(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, text)


def test_resources_grow_with_the_attempt_within_the_limits():
    asked = site.resources(
        Site.model_validate({"gpus": 0, "limits": {"cpus": 4, "mem_mb": 30000}}), cpus=8, mem_mb=16000, runtime=720
    )
    assert asked["cpus_per_task"] == 4
    assert [asked["mem_mb"](None, attempt) for attempt in (1, 2, 3)] == [16000, 30000, 30000]
    assert [asked["runtime"](None, attempt) for attempt in (1, 2, 3)] == [720, 1440, 2160]
    assert asked["slurm_extra"] == "--signal=USR1@120"


def test_only_jobs_that_can_use_a_gpu_ask_for_one_in_its_partition():
    here = site.load_site(ROOT / "slurm" / "site.example.yaml")
    on_gpu = site.resources(here, cpus=8, mem_mb=1000, runtime=10, gpu=True, exclusive=True)
    assert (on_gpu["gpu"], on_gpu["gpu_model"], on_gpu["slurm_partition"]) == (1, "a100", "gpu")
    assert on_gpu["slurm_extra"].endswith(" --exclusive") and on_gpu["slurm_account"] == "my_project"
    on_cpu = site.resources(here, cpus=8, mem_mb=1000, runtime=10)
    assert on_cpu["slurm_partition"] == "standard" and not {"gpu", "gpu_model"} & set(on_cpu)
    assert "gpu" not in site.resources(here.model_copy(update={"gpus": 0}), cpus=8, mem_mb=1000, runtime=10, gpu=True)


@pytest.mark.parametrize("shown, asked", [("(null)", 0), ("gpu:a100:4", 1), (None, 1)])
def test_without_a_word_of_the_site_a_gpu_is_asked_for_where_the_cluster_has_any(tmp_path, monkeypatch, shown, asked):
    if shown:
        (tmp_path / "sinfo").write_text(f"#!/bin/sh\necho '{shown}'\n")
        (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin" if shown else str(tmp_path))
    site._cluster_has_gpus.cache_clear()
    assert site.gpu_count(Site()) == asked
    site._cluster_has_gpus.cache_clear()


def test_threads_are_as_many_as_were_granted(monkeypatch):
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "OMP_NUM_THREADS", site.WHOLE_GRANT):
        monkeypatch.delenv(name, raising=False)
    masked = len(os.sched_getaffinity(0))
    assert machine.granted_cpus() == masked
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "1")
    assert machine.granted_cpus() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", str(masked + 6))
    assert machine.granted_cpus() == masked, "never more than the mask allows"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.granted_cpus() == 1, "a step's share of an allocation in which Snakemake itself runs"
    monkeypatch.setenv(site.WHOLE_GRANT, "1")
    assert machine.granted_cpus() == masked, "a job of its own has all that it was granted"


def test_cores_are_shared_by_what_goes_on_side_by_side():
    shares = {(cores, runs): site.cores_each(cores, runs, gpu=False) for cores in (1, 2, 6, 16) for runs in (1, 2, 9)}
    assert shares == {
        **{(1, 1): 1, (1, 2): 1, (1, 9): 1},
        **{(2, 1): 2, (2, 2): 1, (2, 9): 1},
        **{(6, 1): 6, (6, 2): 3, (6, 9): 2},
        **{(16, 1): 16, (16, 2): 8, (16, 9): 4},
    }
    assert site.cores_each(16, 9, gpu=True) == 16


def test_a_granted_gpu_that_torch_does_not_see_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SLURM_STEP_GPUS", "0")
    with pytest.raises(UserError, match=r"SLURM granted a GPU, torch .* sees none: .* gpus: 0 into site.yaml"):
        machine.use_device()


def test_every_rule_says_what_it_asks_of_a_cluster_or_stays_where_it_was_called():
    rules = "".join(path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk")))
    local = re.findall(r"^ *localrules:\n((?: +\w+,\n)+)", rules, re.MULTILINE)
    local = {name.strip(" ,") for names in local for name in names.splitlines()}
    blocks = dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", rules, re.MULTILINE | re.DOTALL))
    assert {"train", "report_page", "draw_attention"} <= blocks.keys() and local <= blocks.keys()
    assert {name for name, text in blocks.items() if "GRID.resources(" in text} == blocks.keys() - local
