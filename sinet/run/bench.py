"""`make bench`: speed of every trained system against its own encoder and against the machine, as one table.

Inference as in `sinet.run.timing`; besides, training steps against the encoder's own forward and backward, how exact
the fast arithmetic is, and memory of prediction over a long stream. Quantities that are
compared are measured in one process.
"""

import dataclasses
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from sinet.config import Plan
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import read_sentences, write_sentences
from sinet.errors import UserError
from sinet.files import read_json, write_json
from sinet.model.pretrained import load_encoder, locate_encoder
from sinet.run import machine, timing
from sinet.run.batches import bucketed, sample_by_length
from sinet.run.flops import encoder_multiply_adds
from sinet.run.predict import CHUNK, inference, load_run, predict, predict_file
from sinet.run.train import new_model
from sinet.run.training import optimisation, train_step
from sinet.score.metrics import score

log = logging.getLogger("sinet")

TRAINING_SENTENCES = 128
TRAINING_REPEATS = 5
EXACT, CLOSE = 1e-5, 0.3
"""How far float32 may be from the modules' own, and the F1 of bfloat16 from that of float32."""
COMPARED = 32
"""Test sentences over which fast and plain arithmetic are compared."""


def bench(results: Path, plan: Plan, mirrors: Sequence[str], out: Path, count: int | None, streamed: int) -> str:
    """Measure the first trained seed of every system of the grid, one dataset and encoder; returns the table.

    Args:
        count: test sentences that inference is timed on, None for all. streamed: length of the stream, 0 for none.

    Raises:
        UserError: when no run of the grid has been trained, or a stream is too short to show whether memory grows.
    """
    device = machine.use_device()
    if 0 < streamed < 2 * CHUNK:
        raise UserError(f"--stream: {streamed} sentences are read at once; give at least {2 * CHUNK}, or 0 for none")
    runs, missing, passed_over = trained_runs(results, plan)
    if not runs:
        raise UserError(f"{results}/runs holds no trained run of this grid; train it first: make tables")
    dataset, encoder = next(iter(runs.values())).parts[-4:-2]
    models = {name: load_run(folder, device)[0] for name, folder in runs.items()}
    data = results / "data" / dataset
    test = read_sentences(data / "test.jsonl")
    labels = Labels.read(data / "labels.json")
    first = next(iter(models.values()))
    sentences = sample_by_length(test, first.encoder.piece_counts(test), count)
    precisions, reason = timing.precisions_of(device)
    counts = first.encoder.piece_counts(sentences)
    multiply_adds, in_maps = (
        sum(encoder_multiply_adds(first.encoder.model.config, n + 2, attention) for n in counts) / len(counts)
        for attention in (True, False)
    )
    with machine.OtherWork() as others:
        timed = timing.by_system(
            {p: timing.time_precision(models, sentences, device, p, limits=True) for p in precisions}
        )
    limits = timed.pop(timing.LIMITS)
    peaks = {p: limit["matmul_peak_gflops"] for p, limit in limits.items()}
    measured = {
        **machine.describe(device, "+".join(precisions)),
        "dataset": dataset,
        "encoder": encoder,
        "split": "test",
        "sentences": len(sentences),
        "not_timed": reason,
        "other_work_cpus": others.cpus,
        "complete": False,  # what is measured is written as it comes: a long bench may be killed
        "missing": missing,
        "passed_over": passed_over,
        "unit": "sentences a second, token ids to triples; peak_share: of the bare encoder, whose multiply-adds a "
        "sentence (no padding) count two operations each; maps_peak_share: the same of its linear maps alone",
        "encoder_multiply_adds": multiply_adds,
        "peak_memory_mib": machine.peak_memory_mib(device),
        "matmul_peak_gflops": peaks,
        "encoder_best": {
            p: limit["encoder"]
            | {
                "peak_share": 2 * multiply_adds * limit["encoder"]["sentences_per_s"] / (peaks[p] * 1e9),
                "maps_peak_share": limit["maps"] and 2 * in_maps * limit["maps"]["sentences_per_s"] / (peaks[p] * 1e9),
            }
            for p, limit in limits.items()
        },
        "systems": {
            name: {
                p: {kind: _compared(figures, multiply_adds, peaks[p]) for kind, figures in kinds.items()}
                for p, kinds in by_precision.items()
            }
            for name, by_precision in timed.items()
        },
    }
    train = read_sentences(data / "train.jsonl")
    some = sample_by_length(train, first.encoder.piece_counts(train), TRAINING_SENTENCES)
    read = torch.tensor(sorted({p for s in train for word in first.encoder.word_pieces(s.tokens) for p in word}))
    for name, model in models.items():
        run = read_json(runs[name] / "training.json")["run"]
        measured["systems"][name]["exactness"] = exactness(model, test, labels, device, precisions)
        log.info("training %s", name)
        for key, batch in (("training", run["recipe"]["batch_size"]), ("training_batch_4", 4)):
            measured["systems"][name][key] = training_speed(run, labels, some, read, mirrors, device, batch)
        write_json(out, measured)
    if streamed:
        measured["stream"] = streaming(next(iter(runs.values())), test, streamed)
    write_json(out, measured | {"complete": True})
    return table(measured)


