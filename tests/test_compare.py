"""Comparisons of a grid: which are made, and on what."""

import json
from dataclasses import replace

import numpy as np
import pytest

from sinet.cli import main
from sinet.data.sentence import read_sentences, write_sentences
from sinet.errors import UserError
from sinet.evaluate import stats
from sinet.evaluate.compare import Scored, compare, pairs_to_compare, read_runs, sentence_counts
from sinet.evaluate.metrics import METRICS, figures, score
from sinet.files import write_sealed
from tests.conftest import CORPUS, LABELS, tiny_plan

MODELS = {
    "ours": {"published": "SINET", "setting": "Base+TAP+CTAM"},
    "other": {},
    "base": {"setting": "Base"},
    "tap": {"setting": "Base+TAP"},
}
DECLARED = {
    "models": MODELS,
    "datasets": {"d": {}, "f-0": {"fold_of": "f"}, "f-1": {"fold_of": "f"}},
    "skipped": [],
    "failed": [],
}


def scored(model: str, seed: int, correct: float, dataset: str = "d") -> Scored:
    """A run that finds a share of the claims of 200 sentences."""
    random = np.random.default_rng([seed, *model.encode(), *dataset.encode()])
    gold = np.random.default_rng(0).integers(0, 5, size=(len(METRICS), 200))
    counts = np.stack([random.binomial(gold, correct), gold, gold], axis=-1)
    return Scored(dataset, "e", "r", model, seed, counts, "sentence")


def test_pairs():
    made = [("system", "ours", "other"), ("ablation", "ours", "base"), ("ablation", "ours", "tap")]
    assert pairs_to_compare(MODELS) == [*made, ("ablation", "tap", "base")]
    each = pairs_to_compare({"a": {}, "b": {}, "c": {}})
    assert each == [("system", "a", "b"), ("system", "a", "c"), ("system", "b", "c")]


def test_a_better_system_is_found_and_an_equal_one_is_not():
    runs = [scored(m, s, q) for m, q in (("ours", 0.7), ("other", 0.5), ("base", 0.7)) for s in range(3)]
    made = compare(runs, DECLARED, resamples=2000)
    assert made["family"] == len(made["comparisons"]) == 6, "two pairs, three metrics; tap was not run"
    assert all(c["tested"] for c in made["comparisons"])
    for c in made["comparisons"]:
        assert (c["p_holm"] < stats.LEVEL) == (c["other"] == "other")
        assert c["interval"][0] < c["difference"] < c["interval"][1]
        low, high = c["bootstrap"]["interval"]
        assert c["interval"][0] < low < c["difference"] < high < c["interval"][1], "other runs differ by more"
        assert c["p"] <= c["p_holm"] and 0 <= c["aso"] <= 1
        half = c["interval"][1] - c["difference"]
        assert c["detectable"] > half, "80 % power, at the level of six comparisons"
        assert len(c["f1"]) == len(c["other_f1"]) == 3


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_runs_are_not_tested(seeds):
    runs = [scored("ours", s, 0.7) for s in range(3)] + [scored("other", s, 0.5) for s in range(seeds)]
    runs += [scored("base", s, 0.5) for s in range(3)]
    made = compare(runs, DECLARED, resamples=500)
    for c in made["comparisons"]:
        assert c["bootstrap"]["p"] < 0.01 and c["bootstrap"]["interval"][0] > 0
        assert (c["p"] is c["interval"] is None) == (c["other"] == "other") and (c["aso"] is None) == (c["p"] is None)
        assert (c["p_holm"] is None) == (c["detectable"] is None) == (c["other"] == "other")
    assert made["family"] == 3, "what is not tested costs the others nothing"


def test_many_comparisons_can_all_be_significant():
    shares = {f"m{i}": 0.1 + 0.2 * i for i in range(5)}
    runs = [scored(model, s, share) for model, share in shares.items() for s in range(3)]
    made = compare(runs, DECLARED | {"models": {model: {} for model in shares}}, resamples=200)
    assert made["family"] == 3 * 10 and all(c["p_holm"] < stats.LEVEL for c in made["comparisons"])


def test_order_over_five_seeds():
    runs = [scored(m, s, q) for m, q in (("ours", 0.7), ("other", 0.5)) for s in range(5)]
    for c in compare(runs, DECLARED, resamples=100)["comparisons"]:
        assert c["aso"] < stats.ORDERED and c["aso_of_other"] > 0.5


def test_order_is_corrected_for_both_directions(monkeypatch):
    corrected = []
    monkeypatch.setattr(stats, "almost_stochastic_order", lambda a, b, comparisons: corrected.append(comparisons))
    compare([scored(m, s, q) for m, q in (("ours", 0.7), ("other", 0.5)) for s in range(5)], DECLARED, resamples=10)
    assert corrected == [6] * 6, "three metrics, two directions"


