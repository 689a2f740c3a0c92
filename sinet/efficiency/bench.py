"""`make bench`: speed of every trained system against its own encoder and against the machine, as one table.

Inference as in `sinet.efficiency.timing`; besides, training steps against the encoder's own forward and backward, how
exact the fast arithmetic is, and memory of prediction over a long stream. Quantities that are
compared are measured in one process.
"""

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

from sinet import machine
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import read_sentences, write_sentences
from sinet.efficiency import timing
from sinet.efficiency.exactness import CLOSE, COMPARED, EXACT, exactness, verdict
from sinet.efficiency.flops import encoder_multiply_adds
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError
from sinet.files import read_sealed, write_json
from sinet.grid.plan import Plan
from sinet.infer.predict import CHUNK, load_run, predict_file
from sinet.model.batches import sample_by_length, training_batches
from sinet.model.prefetch import prefetched
from sinet.schema import RunSpec
from sinet.train.schedules import schedule
from sinet.train.steps import batch_parts, new_optimizer, train_step
from sinet.train.trainer import new_model

log = logging.getLogger("sinet")

TRAINING_SENTENCES = 128
TRAINING_REPEATS = 5


def bench(
    plan: Plan,
    out: Path,
    count: int | None,
    streamed: int,
    seconds: float = timing.SECONDS,
) -> str:
    """Measure the first trained seed of every system of the grid, one dataset and encoder; returns the table.

    Args:
        count: test sentences that inference is timed on, None for all. streamed: length of the stream, 0 for none.
        seconds: of inference, each system and batch, at least.

    Raises:
        UserError: when no run of the grid has been trained, or a stream is too short to show whether memory grows.
    """
    device, mirrors = machine.use_device(), plan.config.mirrors
    if 0 < streamed < 2 * CHUNK:
        raise UserError(f"--stream: {streamed} sentences are read at once; give at least {2 * CHUNK}, or 0 for none")
    runs, missing, passed_over = trained_runs(plan)
    if not runs:
        raise UserError(f"{plan.results}/runs holds no trained run of this grid; train it first: make tables")
    dataset, encoder = next(iter(runs.values())).parts[-4:-2]
    models = {name: load_run(folder, device)[0] for name, folder in runs.items()}
    data = plan.results / "data" / dataset
    test = read_sentences(data / "test.jsonl")
    labels = Labels.read(data / "labels.json")
    first = next(iter(models.values()))
    whole = any(model.settings.whole_documents for model in models.values())
    sentences = sample_by_length(test, first.encoder.piece_counts(test), count, whole)
    precisions, reason = timing.precisions_of(device)
    counts = first.encoder.piece_counts(sentences)
    multiply_adds, in_maps = (
        sum(encoder_multiply_adds(first.encoder.model.config, n + 2, attention) for n in counts) / len(counts)
        for attention in (True, False)
    )
    with machine.OtherWork() as others:
        timed = timing.by_system(
            {p: timing.time_precision(models, sentences, device, p, seconds, limits=True) for p in precisions}
        )
    limits = timed.pop(timing.LIMITS)
    peaks = {p: limit["matmul_peak_gflops"] for p, limit in limits.items()}
    measured = {
        **machine.describe(device, "+".join(precisions)),
        "libraries": machine.libraries(),
        "dataset": dataset,
        "encoder": encoder,
        "split": "test",
        "sentences": len(sentences),
        "not_timed": reason,
        "other_work_cpus": {"inference": others.cpus},
        "complete": False,  # what is measured is written as it comes: a long bench may be killed
        "missing": missing,
        "passed_over": passed_over,
        "unit": "sentences a second, token ids to triples; peak_share: of the bare encoder, whose multiply-adds a "
        "sentence (no padding) count two operations each; maps_peak_share: the same of its linear maps alone",
        "encoder_multiply_adds": multiply_adds,
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
    some = sample_by_length(train, first.encoder.piece_counts(train), TRAINING_SENTENCES, whole)
    read = torch.tensor(sorted({p for s in train for word in first.encoder.word_pieces(s.tokens) for p in word}))
    with machine.OtherWork() as others:
        for name in models:
            run = RunSpec.model_validate(read_sealed(runs[name] / "training.json")["run"])
            log.info("training %s", name)
            own = run.recipe.trainings[0][1].batch_size
            for key, batch in (("training", 8 if isinstance(own, str) else own), ("training_batch_4", 4)):
                measured["systems"][name][key] = training_speed(run, labels, some, read, mirrors, device, batch)
            write_json(out, measured)
    measured["other_work_cpus"]["training"] = others.cpus
    for name, model in models.items():
        measured["systems"][name]["exactness"] = exactness(model, test, labels, device, precisions)
        write_json(out, measured)
    measured["peak_memory_mib"] = machine.peak_memory_mib(device)
    if streamed:
        measured["stream"] = streaming(next(iter(runs.values())), test, streamed)
    write_json(out, measured | {"complete": True})
    return table(measured)


def trained_runs(plan: Plan) -> tuple[dict[str, Path], list[str], list[str]]:
    """The first trained seed of each model with the grid's first dataset and encoder that have any, the runs that are
    missing, and those trained that are passed over: other seeds, datasets and encoders."""
    runs, missing, passed_over, place = {}, [], [], None
    for run in plan.trained:
        dataset, encoder, model, _ = run.split("/")
        folder = plan.file(run, "")
        if not plan.config.models[model].is_system:
            continue
        if not (folder / "model.json").is_file():
            missing.append(run)
        elif place in (None, (dataset, encoder)) and model not in runs:
            place = dataset, encoder
            runs[model] = folder
        else:
            passed_over.append(run)
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


def training_speed(
    run: RunSpec,
    labels: Labels,
    sentences: Sequence[Sentence],
    read: torch.Tensor,
    mirrors: Sequence[str],
    device: torch.device,
    batch_size: int,
) -> dict:
    """Training steps (collate, loss, backward, clipping, optimiser) and the encoder's forward and backward over the
    same batches: the median of `TRAINING_REPEATS` passes each, in shuffled turns, after a warm-up. The batches of a
    model of whole documents are documents, whatever the size.

    Args:
        read: word pieces that count as read before, those of the whole split, as after its first epoch.
    """
    model = new_model(run, labels, load_encoder(run.encoder, locate_encoder(run.encoder, mirrors)), device)
    made_of = {"batch_size": "document"} if model.settings.whole_documents else {"batch_size": batch_size}
    recipe = run.recipe.trainings[0][1].model_copy(update={"order": "bucketed", "micro_batch_size": None} | made_of)
    precision = machine.resolve_precision(recipe.precision, device)
    documents = [sentence.document for sentence in sentences]
    positions = training_batches(model.encoder.piece_counts(sentences), recipe, 0, 1, documents)
    chosen = [[sentences[i] for i in batch] for batch in positions]
    batches = [model.collate(batch).to(device) for batch in chosen]
    optimizer = new_optimizer(model, recipe)
    rates = schedule(optimizer, recipe, 10**6)
    # what the optimiser does grows with the rows that have been read
    model.encoder.model.get_input_embeddings()(read.to(device))

    def steps() -> None:
        model.train()
        with prefetched(lambda items: batch_parts(model, items, recipe), chosen, device) as prepared:
            for _, parts in prepared:
                train_step(model, parts, optimizer, rates, recipe, device, precision)

    passes = {"steps": steps, "bare": _encoder_steps(model, batches, device, precision)}
    times = timing.measure(timing.clocked(passes, device), TRAINING_REPEATS, seconds=0.0)
    took, limit = (statistics.median(t) for t in times.values())
    return {
        "batch": batch_size,
        "precision": precision,
        "sentences_per_s": len(sentences) / took,
        "encoder_sentences_per_s": len(sentences) / limit,
        "ratio": limit / took,
        "encoder_trained": recipe.encoder_lr is not None,
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


def streaming(run: Path, sentences: Sequence[Sentence], count: int, chunk: int = CHUNK) -> dict:
    """Speed and peak resident memory of a process that predicts a file of `count` sentences and nothing else.

    The sentences are test sentences with a new word in each, so that nothing remembered of words stays bounded by
    chance; `chunk` of them are in memory at once.

    Returns:
        besides these, `bounded`: whether the memory grew by no more than a tenth, or 64 MiB, after the first tenth of
        the file; of a process that failed only `failed`, what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        made = (Sentence(f"s{i}", (*sentences[i % len(sentences)].tokens[:-1], f"w{i:x}")) for i in range(count))
        write_sentences(source, made)
        began = time.perf_counter()
        child = [sys.executable, "-m", "sinet.efficiency.bench", str(run), str(source), str(target), str(chunk)]
        done = subprocess.run(child, capture_output=True, text=True)
        took = time.perf_counter() - began
        if done.returncode:  # all else that was measured is shown nevertheless
            ended = f"exit status {done.returncode}: {' '.join(done.stderr.split())[-500:]}"
            return {"sentences": count, "failed": ended}
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
        f"ids to triples, {measured['device_name']} ({measured['threads']} threads), median and quartiles.",
        "",
        "| system | precision | batch | sentences/s | encoder alone | ratio | encoder's share of peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, system in measured["systems"].items():
        for precision in precisions:
            lines += [
                f"| {name} | {precision} | {figures['batch']} | {_rate(figures, measured['sentences'])} | "
                f"{figures['encoder_sentences_per_s']:.1f} | {figures['ratio']:.2f} | {figures['peak_share']:.2f} |"
                for figures in system[precision].values()
            ]
    peaks = ", ".join(f"{p} {peak:.0f}" for p, peak in measured["matmul_peak_gflops"].items())
    others = [
        f"of {part} {'it is not known' if cpus is None else f'{cpus:.2f}'}"
        for part, cpus in measured["other_work_cpus"].items()
    ]
    lines += ["", f"CPUs that others kept busy in the time {', '.join(others)}."]
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
    differs = f"over {COMPARED} test sentences float32 differs from the modules by: states, logits (relative above 1)"
    within = f"states and logits within {EXACT:g}, bfloat16 F1 within {CLOSE}"
    lines += ["", f"| system | {differs} | F1 Ent/Rel/Rel+ | {within} |", "|---|---|---|---|"]
    for name, system in measured["systems"].items():
        f1 = "; ".join(
            f"{p} {'/'.join(f'{v:.2f}' for v in scores.values())}" for p, scores in system["exactness"]["f1"].items()
        )
        states, logits = system["exactness"]["float32_states"], system["exactness"]["float32_logits"]
        shown = "other predictions" if logits is None else f"{logits:.1e}"
        lines.append(f"| {name} | {states:.1e}, {shown} | {f1} | {verdict(system['exactness'])} |")
    if "failed" in (stream := measured.get("stream", {})):
        lines += ["", f"The stream of {stream['sentences']:,} sentences failed: {stream['failed']}"]
    elif stream:
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


def _rate(figures: dict, sentences: int) -> str:
    """Sentences a second: median (quartiles)."""
    low, high = (sentences / seconds for seconds in reversed(figures["quartiles_s"]))
    return f"{figures['sentences_per_s']:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":  # the process whose memory `streaming` looks at
    watched: dict[int, float] = {}
    cpu = torch.device("cpu")
    predict_file(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        at=lambda n: watched.update({n: machine.peak_memory_mib(cpu)["resident"]}),
        chunk=int(sys.argv[4]),
    )
    print(json.dumps(watched))
