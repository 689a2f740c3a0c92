"""Systems of another kind: one that learns nothing, and one that reads whole documents."""

import csv
import json
import shutil
from dataclasses import replace
from typing import ClassVar

import pytest

from sinet import systems
from sinet.__main__ import main
from sinet.contract import Batch, Entity, Extractor, Prediction
from sinet.data.sentence import read_sentences, write_sentences
from sinet.efficiency.cost import Work, run_cost
from sinet.errors import Interrupted, UserError
from sinet.infer.predict import predict_file
from sinet.model.settings import Settings
from sinet.train.trainer import Data, train_run
from tests.conftest import spec, tiny_run


class Dictionary(Extractor):
    """Every "parsers" is a Method."""

    citation = "Nobody, 2000: A dictionary of one word"

    def __init__(self, labels, encoder):
        super().__init__(labels, encoder)
        encoder.requires_grad_(False)

    def collate(self, sentences):
        return Batch(sentences, self.encoder.collate(sentences).tensors())

    def decode(self, batch):
        words = [[i for i, word in enumerate(s.tokens) if word == "parsers"] for s in batch.sentences]
        return [Prediction(tuple(Entity("Method", i, i + 1) for i in found)) for found in words]


def test_a_system_without_training_predicts_and_is_scored(prepared, tiny_mirror, tmp_path, monkeypatch, tiny_encoder):
    monkeypatch.setattr(systems, "load", lambda name: Dictionary)
    run = spec(tiny_run({}, 0, epochs=3, selection="dev_ent", encoder_lr=None))
    out = tmp_path / "run"
    for _ in range(2):  # the second time it is taken from its state
        train_run(run, prepared, out, tmp_path / "state", [tiny_mirror])
    trained = json.loads((out / "training.json").read_text())
    (row,) = csv.DictReader((out / "log.csv").open())
    gold, predictions, scores = prepared / "test.jsonl", tmp_path / "p.jsonl", tmp_path / "s.json"
    assert main(["predict", "--run", str(out), "--input", str(gold), "--out", str(predictions)]) == 0
    assert main(["score", "--gold", str(gold), "--predictions", str(predictions), "--out", str(scores)]) == 0
    ent = json.loads(scores.read_text())["symmetric"]["ent"]
    words = [word for sentence in read_sentences(gold) for word in sentence.tokens]
    assert ent["predicted"] == words.count("parsers") > 0
    assert trained["selected_epoch"] == 0 and trained["dev"]["ent"] == ent["f1"] == pytest.approx(float(row["dev_ent"]))
    assert trained["seconds"]["train"] == 0 and row["epoch"] == "0"
    cost = run_cost(run, Data.read(prepared), tiny_encoder.to("meta"))
    assert cost.work == Work() and cost.steps == 0


class WholeDocuments(Settings):
    """Of a system that reads documents."""

    @property
    def whole_documents(self) -> bool:
        return True


class Documents(Dictionary):
    """The same, of a document at a time."""

    Settings = WholeDocuments
    seen: ClassVar[list] = []

    def decode(self, batch):
        self.seen.append([sentence.id for sentence in batch.sentences])
        return super().decode(batch)


def test_documents_are_batches_and_are_not_cut_by_an_interruption(prepared, tiny_mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "load", lambda name: Documents)
    with pytest.raises(UserError, match="it reads whole documents; write batch_size: document"):
        train_run(spec(tiny_run({}, 0)), prepared, tmp_path / "run", tmp_path / "state", [tiny_mirror])
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    ten = [s.without_labels() for s in read_sentences(data / "test.jsonl")]
    names = ("a", "a", "a", None, None, "b", "b", "c", "c", "c")
    for split, missing in (("train", "d"), ("dev", None), ("test", None)):
        sentences = [replace(s, document=d or missing) for s, d in zip(ten, names, strict=True)]
        write_sentences(data / f"{split}.jsonl", sentences)
    run = spec(tiny_run({}, 0, batch_size="document", order="data", selection="dev_ent", encoder_lr=None))
    train_run(run, data, tmp_path / "run", tmp_path / "state", [tiny_mirror])
    documents = [[s.id for s in ten[a:b]] for a, b in ((0, 3), (3, 4), (4, 5), (5, 7), (7, 10))]
    assert Documents.seen == documents, "dev"

    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    predict_file(tmp_path / "run", data / "test.jsonl", whole, chunk=2)

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    Documents.seen.clear()
    with pytest.raises(Interrupted):
        predict_file(tmp_path / "run", data / "test.jsonl", cut, at=interrupt, chunk=2)
    assert Documents.seen == documents[:1]
    predict_file(tmp_path / "run", data / "test.jsonl", cut, chunk=2)
    assert Documents.seen[1:] == documents, "the first one, of which two of three sentences were written, again"
    assert cut.read_bytes() == whole.read_bytes() and len(read_sentences(cut)) == 10
