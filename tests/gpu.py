"""`make test-gpu`: what a GPU computes and how fast, held against the CPU, in at most eight minutes.

    python -m tests.gpu [--config config/gpu.yaml] [--out results/gpu] [--device cpu]

Written to OUT/DEVICE-NAME.json, part by part: the device's tests; the systems of the grid trained briefly in float32
and bfloat16; the same weights on the CPU (`TOLERANCES`); training on batches prepared ahead or not; `bench`. Exit
status 1 where something is beyond a tolerance. `--device cpu` rehearses it with a small grid: its figures mean nothing.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from sinet import machine, provenance
from sinet.contract import Extractor, Labels, Sentence
from sinet.data.prepare import prepare
from sinet.data.sentence import read_sentences
from sinet.efficiency import bench, timing
from sinet.errors import UserError
from sinet.files import read_json, write_json
from sinet.grid.config import load_config
from sinet.grid.plan import resolve
from sinet.infer.predict import load_run, predict
from sinet.model.prefetch import prefetched
from sinet.schema import RunSpec
from sinet.train import trainer as train
from sinet.train.schedules import schedule
from sinet.train.steps import batch_parts, new_optimizer, train_step

STEPS = 8
TOLERANCES = {
    "states": 1e-4,  # greatest difference of the encoder's last states, float32
    "predictions": 0.02,  # share of sentences that are predicted otherwise, float32
    "scores": 1e-3,  # greatest difference of a score in the others
    "losses": 1e-3,  # of each of `STEPS` training steps, relative, float32
    "bfloat16_losses": 0.05,  # the same in bfloat16, against float32 on the CPU
}
TESTS = {"cuda": ["-m", "gpu"], "cpu": ["-k", "planted"]}
CPU = torch.device("cpu")


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, 1 beyond a tolerance, 2 where there is nothing to run on."""
    parser = argparse.ArgumentParser(prog="make test-gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=provenance.ROOT / "config" / "gpu.yaml")
    parser.add_argument("--out", type=Path, default=provenance.ROOT / "results" / "gpu")
    parser.add_argument("--device", choices=TESTS, default="cuda")
    options = parser.parse_args(arguments)
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        why = f"torch {torch.__version__} of {sys.executable} sees no GPU"
        print(f"test-gpu: {why}; name a Python whose torch does: make test-gpu PYTHON=/path/to/python", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory() as folder:
            return check(load_config(options.config), options.out, Path(folder))
    except UserError as error:
        print(f"test-gpu: {error}", file=sys.stderr)
        return 2


def check(config: dict, out: Path, folder: Path) -> int:
    """Do and write all of it, with runs in `folder`; returns the exit status."""
    began = time.perf_counter()
    device = machine.use_device()
    precisions, _ = timing.precisions_of(device)
    found = {
        **machine.describe(device, "+".join(precisions)),
        "cuda": torch.version.cuda,
        "git_commit": provenance.git_commit(),
        "tolerances": TOLERANCES,
        "complete": False,
    }
    path = out / f"{re.sub(r'[^A-Za-z0-9]+', '-', found['device_name']).strip('-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def add(**part: object) -> None:
        found.update(part, seconds=round(time.perf_counter() - began, 1))
        write_json(path, found)

    add(tests=run_tests(TESTS[device.type]))
    plan = resolve(config)
    runs, mirrors = plan.specs(), plan.config.mirrors
    data = folder / "data" / runs[0].dataset
    prepare(runs[0].dataset, plan.config.datasets[runs[0].dataset], mirrors, data)
    train_sentences, labels = read_sentences(data / "train.jsonl"), Labels.read(data / "labels.json")
    trained, compared = {}, {}
    for run in runs:
        trained[run.model] = {}
        for precision in precisions:
            recipe = run.recipe.model_copy(update={"precision": precision})
            details = run.model_copy(update={"recipe": recipe})
            where = folder / precision / run.path
            train.train_run(details, data, where, folder / "state", mirrors)
            measured = read_json(where / "training.json")
            told = ("sentences_per_s", "dev", "seconds", "peak_memory_mib")
            trained[run.model][precision] = {key: measured[key] for key in told}
        where = folder / "float32" / run.path
        compared[run.model] = against_the_cpu(where, run, train_sentences, device, precisions)
        add(trained=trained, against_the_cpu=compared)
    speeds = {}
    for how, on in (("prepared_ahead", device), ("one_after_another", CPU)):
        with mock.patch.object(bench, "prefetched", lambda prepare, items, _, on=on: prefetched(prepare, items, on)):
            some, read = train_sentences[:128], torch.tensor([0])
            figures = bench.training_speed(runs[0], labels, some, read, mirrors, device, 16)
        speeds[how] = figures["sentences_per_s"]
    add(training_sentences_per_s={runs[0].model: speeds})
    (folder / "runs").symlink_to(folder / precisions[-1])
    seconds = plan.config.efficiency.timed_seconds
    table = bench.bench(replace(plan, results=folder), folder / "bench.json", None, 0, seconds)
    failures = beyond_tolerance(found)
    add(bench=read_json(folder / "bench.json"), failures=failures, complete=True)
    print(table, "", *failures, sep="\n")
    print(f"{path}: {'FAILED' if failures else 'passed'} on {found['device_name']} in {found['seconds']:.0f} s")
    return 1 if failures else 0


def run_tests(chosen: list[str]) -> dict:
    """The tests of `tests/test_device.py` that need the device: exit status and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen, "tests/test_device.py"]
    done = subprocess.run(command, cwd=provenance.ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return {
        "exit_status": done.returncode,
        "said": lines[-1] if lines else done.stderr[-500:],
        "failed": [line for line in lines if line.startswith(("FAILED", "ERROR"))],
    }


def against_the_cpu(
    run: Path, details: RunSpec, sentences: Sequence[Sentence], device: torch.device, precisions: Sequence[str]
) -> dict:
    """Greatest differences between the device and the CPU with the weights of a run (`TOLERANCES`), and the losses of
    `STEPS` training steps on the same batches without dropout, by device and precision."""
    some = sentences[:64]
    states, found = [], []
    for where in (CPU, device):
        model, _ = load_run(run, where)
        batch = model.collate(some[:8]).to(where)
        real = batch["attention_mask"].bool()
        with torch.no_grad():
            states.append(model.encoder(batch["input_ids"], batch["attention_mask"])[real].cpu())
        found.append([_decisions(s) for s in predict(model, some, where, "float32")])
    same = [(one, other) for one, other in zip(*found, strict=True) if one.keys() == other.keys()]
    curves = {"cpu": losses(run, details, sentences, CPU, "float32")}
    curves |= {p: losses(run, details, sentences, device, p) for p in precisions}
    apart = {
        precision: max(abs(a - b) / abs(b) for a, b in zip(curve, curves["cpu"], strict=True))
        for precision, curve in curves.items()
    }
    return {
        "states": float((states[0] - states[1]).abs().max()),
        "predictions": 1 - len(same) / len(some),
        "found": sum(map(len, found[0])),
        "scores": max((abs(one[key] - other[key]) for one, other in same for key in one), default=0.0),
        "losses": apart["float32"],
        "bfloat16_losses": apart.get("bfloat16"),
        "curves": curves,
    }


def _decisions(sentence: Sentence) -> dict[tuple, float]:
    spans = {(e.type, e.start, e.end): e.score for e in sentence.entities}
    return spans | {(r.type, r.head, r.tail, "relation"): r.score for r in sentence.relations}


def losses(
    run: Path, details: RunSpec, sentences: Sequence[Sentence], device: torch.device, precision: str
) -> list[float]:
    """The loss of each of `STEPS` steps from the weights of a run, with negatives drawn from one seed."""
    model, _ = load_run(run, device)
    without_dropout(model.train())
    recipe = details.recipe.trainings[0][1]
    optimizer = new_optimizer(model, recipe)
    rates = schedule(optimizer, recipe, STEPS)
    torch.manual_seed(0)
    curve = []
    for step in range(STEPS):
        items = [sentences[(4 * step + i) % len(sentences)] for i in range(4)]
        terms = train_step(model, batch_parts(model, items, recipe), optimizer, rates, recipe, device, precision)
        curve.append(float(sum(terms.values())))
    return curve


def without_dropout(model: Extractor) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def beyond_tolerance(found: dict) -> list[str]:
    """A line for everything that is not as it should be."""
    failures = [f"tests: {found['tests']['said']}"] if found["tests"]["exit_status"] else []
    for model, differences in found["against_the_cpu"].items():
        for key, limit in TOLERANCES.items():
            if (value := differences[key]) is not None and not value <= limit:
                failures.append(f"{model}: {key} differ by {value:.2g}, more than {limit:g}")
        if not differences["found"]:
            failures.append(f"{model}: finds nothing, so that predictions say nothing")
    return failures


if __name__ == "__main__":
    sys.exit(main())
