"""Prediction with a trained model, and models read back from the folders of finished runs."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from sinet import machine, systems
from sinet.contract import Batch, Entity, Extractor, Labels, Sentence
from sinet.data.sentence import GOLD_ENTITY_RELATIONS, check_types, iter_sentences, sentence_to_json
from sinet.encoders.fast import fast_inference
from sinet.encoders.pretrained import rebuild_encoder
from sinet.errors import UserError
from sinet.evaluate.metrics import precision_recall
from sinet.evaluate.thresholds import LEAST, Claims, calibration, choose, claims, counts, curve
from sinet.files import json_line, read_sealed, write_lines
from sinet.infer.finished import AGAIN, check_as_trained, check_has_thresholds, described
from sinet.model.batches import inference_batches
from sinet.model.prefetch import prefetched
from sinet.provenance import digest, file_sha256

log = logging.getLogger("sinet")

BATCH = 32
"""Sentences a batch; they are sorted by length."""
CHUNK = 4096
"""Sentences of a file that are in memory at once."""
T = TypeVar("T")
Thresholds = float | Path | str | None
"""Of relations: one for all types, a file that `sinet thresholds` wrote, or the system's own."""


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
                said = replace(sentences[i].without_parse(), coreference=prediction.coreference)  # not gold clusters
                found[i] = said.with_labels(prediction.entities, prediction.relations)
                if gold_entities:
                    found[i] = _between(sentences[i].entities, found[i])
    return [found[i] for i in range(len(sentences))]


def _between(entities: Sequence[Entity], found: Sentence) -> Sentence:
    """Relations of decoded entities as relations of the given ones, all of which the sentence keeps, also those wider
    than what the model reads."""
    place = {(e.type, e.start, e.end): i for i, e in enumerate(entities)}
    given = [place[e.type, e.start, e.end] for e in found.entities]
    return found.with_labels(entities, [replace(r, head=given[r.head], tail=given[r.tail]) for r in found.relations])


def relation_candidates(
    model: Extractor, sentences: Sequence[Sentence], device: torch.device, precision: str
) -> list[Sentence]:
    """The sentences with predicted entities and, of a model with relation thresholds, every relation between them that
    scores `sinet.evaluate.thresholds.LEAST`, both directions of a symmetric one."""
    labels = model.labels
    model.relation_thresholds = torch.full([len(labels.relation_types)], LEAST, device=device)
    model.labels = replace(labels, symmetric=frozenset())
    try:
        return predict(model, sentences, device, precision)
    finally:
        model.relation_thresholds, model.labels = None, labels


def load_run(folder: Path, device: torch.device, thresholds: Thresholds = None) -> tuple[Extractor, dict]:
    """The model of a finished run and its `model.json`; the folder needs nothing else, not even the encoder.

    `thresholds` of relations take the place of the system's own.

    Raises:
        UserError: a file is not what it was, the system of that name has other settings or weights by now, or it has no
        such thresholds.
    """
    made = described(folder)
    check_as_trained(folder, made)
    with readable(folder / "tokenizer"):
        encoder = rebuild_encoder(made["encoder_config"], folder / "tokenizer")
    with readable(folder / "model.json"):
        labels = Labels.from_json(made["labels"])
    with readable(folder / "model.safetensors"):
        weights = load_file(folder / "model.safetensors")
    if broken := [name for name, weight in weights.items() if not weight.isfinite().all()]:
        raise UserError(f"{folder / 'model.safetensors'}: {broken[0]} holds what is no finite number; train it again")
    try:
        model = systems.load(made["system"])(labels, encoder, **made["settings"])
        model.load_state_dict(weights)
    except (UserError, ImportError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{folder}: made by other code than this ({why:.300}); its training.json names the commit to read it with"
        ) from None
    if thresholds is not None:
        check_has_thresholds(folder)
        model.relation_thresholds = torch.tensor(_by_type(thresholds, made, labels), device=device)
    return model.to(device).eval(), made


def _by_type(thresholds: float | Path | str, made: dict, labels: Labels) -> list[float]:
    if isinstance(thresholds, int | float):
        if not 0 <= thresholds <= 1:
            raise UserError(f"--threshold {thresholds:g}: should lie between 0 and 1")
        return [float(thresholds)] * len(labels.relation_types)
    chosen = read_sealed(Path(thresholds), "thresholds", "files")
    if chosen["files"] != made["files"]:
        raise UserError(f"--thresholds {thresholds}: chosen for another run; choose them with `sinet thresholds`")
    return [chosen["thresholds"][kind] for kind in labels.relation_types]


