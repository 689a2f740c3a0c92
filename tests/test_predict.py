"""Predictions of sentences: between given entities."""

import json
from dataclasses import replace

import pytest

from sinet.cli import main
from sinet.data.sentence import Entity, read_sentences, write_sentences
from tests.conftest import CORPUS


def predicted(run, source, out, *options: str) -> int:
    return main(["predict", "--run", str(run), "--input", str(source), "--output", str(out), *options])


def facts(sentence) -> set:
    """Relations by the words of their arguments."""
    spans = [(e.start, e.end, e.type) for e in sentence.entities]
    return {(r.type, spans[r.head], spans[r.tail]) for r in sentence.relations}


def test_relations_are_decided_between_the_entities_of_the_file(prepared_run, tmp_path):
    """Entities stay as they are, in their order, wider ones than the system reads as well; relations are not read."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    ten = [
        replace(s, entities=(Entity("Task", 0, len(s.tokens)), *s.entities[::-1]), relations=())
        for s in read_sentences(CORPUS)
    ]
    write_sentences(source, ten)
    assert predicted(prepared_run, source, out, "--gold-entities") == 0
    found = read_sentences(out)
    assert [s.entities for s in found] == [s.entities for s in ten]
    gold = [facts(s) for s in read_sentences(CORPUS)]
    right = sum(len(g & facts(s)) for g, s in zip(gold, found, strict=True))
    assert right > 0.7 * sum(map(len, gold)), "the run has learned them"
    write_sentences(source, [replace(s, entities=(), relations=()) for s in ten])
    assert predicted(prepared_run, source, out, "--gold-entities") == 0
    assert not any(s.entities or s.relations for s in read_sentences(out)), "none is given"


def test_relations_between_gold_entities_stand_beside_the_prediction(prepared_run, tmp_path):
    out, given, both = (tmp_path / name for name in ("out.jsonl", "given.jsonl", "both.jsonl"))
    assert predicted(prepared_run, CORPUS, out) == predicted(prepared_run, CORPUS, given, "--gold-entities") == 0
    assert predicted(prepared_run, CORPUS, both, "--also-gold-entities") == 0
    alone, between, records = ([json.loads(line) for line in path.open()] for path in (out, given, both))
    assert [record.pop("gold_entity_relations") for record in records] == [s["relations"] for s in between]
    assert records == alone


@pytest.mark.parametrize(
    "source, line, options, message",
    [
        ("in.txt", "Raw text.", ["--gold-entities"], "in.txt is raw text and gives no entities"),
        (
            "in.jsonl",
            '{"tokens": ["a"], "entities": [{"type": "Methd", "start": 0, "end": 1}]}',
            ["--gold-entities"],
            "in.jsonl: sentence 1: entities[0].type: unknown type 'Methd', did you mean 'Method'?",
        ),
        ("in.jsonl", '{"tokens": ["a"]}', ["--gold-entities", "--also-gold-entities"], "give one of them"),
    ],
)
def test_wrong_calls_with_gold_entities_are_one_line(prepared_run, tmp_path, capsys, source, line, options, message):
    (tmp_path / source).write_text(line)
    assert predicted(prepared_run, tmp_path / source, tmp_path / "out.jsonl", *options) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told
    assert main(["predict", "--run", str(prepared_run), "--text", "a", "--gold-entities"]) == 2


def test_a_system_that_cannot_is_refused(prepared_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sinet.model.settings.SpanBasedSettings.takes_entities", False)
    assert predicted(prepared_run, CORPUS, tmp_path / "out.jsonl", "--gold-entities") == 2
    assert "--gold-entities: sinet decides no relations between given entities" in capsys.readouterr().err
    assert predicted(prepared_run, CORPUS, tmp_path / "out.jsonl", "--also-gold-entities") == 0
    assert "gold_entity_relations" not in (tmp_path / "out.jsonl").read_text()
