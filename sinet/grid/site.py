"""What a step asks of a cluster: its own needs, grown with each attempt, within what `site.yaml` says of the site.

The resources are those of snakemake-executor-plugin-slurm; a run on one machine takes no notice of them.
"""

import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sinet.errors import UserError
from sinet.grid.bounded_yaml import read_yaml
from sinet.grid.mistakes import validated
from sinet.schema import Site

SIDE_BY_SIDE = 4
"""Trainings that go on at once on one machine, at most: each holds a model, and a few GiB."""
WHOLE_GRANT = "SINET_WHOLE_GRANT"
"""Set in the jobs of a cluster: a step there has all CPUs that SLURM granted, whatever OMP_NUM_THREADS says. Read by
`sinet.machine`, which does not import this module: what is asked of a site is no reason to train again."""
WARNING_SECONDS = 120
"""Before its time limit a job gets SIGUSR1, upon which a training saves its state."""


def load_site(path: Path) -> Site:
    """The site's settings; the defaults where there is no such file.

    Raises:
        UserError: a file that is no YAML, or holds what `Site` does not know; every mistake, one a line.
    """
    try:
        return validated(Site, read_yaml(path) or {}, where=f"{path.name}: ")
    except FileNotFoundError:
        return Site()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def resources(
    site: Site, cpus: int, mem_mb: int, runtime: int, gpu: bool = False, exclusive: bool = False
) -> dict[str, Any]:
    """Resources of a rule.

    Args:
        cpus: of the one task. mem_mb: MiB. runtime: minutes; both times the number of the attempt.
        gpu: it uses as many GPUs as the site gives. exclusive: nothing else runs on its node.
    """
    gpus = gpu_count(site) if gpu else 0

    def grown(name: str, first: int) -> Callable[..., int]:
        return lambda wildcards, attempt: min(first * attempt, getattr(site.limits, name) or first * attempt)

    asked: dict[str, Any] = {
        # not `threads`: with --cores all Snakemake cuts that down to the cores of the machine it is called on
        "cpus_per_task": min(cpus, site.limits.cpus or cpus),
        "mem_mb": grown("mem_mb", mem_mb),
        "runtime": grown("runtime", runtime),
        "slurm_extra": f"--signal=USR1@{WARNING_SECONDS}" + " --exclusive" * exclusive,
    }
    partition = site.partitions.gpu if gpus else site.partitions.cpu
    named = {"slurm_account": site.account, "slurm_partition": partition}
    named |= {name: getattr(site, name) for name in ("qos", "constraint")}
    if gpus:
        asked["gpu"] = gpus
        named["gpu_model"] = site.gpu_type
    return asked | {name: value for name, value in named.items() if value}


def gpu_count(site: Site) -> int:
    """GPUs of a job that can use one; where the site does not say, 1 unless the cluster shows none."""
    return int(_cluster_has_gpus()) if site.gpus == "auto" else site.gpus


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
