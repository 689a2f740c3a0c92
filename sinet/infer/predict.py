"""Prediction with a trained model, and models read back from the folders of finished runs."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from sinet import machine, systems
from sinet.contract import Batch, Entity, Extractor, Labels, Sentence
from sinet.data.sentence import GOLD_ENTITY_RELATIONS, check_types, iter_sentences, sentence_to_json
from sinet.encoders.fast import fast_inference
from sinet.encoders.pretrained import rebuild_encoder
from sinet.errors import UserError
from sinet.files import json_line, write_lines
from sinet.infer.finished import described, run_sums
from sinet.model.batches import inference_batches
from sinet.model.prefetch import prefetched
from sinet.provenance import digest, file_sha256

log = logging.getLogger("sinet")

BATCH = 32
"""Sentences a batch; they are sorted by length."""
CHUNK = 4096
"""Sentences of a file that are in memory at once."""
AGAIN = "copy the run again, or train it"


@contextlib.contextmanager
def inference(model: Extractor, device: torch.device, precision: str) -> Iterator[None]:
    """Evaluation mode without gradients, in a precision, its weights packed for it."""
    was_training = model.training
    model.eval()
    try:
        with (
            torch.inference_mode(),
            machine.autocast(device, precision),
            fast_inference(model, getattr(torch, precision)),
        ):
            yield
    finally:
        model.train(was_training)


def predict(
    model: Extractor,
    sentences: Sequence[Sentence],
    device: torch.device,
    precision: str,
    batch_size: int = BATCH,
    gold_entities: bool = False,
) -> list[Sentence]:
    """The sentences with the model's annotations, in the order given; the model sees no gold labels.

    With `gold_entities` it sees the entities: the sentences keep them and have the relations that are decided between
    them, of a model that `takes_entities`.
    """
    found: dict[int, Sentence] = {}

    def collate(positions: list[int]) -> list[Batch]:
        unlabelled = [sentences[i].without_labels() for i in positions]
        if gold_entities:
            unlabelled = [s.with_labels(sentences[i].entities, ()) for i, s in zip(positions, unlabelled, strict=True)]
        batch = model.collate(unlabelled)
        batch.gold_entities = gold_entities
        return [batch]

    batches = inference_batches(model, sentences, batch_size)
    with inference(model, device, precision), prefetched(collate, batches, device) as prepared:
        for positions, (batch,) in prepared:
            for i, prediction in zip(positions, model.decode(batch.to(device)), strict=True):
                found[i] = sentences[i].with_labels(prediction.entities, prediction.relations)
                if gold_entities:
                    found[i] = _between(sentences[i].entities, found[i])
    return [found[i] for i in range(len(sentences))]


def _between(entities: Sequence[Entity], found: Sentence) -> Sentence:
    """Relations of decoded entities as relations of the given ones, all of which the sentence keeps, also those wider
    than what the model reads."""
    place = {(e.type, e.start, e.end): i for i, e in enumerate(entities)}
    given = [place[e.type, e.start, e.end] for e in found.entities]
    return found.with_labels(entities, [replace(r, head=given[r.head], tail=given[r.tail]) for r in found.relations])


def load_run(folder: Path, device: torch.device, settings: dict | None = None) -> tuple[Extractor, dict]:
    """The model of a finished run and its `model.json`; the folder needs nothing else, not even the encoder.

    `settings` replace some that the weights do not depend on.

    Raises:
        UserError: a file is not what it was, or the system of that name has other settings or weights by now.
    """
    made = described(folder)
    if changed := sorted(name for name, _ in made["files"].items() ^ run_sums(folder).items()):
        raise UserError(f"{folder / changed[0]}: not as it was trained (model.json has another checksum); {AGAIN}")
    with readable(folder / "tokenizer"):
        encoder = rebuild_encoder(made["encoder_config"], folder / "tokenizer")
    with readable(folder / "model.json"):
        labels, settings = Labels.from_json(made["labels"]), made["settings"] | (settings or {})
    with readable(folder / "model.safetensors"):
        weights = load_file(folder / "model.safetensors")
    if broken := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise UserError(f"{folder / 'model.safetensors'}: {broken[0]} holds what is no finite number; train it again")
    try:
        model = systems.load(made["system"])(labels, encoder, **settings)
        model.load_state_dict(weights)
    except (UserError, ImportError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{folder}: made by other code than this ({why:.300}); its training.json names the commit to read it with"
        ) from None
    return model.to(device).eval(), made


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a file of a run into a `UserError` that names it."""
    try:
        yield
    except Exception as error:  # the tokenizers' library raises no narrower kind
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read; {AGAIN} ({why:.200})") from None


