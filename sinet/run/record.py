"""The record of one run: everything a table or a reader needs to know of it, in one validated JSON file."""

import json
from pathlib import Path

import jsonschema
import yaml

from sinet.data.sentence import Labels, read_sentences
from sinet.files import write_json
from sinet.provenance import ROOT
from sinet.score.metrics import score

SCHEMA = ROOT / "workflow" / "schemas" / "record.schema.yaml"


def score_files(gold: Path, predictions: Path, labels: Labels) -> dict:
    """Scores of a predictions file against a gold file, by reading and metric."""
    return score(read_sentences(gold), read_sentences(predictions), labels)


def collect(training: Path, scores: Path, test: Path, out: Path) -> None:
    """Join what training and scoring left behind into `record.json`.

    Raises:
        jsonschema.ValidationError: a record that is not of the documented form.
    """
    trained = json.loads(training.read_text(encoding="utf-8"))
    run = trained.pop("run")
    record = {
        "dataset": run["dataset"],
        "encoder": run["encoder"]["name"],
        "model": run["model"],
        "system": run["system"],
        "seed": run["seed"],
        "settings": run["settings"],
        "recipe": run["recipe"],
        "split": test.stem,
        "selection": run["recipe"]["selection"],
        "scores": json.loads(scores.read_text(encoding="utf-8")),
        "test_sentences": len(read_sentences(test)),
        **trained,
    }
    jsonschema.validate(record, yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    write_json(out, record)