def trained_runs(results: Path, plan: Plan) -> tuple[dict[str, Path], list[str], list[str]]:
    """The first trained seed of each model with the grid's first dataset and encoder that have any, the runs that are
    missing, and those trained that are passed over: other seeds, datasets and encoders."""
    runs, missing, passed_over, place = {}, [], [], None
    for run in plan.runs:
        folder = results / "runs" / run.path
        if not (folder / "model.json").is_file():
            missing.append(run.path)
        elif place in (None, (run.dataset, run.encoder)) and run.model not in runs:
            place = run.dataset, run.encoder
            runs[run.model] = folder
        else:
            passed_over.append(run.path)
    return runs, missing, passed_over


def _compared(figures: dict, multiply_adds: float, peak: float) -> dict:
    rate, limit = figures["sentences_per_s"], figures["encoder"]["sentences_per_s"]
    return {
        "batch": figures["batch"],
        "sentences_per_s": rate,
        "encoder_sentences_per_s": limit,
        "ratio": rate / limit,
        "peak_share": 2 * multiply_adds * limit / (peak * 1e9),
        "median_s": figures["median_s"],
        "quartiles_s": figures["quartiles_s"],
        "repeats": figures["repeats"],
    }


def exactness(
    model: Extractor, test: Sequence[Sentence], labels: Labels, device: torch.device, precisions: Sequence[str]
) -> dict:
    """How far the fast arithmetic is from the modules' own.

    Returns:
        `float32_states`: the greatest difference between packed and plain hidden states of real pieces, and
        `float32_scores`, of the probabilities of what both predict, over 32 test sentences; `float32_same`: whether
        they predict the same; `f1`: Ent, Rel, Rel+ x 100 on the test split by precision.
    """
    batch = model.collate([s.without_labels() for s in test[:COMPARED]]).to(device)
    inputs = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        plain, plain_found = model.eval().encoder(*inputs), model.decode(batch)
    with inference(model, device, "float32"):
        fast, fast_found = model.encoder(*inputs), model.decode(batch)
    kinds = [
        [[(*x[:3],) for x in map(dataclasses.astuple, (*p.entities, *p.relations))] for p in found]
        for found in (plain_found, fast_found)
    ]
    scores = [[x.score for p in found for x in (*p.entities, *p.relations)] for found in (plain_found, fast_found)]
    same = kinds[0] == kinds[1]
    f1 = {}
    for precision in precisions:
        found = score(test, predict(model, test, device, precision), labels)["symmetric"]
        f1[precision] = {m: found[m]["f1"] for m in ("ent", "rel", "rel_plus")}
    return {
        "float32_states": float((fast - plain)[batch["attention_mask"].bool()].abs().max()),
        "float32_scores": max((abs(a - b) for a, b in zip(*scores, strict=True)), default=0.0) if same else None,
        "float32_same": same,
        "f1": f1,
    }


