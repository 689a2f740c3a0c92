"""Sentences longer than the encoder, from training to scores: what does not fit is not found, and counts as missed."""

import json

from sinet.cli import main
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, write_sentences
from sinet.model.sinet import System
from sinet.train.trainer import train_run
from tests.conftest import CORPUS, LABELS, spec, tiny_run

ROOM = 158
"""Word pieces that the tiny encoder reads besides [CLS] and [SEP]; the words here have one piece each."""


def test_gold_beyond_the_encoder_counts_as_missed(tiny_mirror, tmp_path, capsys, caplog):
    ten = read_sentences(CORPUS)
    base = ten[0]
    assert base.entities and base.relations, "the sentence that is repeated has something to find"
    copies = ROOM // len(base.tokens) + 2
    shifted = [
        [Entity(e.type, e.start + i * len(base.tokens), e.end + i * len(base.tokens)) for e in base.entities]
        for i in (0, copies - 1)
    ]
    n = len(base.entities)
    relations = [Relation(r.type, r.head + i * n, r.tail + i * n) for i in (0, 1) for r in base.relations]
    # the same sentence again and again: annotated where the encoder reads it, and where it does not
    long = Sentence("long", base.tokens * copies, (*shifted[0], *shifted[1]), tuple(relations))
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "dev", "test"):
        write_sentences(data / f"{split}.jsonl", [*ten, long])
    (data / "labels.json").write_text(json.dumps(LABELS.to_json()))

    settings = System.test_settings | {"dropout": 0.0, "attention_dropout": 0.0}
    run = tiny_run(settings, 0, epochs=3, batch_size=5, weight_decay=0.0, selection="last")
    train_run(spec(run), data, tmp_path / "run", tmp_path / "state", [tiny_mirror])
    beyond = len(long.tokens) - ROOM
    assert f"{beyond} words of the training sentences lie beyond what the encoder reads" in caplog.text
    trained = json.loads((tmp_path / "run" / "training.json").read_text())
    assert trained["truncated_words"] == 2 * beyond, "train and dev"

    test, predictions, scores = data / "test.jsonl", tmp_path / "p.jsonl", tmp_path / "s.json"
    assert main(["predict", "--run", str(tmp_path / "run"), "--input", str(test), "--out", str(predictions)]) == 0
    assert f"{beyond} words lie beyond what the encoder reads; nothing is found there" in capsys.readouterr().err
    found = read_sentences(predictions)
    assert found[-1].tokens == long.tokens, "no word is dropped"
    assert all(e.end <= ROOM for e in found[-1].entities)

    # whatever the model has learned: put in the best that any model could say
    within = long.with_labels(shifted[0], relations[: len(base.relations)])
    write_sentences(predictions, [*ten, within])
    assert main(["score", "--gold", str(test), "--predictions", str(predictions), "--out", str(scores)]) == 0
    for metric, missed, of in (
        ("ent", n, sum(len({(e.type, e.start, e.end) for e in s.entities}) for s in (*ten, long))),
        ("rel_plus", len(base.relations), None),
    ):
        figures = json.loads(scores.read_text())["directed"][metric]
        assert figures["gold"] - figures["correct"] == missed and figures["precision"] == 100
        assert figures["recall"] < 100 and (of is None or figures["gold"] == of)
