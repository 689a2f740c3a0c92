"""The one clock: inference from token ids to decoded triples, and the bare encoder over the same batches.

Tokenising and collating are timed apart. Every system runs on the same batches of sentences, sorted by length in
pieces, at batch 1 and at the batch it is fastest with, in float32 and, where the device multiplies it in hardware, in
bfloat16. Everything that is timed goes through `REPEATS` rounds together, in an order shuffled anew for each, so that
a drift of the machine's speed falls on all alike: at least `SECONDS` seconds each, spread over the rounds, after a
warm-up. One job alone on the machine: what other work there was is recorded. The encoder is the limit: no system can be
faster than the encoder that it needs.
"""

import contextlib
import functools
import json
import logging
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from sinet import machine, provenance, systems
from sinet.contract import Batch, Extractor, Labels, Sentence
from sinet.data.sentence import read_sentences
from sinet.encoders.located import locate_encoder
from sinet.encoders.pretrained import load_encoder
from sinet.errors import UserError
from sinet.files import write_sealed
from sinet.grid.plan import TIMED, Plan
from sinet.infer.predict import inference, load_run
from sinet.model.batches import inference_batches, sample_by_length
from sinet.schema import EncoderSpec

log = logging.getLogger("sinet")

REPEATS = 5
SECONDS = 10.0
ENCODER, MAPS, PRODUCT, LIMITS = "the encoder alone", "its linear maps", "a matrix product", "the limits"
BATCHES = (8, 16, 32, 64)
"""Candidates for the best batch."""
PEAK_SIZES = (512, 1024, 2048)
"""Square products among which the machine's peak is sought."""
GPU_BATCHES, GPU_PEAK_SIZES, GPU_PRODUCTS = (8, 32, 64, 128, 256, 512), (2048, 4096, 8192, 16384), 10
"""The same where a single small product would measure how fast it is launched; products between two looks at the
clock."""


def collated(model: Extractor, sentences: Sequence[Sentence], batch_size: int) -> list[Batch]:
    """The sentences as batches of token ids, without labels."""
    return [
        model.collate([sentences[i].without_labels() for i in positions])
        for positions in inference_batches(model, sentences, batch_size)
    ]


def measure(
    passes: dict[str, Callable[[], float]], repeats: int = REPEATS, seconds: float = SECONDS, title: str = "timing"
) -> dict[str, list[float]]:
    """Seconds of each repeat of each pass, which says itself how long it took (`once`), after a warm-up, and for short
    ones another to see how long they take.

    Each is repeated as often as fills `seconds`, and `repeats` times at least, spread evenly over that many rounds,
    each in an order of its own: what is compared was measured at the same time.
    """
    share = seconds / repeats
    often = {name: 1 if run() > share else max(1, math.ceil(share / max(run(), 1e-6))) for name, run in passes.items()}
    shuffler = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in passes}
    with tqdm(desc=title, unit="pass", mininterval=2, total=repeats * sum(often.values())) as bar:
        rounds = 0
        while rounds < repeats or often:
            order = [name for name, n in often.items() for _ in range(n)]
            shuffler.shuffle(order)
            for name in order:
                times[name].append(passes[name]())
                bar.update()
            rounds += 1
            if rounds >= repeats:  # some were faster than they looked
                often = {name: often[name] for name in often if sum(times[name]) < seconds}
    return times


def clocked(passes: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, Callable[[], float]]:
    """Passes that say how long they took."""
    return {name: functools.partial(once, run, device) for name, run in passes.items()}