def training_speed(
    run: dict,
    labels: Labels,
    sentences: Sequence[Sentence],
    read: torch.Tensor,
    mirrors: Sequence[str],
    device: torch.device,
    batch_size: int,
) -> dict:
    """Training steps (collate, loss, backward, clipping, optimiser) and the encoder's forward and backward over the
    same batches: the median of `TRAINING_REPEATS` passes each, in shuffled turns, after a warm-up.

    Args:
        read: word pieces that count as read before, those of the whole split, as after its first epoch.
    """
    recipe = run["recipe"]
    model = new_model(run, labels, load_encoder(run["encoder"], locate_encoder(run["encoder"], mirrors)), device)
    precision = machine.resolve_precision(recipe["precision"], device)
    positions = bucketed(model.encoder.piece_counts(sentences), batch_size, 0, 1)
    chosen = [[sentences[i] for i in batch] for batch in positions]
    batches = [model.collate(batch).to(device) for batch in chosen]
    optimizer, schedule = optimisation(model, recipe, 10**6)
    # what the optimiser does grows with the rows that have been read
    model.encoder.model.get_input_embeddings()(read.to(device))

    def steps() -> None:
        model.train()
        for batch in chosen:
            train_step(model, model.collate(batch).to(device), optimizer, schedule, recipe["clip"], device, precision)

    passes = {"steps": steps, "bare": _encoder_steps(model, batches, device, precision)}
    times = timing.measure(timing.clocked(passes, device), TRAINING_REPEATS, seconds=0.0)
    took, limit = (statistics.median(t) for t in times.values())
    return {
        "batch": batch_size,
        "precision": precision,
        "sentences_per_s": len(sentences) / took,
        "encoder_sentences_per_s": len(sentences) / limit,
        "ratio": limit / took,
        "encoder_trained": recipe["encoder_lr"] is not None,
    }


def _encoder_steps(model: Extractor, batches: list[Batch], device: torch.device, precision: str) -> Callable[[], None]:
    """Forward and backward of the bare encoder; forward alone where the system freezes it."""

    def run() -> None:
        model.encoder.train()
        for batch in batches:
            model.encoder.zero_grad(set_to_none=True)
            with machine.autocast(device, precision):
                hidden = model.encoder(batch["input_ids"], batch["attention_mask"])
            if hidden.requires_grad:
                hidden.backward(torch.ones_like(hidden))

    return run


