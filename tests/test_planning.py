"""The measurement of how long planning takes; how long it may take is the bench's."""

import re

from sinet.efficiency.planning import plan_grid, report
from tests.conftest import copy_project, snakemake


def test_every_run_of_a_generated_grid_is_planned():
    planned = plan_grid(20)
    # by run: train, predict, evaluate
    assert planned["runs"] >= 20 and planned["jobs"] > 3 * planned["runs"]
    assert planned["seconds"] > 0 and planned["cpu_seconds"] > 0
    assert report(planned).startswith(f"Plan of {planned['runs']:,} runs ({planned['jobs']:,} jobs)")


def test_long_trainings_come_first_and_finished_ones_before_them(tmp_path):
    planned = snakemake(copy_project(tmp_path), "--dry-run").stdout
    found = re.findall(r"rule (\w+):\n(?:    .*\n)*?    wildcards: (.*)\n    priority: ([\d.]+)\n", planned)
    train = {re.search(r"model=([\w-]+)", wildcards)[1]: float(n) for rule, wildcards, n in found if rule == "train"}
    assert train["sinet"] > train["table-sequence"] > train["pfn"] > train["spert"], "the reference comes first"
    assert train["spert"] > train["sinet-base"] > 0, "FLOPs are counted beside the trainings that they do not wait for"
    rest = {rule: float(n) for rule, _, n in found if rule != "train"}
    assert rest.keys() >= {"predict", "evaluate", "attend", "count_flops"} and min(rest.values()) > max(train.values())
