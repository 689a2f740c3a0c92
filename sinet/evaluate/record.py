"""The record of one run: everything a table or a reader needs to know of it, in one validated JSON file."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from sinet.data.convert import Account
from sinet.data.decode import decoded, utf8_lines
from sinet.data.external import read_predictions, said_of, unknown_types
from sinet.data.formats import read
from sinet.data.sentence import (
    GOLD_ENTITY_RELATIONS,
    Labels,
    Sentence,
    parse_sentence,
    read_sentences,
    sentence_to_json,
    write_sentences,
)
from sinet.errors import UserError, nearest
from sinet.evaluate.analyse import analyse
from sinet.evaluate.metrics import REL_GOLD_ENTITIES, score
from sinet.files import read_sealed, write_sealed, write_sum
from sinet.grid import recipes
from sinet.grid.plan import Plan
from sinet.provenance import file_sha256
from sinet.schema import EXTERNAL, ExternalRecord, Record, RunSpec

log = logging.getLogger("sinet")


def read_pair(
    gold: Path, predictions: Path, labels: Path | None, symmetric: list[str] | None
) -> tuple[list[Sentence], list[Sentence], Labels]:
    """Gold and predicted sentences in any known form, and their label inventory: that in `labels`, or else beside the
    gold; where there is none, the types that occur, with the given symmetric ones.

    Where there is none, predicted types that the gold lacks are reported and count as wrong.

    Raises:
        UserError: a file that cannot be read, a type that the labels lack, symmetric types that do not occur, or both
        labels and symmetric types given.
    """
    if labels and symmetric is not None:
        raise UserError("--symmetric: --labels says that already; give one of them")
    beside = gold.parent / "labels.json"
    if labels and not labels.is_file():
        raise UserError(f"--labels: {labels} does not exist; give the labels.json of the dataset, or --symmetric")
    declared = None
    if labels or (symmetric is None and beside.is_file()):
        declared = Labels.read(labels or beside)
    wanted, found = read(gold, None, declared), read(predictions, None, declared)
    if declared:
        return wanted, found, declared
    if symmetric is None:
        log.warning("%s is missing: every relation type counts as directed; name others by --symmetric", beside)
    _report(predictions, unknown_types(found, Labels.occurring(wanted)))
    occurring = Labels.occurring([*wanted, *found])
    relations = occurring.relation_types
    if unknown := sorted(set(symmetric or ()) - set(relations)):
        raise UserError(
            f"--symmetric: {unknown[0]!r} is not a relation type of these files, {nearest(unknown[0], relations)}"
        )
    return wanted, found, replace(occurring, symmetric=frozenset(symmetric or ()))


def _report(predictions: Path, unknown: Counter[str]) -> None:
    if unknown:
        log.warning("%s: %s", predictions, said_of(unknown))


def between_gold(gold: list[Sentence], predictions: Path) -> list[Sentence] | None:
    """The gold sentences with the relations that were decided between their entities; None where a prediction has none
    such, of a system that decides none or of an older archive.

    Raises:
        UserError: what is no relation between entities of its sentence.
    """
    records: list[Any] = [decoded(line, str(predictions)) for _, line in utf8_lines(predictions) if line.strip()]
    if not all(GOLD_ENTITY_RELATIONS in record for record in records):
        return None
    return [
        parse_sentence(sentence_to_json(g) | {"relations": record[GOLD_ENTITY_RELATIONS]}, f"{predictions}:{n}", g.id)
        for n, (g, record) in enumerate(zip(gold, records, strict=True), 1)
    ]


def evaluate(run: Path, data: Path) -> None:
    """Write a run's `record.json`, what training left behind with the scores of its predictions of the test split, and
    `analysis.json` into its folder.

    Raises:
        UserError: predictions of other sentences. pydantic.ValidationError: a record that is not of the documented
        form.
    """
    trained = read_sealed(run / "training.json", "run")
    spec = RunSpec.model_validate(trained.pop("run"))
    gold, labels = read_sentences(data / "test.jsonl"), Labels.read(data / "labels.json")
    predictions = run / "predictions.jsonl"
    found = read_sentences(predictions)
    scores = score(gold, found, labels)
    if decided := between_gold(gold, predictions):
        for matching, figures in score(gold, decided, labels).items():
            scores[matching][REL_GOLD_ENTITIES] = figures["rel_plus"]
    made = {
        **spec.model_dump(),
        "encoder": spec.encoder_name,
        "split": "test",
        "selection": recipes.selection(spec.recipe),
        "scores": scores,
        "test_sentences": len(gold),
        **trained,
    }
    Record.model_validate(made)
    write_sealed(run / "analysis.json", analyse(gold, found, labels, read_sentences(data / "train.jsonl")))
    write_sealed(run / "record.json", made)


def evaluate_external(plan: Plan, run: str) -> None:
    """Write what a run that is given by predictions is for the tables: `predictions.jsonl`, `record.json` and
    `analysis.json` in its folder.

    Raises:
        UserError: predictions that cannot be read, or of other sentences than the prepared test split's.
    """
    dataset, encoder, model, seed = run.split("/")
    data, file = plan.results / "data" / dataset, Path(plan.predictions(run))
    gold, labels, account = read_sentences(data / "test.jsonl"), Labels.read(data / "labels.json"), Account()
    found = read_predictions(file, gold, labels, account)
    for place in account.places:
        log.warning("%s", place)
    unknown = unknown_types(found, labels)
    _report(file, unknown)
    declared = plan.config.models[model]
    made = {
        **{"dataset": dataset, "encoder": encoder, "model": model, "seed": int(seed), "system": EXTERNAL},
        **{"recipe": {"name": plan.runs[run]}, "split": "test", "dev": {}, "maker": declared.maker},
        **{"date": declared.date, "file": str(file), "sha256": file_sha256(file), "test_sentences": len(gold)},
        **{"lost": dict(+account.lost), "changed": dict(+account.changed), "unknown_types": dict(unknown)},
        "scores": score(gold, found, labels),
    }
    ExternalRecord.model_validate(made)
    out = plan.file(run, "predictions.jsonl")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_sentences(out, found)
    write_sum(out)
    write_sealed(plan.file(run, "analysis.json"), analyse(gold, found, labels, read_sentences(data / "train.jsonl")))
    write_sealed(plan.file(run, "record.json"), made)
