"""The one clock: inference over a whole split, from token ids to decoded triples.

Tokenising and collating are timed apart. Every system runs on the same batches of sentences, sorted by length; the
order of the systems is shuffled between repeats, so that a drift of the machine's speed falls on all alike. One job
alone on the machine, one warm-up pass, at least `REPEATS` repeats and `SECONDS` seconds each.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from sinet.contract import Batch, Extractor, Sentence
from sinet.data.sentence import read_sentences
from sinet.files import write_json
from sinet.run import machine
from sinet.run.batches import by_length
from sinet.run.predict import BATCH, load_run

REPEATS = 5
SECONDS = 10.0


def collated(model: Extractor, sentences: Sequence[Sentence], batch_size: int) -> list[Batch]:
    """The split as batches of token ids, without labels."""
    return [
        model.collate([sentences[i].without_labels() for i in positions])
        for positions in by_length(sentences, batch_size)
    ]


def measure(
    passes: dict[str, Callable[[], object]], device: torch.device, repeats: int = REPEATS, seconds: float = SECONDS
) -> dict[str, list[float]]:
    """Seconds of each repeat of each pass, in an order shuffled anew for every repeat, after one warm-up each."""
    for run in passes.values():
        run()
    order, shuffler = list(passes), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in passes}
    with tqdm(desc="timing", unit="pass", mininterval=2) as bar:
        while any(len(t) < repeats or sum(t) < seconds for t in times.values()):
            shuffler.shuffle(order)
            for name in order:
                machine.synchronise(device)
                began = time.perf_counter()
                passes[name]()
                machine.synchronise(device)
                times[name].append(time.perf_counter() - began)
                bar.update()
    return times


def time_runs(runs: dict[str, Path], test: Path, out: Path, batch_size: int = BATCH) -> None:
    """Time finished runs (model name -> folder) on a test split in float32."""
    device = machine.use_device()
    precision = "float32"
    sentences = read_sentences(test)
    passes, tokenising = {}, {}
    for name, folder in runs.items():
        model, _ = load_run(folder, device)
        collated(model, sentences, batch_size)  # every word cut once, as in a long run
        began = time.perf_counter()
        batches = collated(model, sentences, batch_size)
        tokenising[name] = time.perf_counter() - began
        passes[name] = _decoding_pass(model, batches, device, precision)
    times = measure(passes, device)
    write_json(
        out,
        {
            "unit": "seconds per pass over the split, token ids to triples",
            "split": test.stem,
            "sentences": len(sentences),
            "batch_size": batch_size,
            **machine.describe(device, precision),
            "systems": {
                name: {
                    "repeats": len(t),
                    "median_s": statistics.median(t),
                    "quartiles_s": statistics.quantiles(t, n=4, method="inclusive")[::2],
                    "sentences_per_s": len(sentences) / statistics.median(t),
                    "tokenising_s": tokenising[name],
                }
                for name, t in times.items()
            },
        },
    )


def _decoding_pass(model: Extractor, batches: list[Batch], device: torch.device, precision: str) -> Callable[[], None]:
    @torch.inference_mode()
    def run() -> None:
        with machine.autocast(device, precision):
            for batch in batches:
                model.decode(batch.to(device))

    return run