def choose_thresholds(run: Path, dev: Sequence[Sentence]) -> dict:
    """The thresholds of a run's relation types that are best on its dev split, `rel_plus` there with the system's own
    and with them, `curve` and `calibration` (`sinet.evaluate.thresholds`), and the `files` of the run."""
    model, made, of = _dev_claims(run, dev)
    own = float(model.relation_threshold)
    chosen = choose(of, own)
    points = {f"the system's {own:g}": dict.fromkeys(of, own), "thresholds by type": chosen}
    return {
        "thresholds": chosen,
        "split": "dev",
        "sentences": len(dev),
        "rel_plus": {name: precision_recall(*counts(of, t)[[2, 1, 0]].tolist()) for name, t in points.items()},
        "curve": curve(of),
        "calibration": calibration(of),
        "files": made["files"],
    }


def dev_curve(run: Path, dev: Sequence[Sentence]) -> list[dict[str, float]]:
    """Precision, recall and F1 of Rel+ on dev at each common threshold of a run's relations."""
    return curve(_dev_claims(run, dev)[2])


def _dev_claims(run: Path, dev: Sequence[Sentence]) -> tuple[Extractor, dict, dict[str, Claims]]:
    device = machine.use_device()
    model, made = load_run(run, device)
    precision = machine.usable_precision(made["precision"], device)
    return model, made, claims(dev, relation_candidates(model, dev, device, precision), model.labels)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong with a file of a run into a `UserError` that names it."""
    try:
        yield
    except Exception as error:  # the tokenizers' library raises no narrower kind
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: cannot be read; {AGAIN} ({why:.200})") from None


def what_determines(model: Extractor, made: dict, source: Path, *others: object) -> list:
    """All that the predictions of a file by a run depend on; `made`: its `model.json`."""
    code = digest("sinet.infer.extract", systems.module_name(made["system"]))
    thresholds = None if model.relation_thresholds is None else model.relation_thresholds.tolist()
    return [made["files"], made["precision"], thresholds, file_sha256(source), code, *others]


def chunks(items: Iterable[T], size: int, document: Callable[[T], str | None] | None) -> Iterator[list[T]]:
    """Lists of so many items; with `document`, which names that of an item, a list goes on to the end of one."""
    given: list[T] = []
    number = itertools.count()

    def together(item: T) -> str | int:
        name = document(item) if document else None
        return next(number) if name is None else name

    for _, run in itertools.groupby(items, together):
        given += run
        if len(given) >= size:
            yield given
            given = []
    if given:
        yield given


def predict_file(
    run: Path,
    source: Path,
    out: Path | None,
    at: Callable[[int], object] | None = None,
    chunk: int | None = None,
    gold_entities: bool = False,
    also_gold_entities: bool = False,
    thresholds: Thresholds = None,
) -> None:
    """Predict a JSON-lines file with a finished run, under the precision it was trained in.

    With `gold_entities` relations are decided between the entities that the file gives. With `also_gold_entities` they
    stand beside the prediction, as GOLD_ENTITY_RELATIONS with positions among the file's entities, of a system that
    `takes_entities`.

    The file may be of any length: `chunk` sentences, by default `CHUNK`, are in memory at once. `at` is called with the
    number of sentences written after each chunk. Nothing stands at `out` before all are predicted; a prediction that
    was interrupted goes on where it was (`sinet.files.write_lines`). Without `out` the lines are printed.
    """
    device = machine.use_device()
    machine.remember_few_kernels()
    model, made = load_run(run, device, thresholds)
    precision = machine.usable_precision(made["precision"], device)
    if gold_entities and not model.settings.takes_entities:
        raise UserError(f"--gold-entities: {made['system']} decides no relations between given entities")
    also_gold_entities = also_gold_entities and model.settings.takes_entities
    labelled = gold_entities or also_gold_entities
    total = alone = 0  # a fault is told now, not after hours
    for total, sentence in enumerate(iter_sentences(source, labelled), 1):
        alone += sentence.document is None
        check_types(sentence.with_labels(sentence.entities, ()), model.labels, f"{source}: sentence {total}")
    if alone and model.settings.whole_documents:
        log.warning(
            "%s: %d sentences name no document, of which %s reads them; each is read by itself",
            source,
            alone,
            made["system"],
        )
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
            whole = model.settings.whole_documents
            for given in chunks(iter_sentences(source, labelled), chunk, (lambda s: s.document) if whole else None):
                first = max(0, done - written)
                written += len(given)
                if written <= done:
                    continue
                unread += model.truncated_words(given)
                yield from map(json_line, records(given)[first:])
                bar.update(len(given) - first)
                if at is not None:
                    at(written)

    asked = chunk, gold_entities, also_gold_entities
    if out is None:
        for line in lines(0):
            print(line, end="")
    else:
        write_lines(out, what_determines(model, made, source, *asked), chunk, lines)
    if not total:
        log.warning("%s: no sentence in it", source)
    if unread:
        log.warning("%s: %d words lie beyond what the encoder reads; nothing is found there", source, unread)
