"""Predictions of sentences: between given entities, and at thresholds chosen on dev."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import sinet
from sinet import systems
from sinet.cli import main
from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, write_sentences
from sinet.evaluate import metrics, thresholds
from sinet.files import read_sealed, write_sealed
from sinet.infer.predict import predict, relation_candidates
from tests.conftest import CORPUS, LABELS


def predicted(run, source, out, *options: str) -> int:
    return main(["predict", "--run", str(run), "--input", str(source), "--out", str(out), *options])


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


# -- thresholds ------------------------------------------------------------------------------------------------------


def at(thresholds: dict[str, float], candidates, symmetric) -> list[set]:
    """What is predicted of candidates, by the definition."""
    kept = (s.with_labels(s.entities, [r for r in s.relations if r.score >= thresholds[r.type]]) for s in candidates)
    return [metrics.facts(s, "rel_plus", symmetric) for s in kept]


def f1(gold, found) -> float:
    right = sum(len(g & p) for g, p in zip(gold, found, strict=True))
    return 200 * right / (sum(map(len, gold)) + sum(map(len, found)))


def test_no_thresholds_are_better_than_those_chosen():
    """Against every cut of three types with few candidates, some scores equal, one type symmetric, one without gold."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        gold, candidates = [], []
        for i in range(4):
            words = tuple("abcd")
            entities = tuple(Entity("Method", n, n + 1) for n in range(3))
            pairs = [(h, t) for h in range(3) for t in range(3) if h != t]
            kinds = ("Used-for", "Compare", "Never-seen")
            wanted = [Relation(k, *p) for k in kinds[:2] for p in pairs if generator.random() < 0.2]
            scored = [Relation(k, *p, generator.integers(1, 20) / 20) for k in kinds for p in pairs]
            gold.append(Sentence(str(i), words, entities, tuple(wanted)))
            candidates.append(Sentence(str(i), words, entities, tuple(r for r in scored if generator.random() < 0.15)))
        true = [metrics.facts(s, "rel_plus", LABELS.symmetric) for s in gold]
        of = thresholds.claims(gold, candidates, LABELS)
        chosen = thresholds.choose(of, default=0.5)
        assert chosen["Never-seen"] == 0.5 and all(0 < x <= 1 for x in chosen.values())
        cuts = np.arange(21) / 20 + 0.025
        best = max(
            f1(true, at(chosen | {"Used-for": a, "Compare": b}, candidates, LABELS.symmetric))
            for a in cuts
            for b in cuts
        )
        assert f1(true, at(chosen, candidates, LABELS.symmetric)) == pytest.approx(best)
        correct, predicted, wanted = thresholds.counts(of, chosen)
        assert 200 * correct / (predicted + wanted) == pytest.approx(best), "what is stored is what is predicted"


@pytest.mark.parametrize("system", ["sinet", "spert", "span_multihead", "pfn"])
def test_a_system_predicts_at_its_thresholds_by_type(system, tiny_encoder):
    """Candidates cut at thresholds are what is decoded at them; one above 1 leaves nothing of its type."""
    made = systems.load(system)
    torch.manual_seed(0)
    model = made(LABELS, tiny_encoder, **made.test_settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.normal_(std=0.2)
    ten, where = read_sentences(CORPUS)[:5], torch.device("cpu")
    candidates = relation_candidates(model, ten, where, "float32")
    assert model.labels == LABELS and model.relation_thresholds is None
    chosen = dict(zip(LABELS.relation_types, (0.45, 0.55, 0.5, 2.0), strict=True))
    model.relation_thresholds = torch.tensor([*chosen.values()])
    found = [metrics.facts(s, "rel_plus", LABELS.symmetric) for s in predict(model, ten, where, "float32")]
    assert found == at(chosen, candidates, LABELS.symmetric)
    kinds = {fact[0] for facts in found for fact in facts}
    assert kinds and "Never-seen" not in kinds


def test_thresholds_are_chosen_on_dev_and_predicted_with(prepared_run, prepared, tmp_path, capsys):
    run, data = shutil.copytree(prepared_run, tmp_path / "run"), shutil.copytree(prepared, tmp_path / "data")
    (data / "test.jsonl").unlink()
    assert main(["thresholds", "--run", str(run), "--data", str(data)]) == 0
    assert "Rel+ F1 on dev (10 sentences): " in capsys.readouterr().out
    made = read_sealed(run / "thresholds.json")
    assert set(made["thresholds"]) == set(LABELS.relation_types)
    own, chosen = made["rel_plus"].values()
    assert chosen["f1"] >= own["f1"] > 0 and all(run.joinpath(f"thresholds.{e}").stat().st_size for e in ("png", "pdf"))
    curve = list(csv.DictReader((run / "thresholds.csv").open()))
    (half,) = (row for row in curve if float(row["threshold"]) == 0.5)
    assert [float(half[k]) for k in metrics.FIGURES] == pytest.approx([own[k] for k in metrics.FIGURES], abs=1e-4)
    assert sum(b["candidates"] for b in made["calibration"]) >= chosen["predicted"]

    out = tmp_path / "out.jsonl"
    for options, wanted in (
        (["--thresholds", str(run / "thresholds.json")], chosen),
        (["--threshold", "0.5"], own),
        ([], own),
    ):
        assert predicted(run, CORPUS, out, *options) == 0
        scored = metrics.score(read_sentences(CORPUS), read_sentences(out), LABELS)["symmetric"]["rel_plus"]
        assert {k: scored[k] for k in wanted} == wanted
    assert not any(s.relations for s in sinet.load(run, 1.0).predict("We use neural parsers for semantic parsing ."))
    stored = sinet.load(run, str(run / "thresholds.json")).model.relation_thresholds
    assert stored.tolist() == pytest.approx([made["thresholds"][kind] for kind in LABELS.relation_types])
    assert predicted(run, CORPUS, out, "--threshold", "1") == 0
    assert not any(s.relations for s in read_sentences(out))


def test_wrong_thresholds_are_one_line(prepared_run, prepared, tmp_path, capsys, monkeypatch):
    run, data, out = shutil.copytree(prepared_run, tmp_path / "run"), str(prepared), tmp_path / "out.jsonl"

    def refused(message: str, status: int) -> None:
        assert status == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line

    write_sealed(other := tmp_path / "other.json", {"thresholds": {}, "files": {}})
    refused("chosen for another run", predicted(run, CORPUS, out, "--thresholds", str(other)))
    refused("should lie between 0 and 1", predicted(run, CORPUS, out, "--threshold", "1.5"))
    refused("give one of them", predicted(run, CORPUS, out, "--threshold", "0.5", "--thresholds", str(other)))
    asked = ["thresholds", "--run", str(run), "--data"]
    labels = {"entity_types": ["Method"], "relation_types": ["Used-for"]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    refused("has other types than the run", main([*asked, str(tmp_path)]))
    write_sealed(run / "training.json", read_sealed(run / "training.json") | {"trained_on": "train+dev"})
    refused("was trained on dev as well", main([*asked, data]))
    made = read_sealed(run / "model.json")
    write_sealed(run / "model.json", made | {"system": "pure"})
    refused("pure takes the best relation of a pair; it has no threshold", main([*asked, data]))