def test_folds_are_one_dataset_and_must_be_complete():
    runs = [scored(m, 0, q, d) for m, q in (("ours", 0.7), ("other", 0.5)) for d in ("f-0", "f-1")]
    (ent, *_) = compare(runs, DECLARED, resamples=500)["comparisons"]
    each = [figures(run.counts[0].sum(0))[2] for run in runs]
    assert ent["dataset"] == "f" and ent["seeds"] == [0]
    assert ent["difference"] == pytest.approx(np.mean(each[:2]) - np.mean(each[2:]))
    with pytest.raises(UserError, match="f-1: other has no run of seed 0"):
        compare(runs[:3], DECLARED, resamples=10)


def test_what_was_skipped_is_not_compared():
    runs = [scored(m, s, 0.6) for m in ("ours", "other") for s in range(2)]
    made = compare(runs, DECLARED | {"skipped": [["d/e/other/2", "no memory"]]}, resamples=10)
    assert made["comparisons"] == []
    assert [(c["other"], c["why"]) for c in made["not_compared"]] == [("other", "runs of other have no result")]


def test_a_fold_that_failed_is_not_compared_and_stops_nothing():
    runs = [scored(m, 0, 0.6, d) for m in ("ours", "other", "base") for d in ("f-0", "f-1")]
    made = compare(runs[:3] + runs[4:], DECLARED | {"failed": [["f-1/e/other/0", "no memory"]]}, resamples=10)
    assert {c["other"] for c in made["comparisons"]} == {"base"}
    assert [(c["other"], c["why"]) for c in made["not_compared"]] == [("other", "runs of other have no result")]


def test_counts_are_the_scorers():
    gold = read_sentences(CORPUS)
    predicted = [s.with_labels(s.entities, s.relations[1:]) for s in gold]
    counts = sentence_counts(gold, predicted, LABELS.symmetric).sum(1)
    figures = score(gold, predicted, LABELS)["symmetric"]
    for metric, (correct, claimed, true) in zip(METRICS, counts.tolist(), strict=True):
        of = figures[metric]
        assert (of["correct"], of["predicted"], of["gold"]) == (correct, claimed, true)


def test_the_step_reads_predictions_beside_records(tmp_path, prepared, capsys):
    gold = read_sentences(CORPUS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "d").symlink_to(prepared)
    for model, kept in (("ours", 9), ("other", 0)):
        run = tmp_path / "runs" / "d" / "e" / model / "0"
        run.mkdir(parents=True)
        predicted = [s.with_labels(s.entities[:kept], s.relations[:0]) for s in gold]
        place = {"dataset": "d", "encoder": "e", "model": model, "seed": 0, "recipe": {"name": "r"}}
        write_sealed(run / "record.json", place | {"scores": score(gold, predicted, LABELS)})
        write_sentences(run / "predictions.jsonl", predicted)
    runs = {"runs": dict.fromkeys(("d/e/ours/0", "d/e/other/0"), "r")}
    plan = tiny_plan(tmp_path, runs["runs"]).write()
    given = ["compare", "--plan", str(plan), "--resamples", "100", "--out", str(tmp_path / "c.json")]
    assert main(given) == 0
    first = json.loads((tmp_path / "c.json").read_text())["comparisons"][0]
    assert (first["metric"], first["difference"]) == ("ent", 100)
    write_sealed(plan, {"runs": {}})
    assert main(given) == 2
    assert "plan.json: 'config' is missing, so it is not what it should be" in capsys.readouterr().err


@pytest.mark.parametrize("other", [slice(0, 9), slice(9, None, -1)], ids=["fewer sentences", "another order"])
def test_predictions_must_be_those_of_the_record(tmp_path, prepared, other):
    gold = read_sentences(CORPUS)
    place = {"dataset": "d", "encoder": "e", "model": "ours", "seed": 0, "recipe": {"name": "r"}}
    (tmp_path / "d").symlink_to(prepared)
    write_sealed(tmp_path / "record.json", place | {"scores": score(gold, gold, LABELS)})
    write_sentences(tmp_path / "predictions.jsonl", gold[other])
    with pytest.raises(UserError, match=r"predictions.jsonl: not what record.json has the scores of"):
        read_runs([tmp_path / "record.json"], tmp_path, {"d": {}})


@pytest.mark.parametrize("declared", [None, [4, 6]], ids=["named", "declared"])
def test_documents_are_what_is_compared(tmp_path, declared):
    gold = read_sentences(CORPUS)
    if declared is None:
        gold = [replace(s, document=f"{i < 4}") for i, s in enumerate(gold)]
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "labels.json").write_text(json.dumps(LABELS.to_json()))
    write_sentences(tmp_path / "d" / "test.jsonl", gold)
    place = {"dataset": "d", "encoder": "e", "model": "ours", "seed": 0, "recipe": {"name": "r"}}
    write_sealed(tmp_path / "record.json", place | {"scores": score(gold, gold, LABELS)})
    write_sentences(tmp_path / "predictions.jsonl", gold)
    described = {"d": {"documents": {"test": declared}} if declared else {}}
    (run,) = read_runs([tmp_path / "record.json"], tmp_path, described)
    counts = sentence_counts(gold, gold, LABELS.symmetric)
    assert run.counts.tolist() == np.stack([counts[:, :4].sum(1), counts[:, 4:].sum(1)], axis=1).tolist()
    made = compare([run], DECLARED, resamples=10)
    assert run.unit == "document" and made["units"] == {"d": "document"}