def what_determines(made: dict, source: Path, *others: object) -> list:
    """All that the predictions of a file by a run depend on; `made`: its `model.json`."""
    code = digest("sinet.infer.extract", systems.module_name(made["system"]))
    return [made["files"], made["precision"], file_sha256(source), code, *others]


def _chunks(sentences: Iterable[Sentence], size: int, whole_documents: bool) -> Iterator[list[Sentence]]:
    """Lists of so many sentences; with `whole_documents` a list goes on to the end of a document."""
    given: list[Sentence] = []
    number = itertools.count()
    for _, together in itertools.groupby(sentences, lambda s: (whole_documents and s.document) or next(number)):
        given += together
        if len(given) >= size:
            yield given
            given = []
    if given:
        yield given


def predict_file(
    run: Path,
    source: Path,
    out: Path,
    at: Callable[[int], object] | None = None,
    chunk: int | None = None,
    gold_entities: bool = False,
    also_gold_entities: bool = False,
) -> None:
    """Predict a JSON-lines file with a finished run, under the precision it was trained in.

    With `gold_entities` relations are decided between the entities that the file gives. With `also_gold_entities` they
    stand beside the prediction, as GOLD_ENTITY_RELATIONS with positions among the file's entities, of a system that
    `takes_entities`.

    The file may be of any length: `chunk` sentences, by default `CHUNK`, are in memory at once. `at` is called with the
    number of sentences written after each chunk. Nothing stands at `out` before all are predicted; a prediction that
    was interrupted goes on where it was (`sinet.files.write_lines`).
    """
    device = machine.use_device()
    machine.remember_few_kernels()
    model, made = load_run(run, device)
    precision = machine.usable_precision(made["precision"], device)
    if gold_entities and not model.settings.takes_entities:
        raise UserError(f"--gold-entities: {made['system']} decides no relations between given entities")
    also_gold_entities = also_gold_entities and model.settings.takes_entities
    labelled = gold_entities or also_gold_entities
    total = 0  # a fault is told now, not after hours
    for total, sentence in enumerate(iter_sentences(source, labelled), 1):
        check_types(sentence.with_labels(sentence.entities, ()), model.labels, f"{source}: sentence {total}")
    chunk, unread = chunk or CHUNK, 0

    def records(given: list[Sentence]) -> list[dict]:
        decided = functools.partial(predict, model, given, device, precision)
        found = [sentence_to_json(sentence) for sentence in decided(gold_entities=gold_entities)]
        if also_gold_entities:
            for record, sentence in zip(found, decided(gold_entities=True), strict=True):
                record[GOLD_ENTITY_RELATIONS] = sentence_to_json(sentence)["relations"]
        return found

    def lines(done: int) -> Iterator[str]:
        nonlocal unread
        written = 0
        with tqdm(total=total, initial=done, unit="sent", desc="predict", mininterval=2) as bar:
            for given in _chunks(iter_sentences(source, labelled), chunk, model.whole_documents):
                first = max(0, done - written)
                written += len(given)
                if written <= done:
                    continue
                unread += model.truncated_words(given)
                yield from map(json_line, records(given)[first:])
                bar.update(len(given) - first)
                if at is not None:
                    at(written)

    write_lines(out, what_determines(made, source, chunk, gold_entities, also_gold_entities), chunk, lines)
    if not total:
        log.warning("%s: no sentence in it", source)
    if unread:
        log.warning("%s: %d words lie beyond what the encoder reads; nothing is found there", source, unread)