def streaming(run: Path, sentences: Sequence[Sentence], count: int) -> dict:
    """Speed and peak resident memory of a process that predicts a file of `count` sentences and nothing else.

    The sentences are test sentences with a new word in each, so that nothing remembered of words stays bounded by
    chance.

    Returns:
        besides these, `bounded`: whether the memory grew by no more than a tenth, or 64 MiB, after the first tenth of
        the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        made = (Sentence(f"s{i}", (*sentences[i % len(sentences)].tokens[:-1], f"w{i:x}")) for i in range(count))
        write_sentences(source, made)
        began = time.perf_counter()
        child = [sys.executable, "-m", "sinet.run.bench", str(run), str(source), str(target)]
        done = subprocess.run(child, capture_output=True, text=True, check=True)
        took = time.perf_counter() - began
        peaks = {int(n): mib for n, mib in json.loads(done.stdout.splitlines()[-1]).items()}
    tenth = min(n for n in peaks if n >= count / 10)
    early, last = peaks[tenth], peaks[max(peaks)]
    return {
        "sentences": count,
        "sentences_per_s": count / took,
        "peak_resident_mib": {str(n): peaks[n] for n in (tenth, max(peaks))},
        "bounded": last <= max(1.1 * early, early + 64),
    }


def table(measured: dict) -> str:
    """The figures to read, as Markdown with what they were measured on."""
    precisions = list(measured["matmul_peak_gflops"])
    lines = [
        f"Inference: {measured['sentences']} test sentences of {measured['dataset']} with {measured['encoder']}, token "
        f"ids to triples, {measured['device_name']} ({measured['threads']} threads), median.",
        "",
        "| system | precision | batch | sentences/s | encoder alone | ratio | encoder's share of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, system in measured["systems"].items():
        for precision in precisions:
            lines += [
                f"| {name} | {precision} | {figures['batch']} | {figures['sentences_per_s']:.1f} | "
                f"{figures['encoder_sentences_per_s']:.1f} | {figures['ratio']:.2f} | {figures['peak_share']:.2f} |"
                for figures in system[precision].values()
            ]
    peaks = ", ".join(f"{p} {peak:.0f}" for p, peak in measured["matmul_peak_gflops"].items())
    others = measured["other_work_cpus"]
    lines += ["", "What others did is not known." if others is None else f"Others kept {others:.2f} CPUs busy."]
    lines += ["", f"Matrix-multiply peak (GFLOP/s, two operations a multiply-add): {peaks}."]
    lines += [
        f"The encoder alone at its own best batch: {p} {e['sentences_per_s']:.1f} sentences/s in batches of "
        f"{e['batch']}, {e['peak_share']:.2f} of the peak"
        + (f"; its linear maps by themselves reach {e['maps_peak_share']:.2f}." if e["maps_peak_share"] else ".")
        for p, e in measured["encoder_best"].items()
    ]
    if measured["not_timed"]:
        lines.append(f"{measured['not_timed']}.")
    lines += [
        "",
        f"Training: {TRAINING_SENTENCES} sentences of the training split, median of {TRAINING_REPEATS} passes.",
        "",
        "| system | batch | training sentences/s | encoder alone | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, system in measured["systems"].items():
        for key in ("training", "training_batch_4"):
            t = system[key]
            lines.append(
                f"| {name} | {t['batch']} | {t['sentences_per_s']:.1f} | {t['encoder_sentences_per_s']:.1f} | "
                f"{t['ratio']:.2f} |"
            )
    if any(not t["training"]["encoder_trained"] for t in measured["systems"].values()):
        lines += ["", "A system that freezes its encoder trains on remembered features: its steps run no encoder."]
    differs = f"over {COMPARED} test sentences float32 differs from the modules by: states, scores"
    within = f"states and scores within {EXACT:g}, bfloat16 F1 within {CLOSE}"
    lines += ["", f"| system | {differs} | F1 Ent/Rel/Rel+ | {within} |", "|---|---|---|---|"]
    for name, system in measured["systems"].items():
        f1 = "; ".join(
            f"{p} {'/'.join(f'{v:.2f}' for v in scores.values())}" for p, scores in system["exactness"]["f1"].items()
        )
        states, scores = system["exactness"]["float32_states"], system["exactness"]["float32_scores"]
        shown = "other predictions" if scores is None else f"{scores:.1e}"
        lines.append(f"| {name} | {states:.1e}, {shown} | {f1} | {_verdict(system['exactness'])} |")
    if "stream" in measured:
        stream = measured["stream"]
        peaks = " and ".join(f"{mib:,.0f} MiB after {int(n):,}" for n, mib in stream["peak_resident_mib"].items())
        grows = "bounded" if stream["bounded"] else "IT GROWS with the stream"
        lines.append("")
        lines.append(
            f"Stream of {stream['sentences']:,} sentences: {stream['sentences_per_s']:.0f}/s, peak {peaks}: {grows}."
        )
    if measured["missing"]:
        lines += ["", "Not trained, so not measured: " + ", ".join(measured["missing"]) + "."]
    if measured["passed_over"]:
        lines += ["", "Trained, and not measured beside the first of its kind: " + ", ".join(measured["passed_over"])]
    return "\n".join(lines)


def _verdict(exact: dict) -> str:
    """Whether the fast arithmetic is as exact as it should be."""
    scores = exact["float32_scores"]
    same = scores is not None and scores <= EXACT and exact["float32_states"] <= EXACT
    by_precision = list(exact["f1"].values())
    close = all(abs(f1[m] - by_precision[0][m]) <= CLOSE for f1 in by_precision for m in f1)
    return "yes" if same and close else "NO"


if __name__ == "__main__":  # the process whose memory `streaming` looks at
    watched: dict[int, float] = {}
    cpu = torch.device("cpu")
    predict_file(*map(Path, sys.argv[1:]), at=lambda n: watched.update({n: machine.peak_memory_mib(cpu)["resident"]}))
    print(json.dumps(watched))