def once(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one pass, the device's work included."""
    machine.synchronise(device)
    began = time.perf_counter()
    run()
    machine.synchronise(device)
    return time.perf_counter() - began


def fastest_product(device: torch.device, precision: str) -> tuple[Callable[[], None], float]:
    """A pass over square matrix products of the size that this device multiplies fastest, and its operations (two a
    multiply-add): what the machine can do."""
    sizes, products = (GPU_PEAK_SIZES, GPU_PRODUCTS) if device.type == "cuda" else (PEAK_SIZES, 1)
    rates: dict[int, float] = {}
    passes: dict[int, Callable[[], None]] = {}
    for size in sizes:
        a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))

        def multiply(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
            for _ in range(products):
                torch.mm(a, b)

        multiply()
        passes[size] = multiply
        rates[size] = products * 2 * size**3 / min(once(multiply, device) for _ in range(10))
    best = max(rates, key=rates.__getitem__)
    return passes[best], products * 2.0 * best**3


def precisions_of(device: torch.device) -> tuple[list[str], str | None]:
    """Which precisions are timed, and why not the other."""
    if machine.native_bfloat16(device):
        return ["float32", "bfloat16"], None
    return ["float32"], "bfloat16 not timed: the device does not multiply it in hardware"


def passes_over(model: Extractor, batches: list[Batch], device: torch.device) -> tuple[Callable, Callable]:
    """Decoding of all batches, and the encoder alone over them; inside `inference`."""

    def decode() -> None:
        for batch in batches:
            model.decode(batch.to(device))

    def encode() -> None:
        for batch in batches:
            model.encoder(batch["input_ids"].to(device), batch["attention_mask"].to(device))

    return decode, encode


def best_batch(model: Extractor, sentences: Sequence[Sentence], device: torch.device, encoder: bool = False) -> int:
    """The candidate with which decoding, or the bare encoder, is fastest: in the better of two passes, of which the
    first warms up. None is larger than the number of sentences, nor than fits a GPU; with few, 1."""
    seconds: dict[int, float] = {}
    for size in GPU_BATCHES if device.type == "cuda" else BATCHES:
        if size > len(sentences):
            break
        run = passes_over(model, collated(model, sentences, size), device)[encoder]
        try:
            seconds[size] = min(once(run, device) for _ in range(2))
        except torch.OutOfMemoryError:  # of a GPU; larger ones would not fit either
            log.info("batches of %d do not fit the device", size)
            torch.cuda.empty_cache()
            break
    return min(seconds, key=seconds.__getitem__, default=1)


def encoder_pass(model: Extractor, size: int) -> str:
    """What a pass of the bare encoder over a model's batches of this size is called."""
    return "encoder documents" if model.settings.whole_documents else f"encoder {size}"


def time_precision(
    models: dict[str, Extractor],
    sentences: Sequence[Sentence],
    device: torch.device,
    precision: str,
    seconds: float = SECONDS,
    limits: bool = False,
) -> dict[str, dict]:
    """Models with one encoder architecture in one precision: name -> `batch_1` and `best` -> batch and figures, of the
    system and of the bare encoder.

    Args:
        limits: measure the machine in the same rounds: `LIMITS` -> `encoder` (batch and figures at the encoder's own
            best batch), `maps` (its linear maps alone over the same batches, None where they are not known),
            `matmul_peak_gflops` (median of the fastest product).
    """
    with contextlib.ExitStack() as stack:
        for model in models.values():
            stack.enter_context(inference(model, device, precision))
        sizes = {}
        for name, model in models.items():
            documents = model.settings.whole_documents  # whatever the size, a batch is a document
            sizes[name] = {"batch_1": 1, "best": 1 if documents else best_batch(model, sentences, device)}
            log.info("%s: %s is fastest in batches of %d", precision, name, sizes[name]["best"])
        passes: dict[str, Callable[[], object]] = {}
        for name, model in models.items():
            for kind, size in sizes[name].items():
                passes[f"{name} {kind}"], encode = passes_over(model, collated(model, sentences, size), device)
                # one architecture, the same batches: the encoder is timed once for each size of them
                passes.setdefault(encoder_pass(model, size), encode)
        if limits:
            first = next(iter(models.values()))
            own = best_batch(first, sentences, device, encoder=True)
            batches = collated(first, sentences, own)
            passes.setdefault(encoder_pass(first, own), passes_over(first, batches, device)[1])
            if first.encoder.packs:
                maps = [first.encoder.maps_alone(batch["attention_mask"]) for batch in batches]
                passes[MAPS] = lambda: [run() for run in maps]
            passes[PRODUCT], operations = fastest_product(device, precision)
        measured = measure(clocked(passes, device), seconds=seconds)
        described = {name: _described(times, len(sentences)) for name, times in measured.items()}
    # the search for the best batch starts at larger ones, which are faster on all but a few machines
    for name, kinds in sizes.items():
        if described[f"{name} batch_1"]["median_s"] < described[f"{name} best"]["median_s"]:
            kinds["best"], described[f"{name} best"] = 1, described[f"{name} batch_1"]
    found: dict[str, dict] = {
        name: {
            kind: {"batch": size, **described[f"{name} {kind}"], "encoder": described[encoder_pass(models[name], size)]}
            for kind, size in kinds.items()
        }
        for name, kinds in sizes.items()
    }
    if limits:
        peak = operations / described[PRODUCT]["median_s"] / 1e9
        found[LIMITS] = {
            "encoder": {"batch": own, **described[encoder_pass(first, own)]},
            "maps": described.get(MAPS),
            "matmul_peak_gflops": peak,
        }
    return found


def _described(times: list[float], sentences: int) -> dict:
    return {
        "repeats": len(times),
        "median_s": statistics.median(times),
        "quartiles_s": statistics.quantiles(times, n=4, method="inclusive")[::2],
        "sentences_per_s": sentences / statistics.median(times),
    }


def time_untrained(
    declared: EncoderSpec,
    made: dict[str, dict],
    labels: Labels,
    sentences: Sequence[Sentence],
    device: torch.device,
    seconds: float = SECONDS,
) -> dict[str, dict]:
    """Systems (name -> `model.json`) around an architecture with random weights, sentence by sentence in float32:
    name -> figures of the system and of the bare encoder.

    An untrained system sees entities everywhere, so relations are decided between the gold ones
    (`Batch.gold_entities`), where a system takes them. All share one encoder, which is
    packed for one of them at a time.
    """
    encoder = load_encoder(declared, locate_encoder(declared))
    models = {
        name: systems.load(description["system"])(labels, encoder, **description["settings"]).to(device).eval()
        for name, description in made.items()
    }

    def timed(model: Extractor, encoder_alone: bool) -> Callable[[], float]:
        batches = [model.collate([sentences[i] for i in batch]) for batch in inference_batches(model, sentences, 1)]
        for batch in batches:
            batch.gold_entities = True
        run = passes_over(model, batches, device)[encoder_alone]

        def one_pass() -> float:
            with inference(model, device, "float32"):
                return once(run, device)

        return one_pass

    passes = {name: timed(model, encoder_alone=False) for name, model in models.items()}
    # one encoder, the same pieces: it is timed once for all systems
    passes[ENCODER] = timed(next(iter(models.values())), encoder_alone=True)
    times = measure(passes, seconds=seconds, title=f"timing with {declared.name}")
    described = {name: _described(taken, len(sentences)) for name, taken in times.items()}
    return {name: described[name] | {"encoder": described[ENCODER]} for name in models}


def time_grid(plan: Plan, dataset: str, encoder: str, out: Path) -> None:
    """Time the systems of a plan at a place on what its configuration says; architectures likewise."""
    asked = plan.config.efficiency
    if asked is None:
        raise UserError(f"{plan.results}: this grid measures no efficiency")
    untrained = [
        (plan.config.encoder_spec(name), count)
        for name, count in asked.timed_architectures.items()
        if name in plan.sizes_alone
    ]
    runs = {model: plan.file(run, "") for model, run in plan.systems_at(dataset, encoder).items()}
    test = plan.results / "data" / dataset / "test.jsonl"
    of = plan.asked(dataset, encoder, TIMED)
    time_runs(runs, test, out, asked.timed_sentences, asked.timed_seconds, untrained, asked.timed_bfloat16, of)


def time_runs(
    runs: dict[str, Path],
    test: Path,
    out: Path,
    count: int | None = None,
    seconds: float = SECONDS,
    untrained: Sequence[tuple[EncoderSpec, int | None]] = (),
    bfloat16: bool = False,
    of: dict | None = None,
) -> None:
    """Time finished runs (model name -> folder) on `count` sentences of a test split, or on all of it, each system,
    batch and precision for `seconds` at least.

    Args:
        untrained: declared encoder architectures, and on how many of those sentences (None for all) every run's system
            is timed with random weights.
        bfloat16: beside float32, where the device multiplies it in hardware.
        of: what a plan asked, of which trainings; written beside the figures.

    Raises:
        UserError: runs with different encoders, of which none is the limit of all.
    """
    device = machine.use_device()
    loaded = {name: load_run(folder, device) for name, folder in runs.items()}
    encoders = {name: made["encoder"] for name, (_, made) in loaded.items()}
    if len({json.dumps(made["encoder_config"], sort_keys=True) for _, made in loaded.values()}) > 1:
        raise UserError(f"runs with different encoders cannot share a limit: {encoders}; time them apart")
    models = {name: model for name, (model, _) in loaded.items()}
    everything = read_sentences(test)
    first = next(iter(models.values()))
    whole = any(model.settings.whole_documents for model in models.values())
    sentences = sample_by_length(everything, first.encoder.piece_counts(everything), count, whole)
    precisions, reason = precisions_of(device) if bfloat16 else (["float32"], None)
    with machine.OtherWork() as others:
        timed = {
            "tokenising_s": {name: tokenising(model, sentences, device) for name, model in models.items()},
            "systems": by_system({p: time_precision(models, sentences, device, p, seconds) for p in precisions}),
            "architectures": {
                declared.name: {
                    "sentences": len(
                        sample := sample_by_length(sentences, first.encoder.piece_counts(sentences), n, whole)
                    ),
                    "systems": time_untrained(
                        declared, {n: d for n, (_, d) in loaded.items()}, first.labels, sample, device, seconds
                    ),
                }
                for declared, n in untrained
            },
        }
    write_sealed(
        out,
        {
            **(of or {}),
            "git_commit": provenance.git_commit(),
            "unit": "seconds per pass over the sentences, token ids to triples",
            "split": test.stem,
            "sentences": len(sentences),
            "of_sentences": len(everything),
            "least_seconds": seconds,
            **machine.describe(device, "+".join(precisions)),
            "libraries": machine.libraries(),
            "precisions": precisions,
            "not_timed": reason,
            **timed,
            "other_work_cpus": others.cpus,
            "peak_memory_mib": machine.peak_memory_mib(device),
        },
    )


def tokenising(model: Extractor, sentences: Sequence[Sentence], device: torch.device) -> float:
    """Seconds to make batches of token ids of the sentences, no word cut before; the median of `REPEATS`."""

    def cut_and_collate() -> None:
        model.encoder.forget_words()
        collated(model, sentences, BATCHES[-1])

    cut_and_collate()
    return statistics.median(once(cut_and_collate, device) for _ in range(REPEATS))


def by_system(by_precision: dict[str, dict]) -> dict[str, dict]:
    """precision -> system to system -> precision."""
    names = next(iter(by_precision.values()))
    return {name: {precision: timed[name] for precision, timed in by_precision.items()} for name in names}
