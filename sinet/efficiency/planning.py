"""How long Snakemake takes to plan a grid of many runs: a dry run of a generated grid."""

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from sinet.errors import UserError
from sinet.grid.config import load_config
from sinet.provenance import ROOT

PLANNED_RUNS = 1000
"""Runs whose plan `bench` measures."""


def plan_grid(runs: int) -> dict:
    """Plan at least so many runs: the models, dataset and encoder of the default grid's first block, by many seeds.

    Returns:
        `runs`, `jobs`, and `seconds` by the clock and `cpu_seconds` that `snakemake -n` took.
    """
    block = load_config()["grid"][0]
    seeds = -(-runs // len(block["models"]))
    grid = block | {"datasets": block["datasets"][:1], "encoders": block["encoders"][:1], "seeds": list(range(seeds))}
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "many.yaml"
        # results that are nowhere: every job is to be planned
        overlay.write_text(yaml.safe_dump({"results": f"{folder}/results", "grid": [grid]}), encoding="utf-8")
        call = [sys.executable, "-m", "snakemake", "-n", "--quiet", "all", "--configfile", str(overlay)]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = re.search(r"^total\s+(\d+)", done.stdout + done.stderr, re.MULTILINE)
    if done.returncode or jobs is None:
        raise UserError(f"snakemake -n of {len(block['models']) * seeds} runs failed: {done.stderr.strip()[-500:]}")
    return {
        "runs": len(block["models"]) * seeds,
        "jobs": int(jobs[1]),
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }


def report(planned: dict) -> str:
    """The measurement as a line."""
    return (
        f"Plan of {planned['runs']:,} runs ({planned['jobs']:,} jobs) by snakemake -n: {planned['seconds']:.1f} s, "
        f"{planned['cpu_seconds']:.1f} s of it on the CPU"
    )
