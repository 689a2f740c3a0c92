"""What a step asks of a cluster: its own needs, grown with each attempt, within what `site.yaml` says of the site.

The resources are those of snakemake-executor-plugin-slurm; a run on one machine takes no notice of them.
"""

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path

from sinet.config import read_yaml, schema_mistakes
from sinet.errors import UserError
from sinet.provenance import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "site.schema.yaml"
SIDE_BY_SIDE = 4
"""Trainings that go on at once on one machine, at most: each holds a model, and a few GiB."""
WHOLE_GRANT = "SINET_WHOLE_GRANT"
"""Set in the jobs of a cluster: a step there has all CPUs that SLURM granted, whatever OMP_NUM_THREADS says. Read by
`sinet.run.machine`, which does not import this module: what is asked of a site is no reason to train again."""
WARNING_SECONDS = 120
"""Before its time limit a job gets SIGUSR1, upon which a training saves its state."""


def load_site(path: Path) -> dict:
    """The site's settings; none where there is no such file.

    Raises:
        UserError: a file that is no YAML, or holds what the schema does not know; every mistake, one a line.
    """
    try:
        site = read_yaml(path) or {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not isinstance(site, dict):
        raise UserError(f"{path}: should be a mapping of keys such as `account:`")
    if mistakes := list(schema_mistakes(site, SCHEMA)):
        raise UserError("\n".join(f"{path.name}: {mistake}" for mistake in mistakes))
    return site


def resources(
    site: dict, cpus: int, mem_mb: int, runtime: int, gpu: bool = False, exclusive: bool = False
) -> dict[str, int | str | Callable[..., int]]:
    """Resources of a rule.

    Args:
        cpus: of the one task. mem_mb: MiB. runtime: minutes; both times the number of the attempt.
        gpu: it uses as many GPUs as the site gives. exclusive: nothing else runs on its node.
    """
    limits, gpus = site.get("limits", {}), gpu_count(site) if gpu else 0

    def grown(name: str, first: int) -> Callable[..., int]:
        return lambda wildcards, attempt: min(first * attempt, limits.get(name, first * attempt))

    asked = {
        # not `threads`: with --cores all Snakemake cuts that down to the cores of the machine it is called on
        "cpus_per_task": min(cpus, limits.get("cpus", cpus)),
        "mem_mb": grown("mem_mb", mem_mb),
        "runtime": grown("runtime", runtime),
        "slurm_extra": f"--signal=USR1@{WARNING_SECONDS}" + " --exclusive" * exclusive,
    }
    partition = site.get("partitions", {}).get("gpu" if gpus else "cpu")
    named = {"slurm_account": site.get("account"), "slurm_partition": partition}
    named |= {name: site.get(name) for name in ("qos", "constraint")}
    if gpus:
        asked["gpu"] = gpus
        named["gpu_model"] = site.get("gpu_type")
    return asked | {name: value for name, value in named.items() if value}


def gpu_count(site: dict) -> int:
    """GPUs of a job that can use one; where the site does not say, 1 unless the cluster shows none."""
    gpus = site.get("gpus", "auto")
    return int(_cluster_has_gpus()) if gpus == "auto" else gpus


@functools.cache
def _cluster_has_gpus() -> bool:
    """False only if a cluster answers and lists no GPU: where there is none to ask, a plan shows what is wanted."""
    try:
        shown = subprocess.run(["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return shown.returncode != 0 or "gpu" in shown.stdout


def cores_each(cores: int, runs: int, gpu: bool) -> int:
    """Cores of each of the steps that every run has, which go on side by side.

    Two trainings of a small encoder with one core each do a third more in all than one after the other with two. Those
    that share a GPU follow one another.
    """
    return -(-cores // (1 if gpu else min(SIDE_BY_SIDE, runs)))


def gpu_here() -> bool:
    """Whether this machine has a GPU, told without torch, which takes seconds to load."""
    return Path("/dev/nvidiactl").exists()
