"""The case study: sentences found by rules, where attention falls, NER of entities in a triple and in none."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from sinet.data.sentence import Entity, Relation, Sentence, read_sentences, write_sentences
from sinet.errors import UserError
from sinet.evaluate.attention_mass import _figures as _mass_figures
from sinet.evaluate.attention_mass import _paired, sentence_mass, uniform_mass, word_groups, write_attention_mass
from sinet.evaluate.cases import LONGEST, choose, chosen_cases, holds_triple, outcome
from sinet.evaluate.in_triple import argument_entities, in_triple_counts, score_in_triple_ner
from sinet.evaluate.metrics import figures, score
from sinet.evaluate.stats import intervals
from sinet.files import read_sealed, write_sealed
from sinet.grid.config import load_config
from sinet.grid.plan import Plan, resolve
from sinet.infer.attend import attend
from sinet.infer.case_study import find_cases
from sinet.report import attention_mass as report
from sinet.report.attention import draw_cases
from sinet.report.attention_mass import draw_attention_mass
from sinet.report.grid import Grid
from sinet.train.trainer import train_run
from tests.conftest import CORPUS, LABELS, copy_project, recorded_recipe, spec, tiny_grid, tiny_plan, tiny_run

TITLES = {"sinet": "SINET", "spert": "SpERT", "sinet-base": "SINET Base"}
DECLARED = {
    "datasets": {"ten": {"title": "Ten"}},
    "encoders": {"tiny": {"title": "Tiny"}},
    "models": {name: {"title": title, "system": "sinet"} for name, title in TITLES.items()},
    "remark": "A remark.",
}


def sentence(name: str, *relations: Relation, words: int = 9) -> Sentence:
    """Entities a (word 0), b (words 2, 3) and c (word 5), under the given relations."""
    entities = (Entity("Method", 0, 1), Entity("Task", 2, 4), Entity("Material", 5, 6))
    return Sentence(name, tuple(f"w{i}" for i in range(words)), entities, relations)


AB, BA, BC = Relation("Used-for", 0, 1), Relation("Used-for", 1, 0), Relation("Part-of", 1, 2)


def outcomes(*cases: tuple[Sentence, Sentence, Sentence]) -> list:
    return [outcome(gold, own, [other], frozenset()) for gold, own, other in cases]


def test_rules_find_what_they_say():
    plain = sentence("both", AB), sentence("both", AB), sentence("both", AB)
    only = sentence("only", AB, BC), sentence("only", AB, BC), sentence("only", AB)
    hard = sentence("hard", AB, BC), sentence("hard", BA), sentence("hard")
    easier = sentence("easier", AB), sentence("easier", BA), sentence("easier")
    found = choose(outcomes(plain, only, easier, hard), ["only-right", "out-of-triple", "hard-failure"])
    assert found == [1, 0, 3], (
        "the triple of one system alone; entity c in no triple, a right triple; most gold triples"
    )


def test_a_rule_that_no_sentence_meets_finds_none():
    plain = sentence("a", AB, BC), sentence("a", AB, BC), sentence("a", AB, BC)
    assert choose(outcomes(plain), ["only-right", "out-of-triple", "hard-failure"]) == [None, None, None]


def test_without_another_system_nothing_is_right_in_one_alone():
    gold = sentence("a", AB)
    assert choose([outcome(gold, gold, [], frozenset())], ["only-right"]) == [None]


def test_legible_sentences_come_first_and_none_comes_twice():
    long = sentence("long", AB, BC, words=LONGEST + 1)
    short, shorter = sentence("short", AB), sentence("shorter", AB, words=8)
    nothing = [replace(s, relations=()) for s in (long, short, shorter)]
    found = outcomes(*((g, n, n) for g, n in zip((long, short, shorter), nothing, strict=True)))
    assert choose(found, ["hard-failure", "out-of-triple"]) == [2, 1]
    assert choose(found, ["out-of-triple", "shorter"]) == [1, 2]


def test_an_unknown_sentence_is_refused_with_what_would_be_right():
    with pytest.raises(UserError, match=r"'only-wrong' is no id such as 'a'; rules: only-right, out-of-triple, hard"):
        choose(outcomes((sentence("a", AB),) * 3), ["only-wrong"])


def test_groups_of_entities_partition_gold_and_predictions():
    gold = read_sentences(CORPUS)
    predicted = [replace(s, relations=s.relations[:1]) for s in gold]
    predicted[1] = predicted[1].with_labels([Entity("Task", 0, 1), Entity("Method", 1, 2)], [Relation("Part-of", 0, 1)])
    total = in_triple_counts(gold, predicted).sum(axis=(0, 1))
    ent = score(gold, predicted, LABELS)["directed"]["ent"]
    assert total.tolist() == [ent["correct"], ent["predicted"], ent["gold"]]
    assert figures(total).tolist() == pytest.approx([ent["precision"], ent["recall"], ent["f1"]])


def test_a_wrong_entity_counts_where_it_is_predicted():
    gold = sentence("a", AB)
    predicted = gold.with_labels(
        [*gold.entities[:1], Entity("Task", 6, 7), Entity("Task", 7, 8)], [Relation("Used-for", 0, 1)]
    )
    # in-triple: a right, b missed, one wrong in a predicted triple; out-of-triple: c missed, one wrong in none
    assert in_triple_counts([gold], [predicted])[0].tolist() == [[1, 2, 2], [0, 1, 1]]
    assert argument_entities(gold)[1] == {("Material", 5, 6)}


def test_intervals_equal_a_slow_loop():
    values = np.random.default_rng(1).normal(size=(12, 2))
    drawn = [values[chosen].mean(axis=0) for chosen in np.random.default_rng(0).integers(12, size=(300, 12))]
    low, high = intervals(values, lambda sums: sums / 12, resamples=300)
    expected = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    np.testing.assert_allclose([low, high], expected, rtol=1e-12)


def test_intervals_cover_the_truth():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        low, high = intervals(generator.normal(size=(60, 1)), lambda sums: sums / 60, resamples=400)
        covered += bool(low[0] <= 0 <= high[0])
    assert 178 <= covered <= 198


def test_uniform_attention_prefers_no_group():
    s = sentence("a", AB)
    groups, pieces = word_groups(s), np.array([1, 2, 3, 1, 1, 2, 1, 1, 1])
    assert groups.tolist() == [0, 2, 0, 0, 2, 1, 2, 2, 2]
    weights = np.array([1, *pieces, 1]) / (pieces.sum() + 2)
    shares, special = sentence_mass(np.stack([weights, np.eye(11)[1]]), groups)
    np.testing.assert_allclose(shares[0], uniform_mass(groups, pieces))
    np.testing.assert_allclose(shares[1], [1, 0, 0], err_msg="all weight on the first word, of an in-triple entity")
    np.testing.assert_allclose(special, [2 / (pieces.sum() + 2), 0])


def test_shares_are_known_where_nearly_all_falls_on_cls():
    weights = np.array([[1.0, 3e-12, 0, 0, 0, 0, 1e-12, 0, 0, 0, 0]])
    shares, special = sentence_mass(weights, word_groups(sentence("a", AB)))
    np.testing.assert_allclose(shares, [[0.75, 0.25, 0]])
    np.testing.assert_allclose(special, 1)


def attended(folder: Path, *weights: list) -> dict:
    """Shares of one or more heads that look at two sentences of four words: two in-triple, one out-of-triple, one
    other."""
    gold = [Sentence(n, tuple("abcd"), (Entity("T", 0, 1), Entity("T", 1, 2), Entity("T", 2, 3)), (AB,)) for n in "xy"]
    write_sentences(folder / "test.jsonl", gold)
    machine = {"device": "cpu", "device_name": "CPU", "threads": 1, "precision": "float32"}
    sentences = [
        {"id": n, "pieces": [1] * 4, "attention": {"entity": np.atleast_2d(w).tolist()}}
        for n, w in zip("xy", weights, strict=True)
    ]
    write_sealed(folder / "attention.json", machine | {"sentences": sentences})
    write_attention_mass(folder / "test.jsonl", {"0": folder / "attention.json"}, folder / "attention_mass.json")
    return json.loads((folder / "attention_mass.json").read_text())


def test_a_sentence_that_gets_no_attention_is_left_out_and_counted(tmp_path):
    made = attended(tmp_path, [0, 0.5, 0.5, 0, 0, 0], [1, 0, 0, 0, 0, 0])
    for head in made["directions"]["entity"]:
        assert head["blank"] == 1
        assert head["groups"]["in_triple"]["share"] == {"value": 1, "interval": [1, 1]}
        assert head["groups"]["in_triple"]["ratio"]["value"] == pytest.approx(2), "both words of triples, half of four"
        assert head["groups"]["other"]["share"]["value"] == 0


def test_a_head_weighs_in_the_mean_as_much_as_it_gives_to_words(tmp_path):
    made = attended(tmp_path, [[0, 1, 0, 0, 0, 0], [0.75, 0, 0, 0.25, 0, 0]], [[0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])
    mean, *heads = made["directions"]["entity"]
    assert [head["groups"]["in_triple"]["share"]["value"] for head in heads] == [1, 0]
    assert mean["groups"]["in_triple"]["share"]["value"] == pytest.approx((0.8 + 1) / 2), "1 of 1.25, and 1 of 1"
    assert mean["special"] == pytest.approx((0.375 + 0.5) / 2) and mean["blank"] == 0 and heads[1]["blank"] == 1


def test_the_paired_figure_is_of_sentences_with_both_groups_alone(tmp_path):
    made = attended(tmp_path, [[0, 0.2, 0.4, 0.1, 0.3, 0], [0, 0.1, 0.1, 0.4, 0.4, 0]], [[0, 0.4, 0.4, 0, 0.2, 0]] * 2)
    mean, *heads = made["directions"]["entity"]
    # the second sentence gives out-of-triple words nothing: no ratio. Two in-triple words of four, one out-of-triple
    wanted = [np.log((0.6 / 0.5) / (0.1 / 0.25)), np.log((0.2 / 0.5) / (0.4 / 0.25))]
    assert [head["paired"]["value"] for head in heads] == pytest.approx(wanted)
    assert [head["paired"]["sentences"] for head in (mean, *heads)] == [1, 1, 1]
    assert mean["paired"]["value"] == pytest.approx(np.mean(wanted)), "one seed: the mean of its heads"
    assert heads[0]["paired"]["interval"] == pytest.approx([wanted[0]] * 2)


def test_the_paired_interval_draws_seeds_and_sentences():
    mass = np.zeros((1 + 3, 50, 3))
    for seed, part in enumerate((0.3, 0.5, 0.7), 1):
        mass[seed] = part, 1 - part, 0
    found = _paired(mass, np.full((50, 3), [0.5, 0.5, 0]), np.arange(50), np.arange(3))
    values = [np.log(part / (1 - part)) for part in (0.3, 0.5, 0.7)]
    assert found[0]["value"] == pytest.approx(0, abs=1e-12) and found[0]["sentences"] == 50
    assert found[0]["interval"] == pytest.approx([values[0], values[2]], rel=0.4), "seeds differ, sentences do not"
    assert found[0]["interval"][0] < -0.5 and found[1]["interval"] == pytest.approx([values[0]] * 2)


def test_documents_are_those_that_the_dataset_declares():
    plan = resolve(load_config("config/shown.yaml"))
    lengths = plan.test_documents("scierc")
    assert (len(lengths), sum(lengths), plan.test_documents("conll04")) == (100, 551, None)


def test_intervals_draw_whole_documents():
    mass, documents = np.zeros((1 + 1, 60, 3)), np.repeat(np.arange(6), 10)
    mass[:, :, 0] = np.repeat([0.3, 0.4, 0.5, 0.5, 0.6, 0.7], 10)
    mass[:, :, 1] = 1 - mass[:, :, 0]
    flat, one_seed = np.full((60, 3), [0.5, 0.5, 0]), np.zeros(1, dtype=int)

    def width(found: dict) -> float:
        return found["interval"][1] - found["interval"][0]

    alone, together = (
        [_paired(mass, flat, d, one_seed)[1], _mass_figures(mass, flat, d)[1]["in_triple"]["share"]]
        for d in (np.arange(60), documents)
    )
    for one, other in zip(alone, together, strict=True):
        assert one["value"] == other["value"]
        # sentences of a document are alike: ten of them say as much as one
        assert width(other) == pytest.approx(width(one) * 10**0.5, rel=0.15)


def test_a_head_that_never_looks_at_words_has_no_shares(tmp_path, recwarn):
    made = attended(tmp_path, [1, 0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0, 0.5])
    for head in made["directions"]["entity"]:
        assert head["blank"] == 2 and head["special"] == 1
        assert [g["share"] for g in head["groups"].values()] == [None] * 3 and head["paired"] is None
    assert not recwarn.list


def test_the_csv_of_groups_has_the_deviation_of_a_sample():
    three = {f: {"values": {"0": 60.0, "1": 62.0, "2": 64.0}, "interval": [50.0, 70.0]} for f in report.FIGURE_TITLES}
    groups = {group: three | {"gold": 7} for group in report.ENTITY_TITLES}
    scores = {"resamples": 10, "unit": "sentence", "family": 0, "studied": "sinet", "models": {"sinet": groups}}
    machine = {"device_name": "a CPU", "device": "cpu", "threads": 3, "precision": "float32", "split": "test"}
    run = machine | {"dataset": "ten", "encoder": "tiny", "model": "sinet", "seed": 0, "test_sentences": 10}
    run |= {"recipe": recorded_recipe("odd", epochs=2, selection="last")}
    made = report.in_triple_table(scores, Grid([run], DECLARED, {})).tidy
    assert set(made["sd"]) == {2.0} and set(made["mean"]) == {62.0} and set(made["n"]) == {3}


def test_a_group_without_gold_entities_has_no_figures(tmp_path, monkeypatch):
    gold = sentence("a", AB, BC)
    write_sentences(tmp_path / "test.jsonl", [gold])
    write_sentences(tmp_path / "wrong.jsonl", [gold.with_labels([*gold.entities, Entity("Generic", 3, 5)], [])])
    predictions = {model: dict.fromkeys("012", tmp_path / "wrong.jsonl") for model in ("sinet", "spert")}
    score_in_triple_ner(tmp_path / "test.jsonl", predictions, "sinet", tmp_path / "in_triple_ner.json")
    made = read_sealed(tmp_path / "in_triple_ner.json")
    assert made["models"]["spert"]["out_of_triple"] == {"gold": 0} and made["family"] == 2
    about = {"device_name": "a CPU", "device": "cpu", "threads": 3, "precision": "float32", "split": "test"}
    about |= {"dataset": "ten", "encoder": "tiny", "test_sentences": 1}
    about |= {"recipe": recorded_recipe("odd", epochs=2, selection="last")}
    runs = [about | {"model": model, "seed": seed} for model in predictions for seed in range(3)]
    table = report.in_triple_table(made, Grid(runs, DECLARED, {}))
    assert set(table.tidy["group"]) == {"in_triple"}
    assert [*map(str, table.frame["Out-of-triple entities (0)"].iloc[1])] == ["no gold"] * 3
    assert [*map(str, table.frame["", "n"])] == ["3", "3"]
    drawn, declared = [], DECLARED | {"case_study": {"model": "sinet"}}
    monkeypatch.setattr(report, "save", lambda figure, *_: drawn.append(figure))
    report.draw(attended(tmp_path, *[[0, 0.5, 0.5, 0, 0, 0]] * 2), made, Grid(runs, declared, {}), tmp_path / "figure")
    (_, *right), a_bar_and_a_point = drawn[0].axes, 2
    assert [len(axis.lines) for axis in right] == [len(predictions) * a_bar_and_a_point] * 2, "of one group"


def test_a_word_of_two_entities_is_in_triple_when_one_of_them_is():
    s = sentence("a", AB)
    assert word_groups(s.with_labels([*s.entities, Entity("Generic", 3, 5)], s.relations))[3:5].tolist() == [0, 1]


@pytest.fixture(scope="module")
def studied(prepared, tiny_mirror, tmp_path_factory) -> Path:
    """A tiny run of SINET and of its base, attended and compared as the workflow does it."""
    folder = tmp_path_factory.mktemp("studied")
    recipe = {"epochs": 1, "batch_size": 4, "weight_decay": 0.0, "selection": "last"}
    for name, interaction in (("sinet", "ctam"), ("sinet-base", "base")):
        run = tiny_run({"heads": 2, "width_size": 8, "interaction": interaction}, 0, **recipe)
        train_run(spec(run), prepared, folder / name, folder / "state", [tiny_mirror])
        attend(folder / name, prepared / "test.jsonl", folder / f"{name}.json")
    gold = read_sentences(prepared / "test.jsonl")
    write_sentences(folder / "right.jsonl", gold)
    write_sentences(folder / "nothing.jsonl", [s.without_labels() for s in gold])
    return folder


def cases(folder: Path, prepared: Path, model: str, *wanted: str) -> list[dict]:
    predictions = {"sinet": folder / "right.jsonl", "sinet-base": folder / "nothing.jsonl"}
    files = prepared / "test.jsonl", prepared / "labels.json", folder / f"{model}.json"
    found = chosen_cases(*files, predictions, model, wanted, "somewhere")
    write_sealed(folder / "cases.json", {"cases": found})
    return found


def test_attention_is_written_for_every_sentence(studied, prepared):
    written = json.loads((studied / "sinet.json").read_text())
    for record, s in zip(written["sentences"], read_sentences(prepared / "test.jsonl"), strict=True):
        assert record["id"] == s.id and len(record["pieces"]) == len(s.tokens)
        heads = [head for heads in record["attention"].values() for head in heads]
        assert {len(head) for head in heads} == {len(s.tokens) + 2}
        assert [sum(head) for head in heads] == pytest.approx([1] * 4, abs=1e-3)
    assert all(r["attention"] == {} for r in json.loads((studied / "sinet-base.json").read_text())["sentences"])


def test_figures_and_captions_set_gold_beside_the_systems(studied, prepared, tmp_path):
    found = cases(studied, prepared, "sinet", "only-right", "hard-failure", read_sentences(CORPUS)[0].id)
    assert ["gold" in case for case in found] == [True, False, True]
    draw_cases(studied / "cases.json", TITLES, tmp_path)
    caption = (tmp_path / "attention_1.md").read_text()
    assert "| **gold** |" in caption and "| SINET | ✓ " in caption and "| SINET Base | none | none |" in caption
    assert "found by a rule only-right" in caption and "✗" not in caption.split("|\n|---")[1]
    assert "no sentence meets the rule hard-failure" in (tmp_path / "attention_2.md").read_text()
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    draw_cases(studied / "cases.json", TITLES, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before and len(before) == 9


def test_a_model_without_attention_is_named_so(studied, prepared, tmp_path):
    cases(studied, prepared, "sinet-base", "hard-failure")
    draw_cases(studied / "cases.json", TITLES, tmp_path)
    assert "no sentence meets" in (tmp_path / "attention_1.md").read_text()
    cases(studied, prepared, "sinet-base", read_sentences(CORPUS)[0].id)
    draw_cases(studied / "cases.json", TITLES, tmp_path)
    assert "n/a: SINET Base has no cross-task attention" in (tmp_path / "attention_1.md").read_text()


NAMED = ["kernels", "Compare", "graph kernels"]  # annotated the other way round
UNKNOWN = ["Kernels", "Compare", "graph kernels"]


def test_a_triple_is_held_word_for_word_and_of_a_symmetric_type_in_either_direction():
    held = {s.id: s for s in read_sentences(CORPUS)}
    assert holds_triple(held["ten-3"], ["graph kernels", "Compare", "kernels"], frozenset())
    assert holds_triple(held["ten-3"], NAMED, LABELS.symmetric)
    assert not holds_triple(held["ten-3"], NAMED, frozenset()), "a directed type"
    assert not holds_triple(held["ten-3"], UNKNOWN, LABELS.symmetric), "case counts"
    assert not holds_triple(held["ten-3"], ["graph", "Compare", "kernels"], LABELS.symmetric), "all words count"
    assert not holds_triple(held["ten-3"], ["kernels", "Used-for", "graph kernels"], LABELS.symmetric)


def two_datasets(folder: Path, prepared: Path) -> None:
    """Prepared datasets `ten`, and `more`, whose splits dev and train alone hold the graph kernels."""
    ten = read_sentences(CORPUS)
    for name, splits in (
        ("ten", {"test": ten[:2], "dev": ten[:1], "train": ten[:2]}),
        ("more", {"test": ten[:1], "dev": [ten[4], ten[3]], "train": [replace(ten[3], id="later")]}),
    ):
        (folder / name).mkdir(parents=True)
        shutil.copy(prepared / "labels.json", folder / name)
        for split, sentences in splits.items():
            write_sentences(folder / name / f"{split}.jsonl", sentences)


def planned(folder: Path, studied: Path, prepared: Path, **case: list) -> Plan:
    """A case study of both runs on both datasets."""
    two_datasets(folder / "data", prepared)
    runs = {f"{name}/tiny/{model}/0": "tiny" for name in ("ten", "more") for model in ("sinet", "sinet-base")}
    titles = {"ten": "Ten", "more": "More", "sinet": "SINET"}
    plan = tiny_plan(folder, runs, titles, case_study={"model": "sinet"} | case)
    for run in runs:
        plan.file(run, "").parent.mkdir(parents=True, exist_ok=True)
        plan.file(run, "").symlink_to(studied / run.split("/")[2])
    return plan


def test_rules_choose_from_dev_and_an_id_is_found_in_any_split(studied, prepared, tmp_path):
    ids = {split: f"{split}-0" for split in ("test", "dev", "train")}
    asked = [ids["train"], "out-of-triple", ids["test"]]
    plan = planned(tmp_path, studied, prepared, sentences=asked, triples=[])
    for split, name in ids.items():  # all of them fulfil the rule
        write_sentences(tmp_path / f"data/ten/{split}.jsonl", [sentence(name, AB), sentence(f"{name}-too", AB, BC)])
    find_cases(plan, tmp_path / "cases.json")
    found = read_sealed(tmp_path / "cases.json")["cases"]
    assert [case["gold"]["id"] for case in found] == [ids["train"], ids["dev"], ids["test"]]
    places = ["train split (trained on by SINET, sinet-base)", "dev split", "test split"]
    for case, where in zip(found, places, strict=True):
        assert case["measured"].startswith(f"SINET on Ten, tiny, seed 0, recipe tiny, {where}; attention in float32")
        assert case["predicted"].keys() == {"sinet", "sinet-base"}
    plan = planned(tmp_path / "unknown", studied, prepared, sentences=["only-wrong"], triples=[])
    with pytest.raises(UserError, match=r"'only-wrong' is no id such as 'ten-0'; rules: only-right"):
        find_cases(plan, tmp_path / "unknown.json")


def test_a_sentence_is_predicted_with_its_document_around_it(studied, prepared, tmp_path, monkeypatch):
    plan = planned(tmp_path, studied, prepared, sentences=["test-2"], triples=[NAMED])
    ten, places = read_sentences(CORPUS), [(0, "a"), (3, "a"), (1, "b"), (2, "b")]
    test = [replace(ten[i], id=f"test-{n}", document=name) for n, (i, name) in enumerate(places)]
    write_sentences(tmp_path / "data/ten/test.jsonl", test)
    given = []

    def predict_file(run: Path, source: Path, out: Path) -> None:
        given.append([s.id for s in read_sentences(source)])
        shutil.copy(source, out)

    monkeypatch.setattr("sinet.infer.case_study.predict_file", predict_file)
    find_cases(plan, tmp_path / "cases.json")
    by_id, by_triple = read_sealed(tmp_path / "cases.json")["cases"]
    assert by_id["gold"]["id"] == by_id["predicted"]["sinet"]["id"] == "test-2"
    assert by_triple["gold"]["id"] == by_triple["predicted"]["sinet"]["id"] == "test-1"
    assert given == 2 * [["test-2", "test-3"]] + 2 * [["test-0", "test-1"]]


def test_archived_runs_have_no_weights_to_predict_dev_with(studied, prepared, tmp_path):
    plan = planned(tmp_path, studied, prepared, sentences=["only-right", "hard-failure"], triples=[])
    find_cases(replace(plan, archived=plan.trained), tmp_path / "cases.json")
    draw_cases(tmp_path / "cases.json", TITLES, tmp_path)
    said = "n/a: no sentence is chosen: archived runs have no weights to predict dev with (hard-failure)."
    assert (tmp_path / "attention_2.md").read_text().startswith(said)


def test_triples_are_found_in_any_split_of_any_dataset_and_what_is_in_none_is_said(studied, prepared, tmp_path, caplog):
    everywhere = ["neural parsers", "Used-for", "semantic parsing"]
    plan = planned(tmp_path, studied, prepared, sentences=["ten-0"], triples=[NAMED, UNKNOWN, everywhere])
    find_cases(plan, tmp_path / "cases.json")
    draw_cases(tmp_path / "cases.json", TITLES, tmp_path)
    found, absent, first = [(tmp_path / f"attention_{n}.md").read_text() for n in (2, 3, 4)]
    assert "Cross-task attention, SINET on More, tiny, seed 0, recipe tiny, dev split; attention in float32" in found
    assert "sentence ten-3" in found and "⟨kernels, Compare, graph kernels⟩" in found and "| SINET Base |" in found
    assert "such sentences: 1 in More dev, 1 in More train)" in found
    said = "no sentence holds the golden triple ⟨Kernels, Compare, graph kernels⟩ (searched: Ten, More; test, dev"
    assert absent.startswith(f"n/a: {said}") and said in caplog.text
    assert "SINET on Ten, tiny, seed 0, recipe tiny, test split" in first
    assert "1 in Ten test, 1 in Ten dev, 1 in Ten train, 1 in More test)" in first
    (_, case, _, _) = json.loads((tmp_path / "cases.json").read_text())["cases"]
    attended = json.loads((studied / "sinet.json").read_text())["sentences"][3]["attention"]
    for direction, heads in case["attention"].items():
        np.testing.assert_allclose(heads, attended[direction], rtol=1e-2, atol=1e-6)


def test_each_dataset_is_studied_with_the_encoder_under_which_most_models_are_compared(tmp_path):
    first = ["ten/a/sinet/0", "ade-1/a/sinet/0", "ade-2/b/sinet/0", "other/a/pfn/0"]
    more = [f"ten/{encoder}/{model}/0" for encoder in "bc" for model in ("pfn", "sinet")]
    alone = [f"ten/d/{model}/0" for model in ("pfn", "spert", "pure")]
    plan = tiny_plan(tmp_path, dict.fromkeys([*first, *more, *alone], "tiny"))
    folded = {
        n: d.model_copy(update={"fold_of": "ade"} if n.startswith("ade") else {})
        for n, d in plan.config.datasets.items()
    }
    plan = replace(plan, config=plan.config.model_copy(update={"datasets": folded}))
    assert [(case.dataset, case.encoder, case.systems) for case in plan.case_studies(plan.runs)] == [
        ("ten", "b", {"pfn": "ten/b/pfn/0", "sinet": "ten/b/sinet/0"}),
        ("ade-1", "a", {"sinet": "ade-1/a/sinet/0"}),
    ]


def test_the_workflow_draws_a_figure_for_every_triple(studied, prepared, tiny_mirror, tmp_path, warm):
    project = copy_project(tmp_path / "project")
    results = project / "results" / "tiny"
    grid = tiny_grid(tmp_path / "mirror", tiny_mirror, {"sinet": {"epochs": 1, "batch_size": 4, "selection": "last"}})
    grid["datasets"]["more"] = grid["datasets"]["ten"] | {"title": "More", "folder": "ten"}
    grid["case_study"] |= {"triples": [NAMED, UNKNOWN]}
    common = {"encoders": ["tiny"], "seeds": [0], "recipe": "tiny"}
    grid["grid"] = [
        common | {"datasets": ["ten"], "models": ["sinet"]},
        common | {"datasets": ["more"], "models": ["sinet", "sinet-base"]},
    ]
    (project / "tiny.yaml").write_text(yaml.safe_dump(grid))

    def snakemake(*arguments: str) -> str:
        call = ["snakemake", "--cores", "all", "--configfile", "tiny.yaml", *arguments]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        done = subprocess.run(call, cwd=project, env=warm, **output)
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    runs = {f"{dataset}/tiny/{model}/0": model for dataset, model in product(("ten", "more"), ("sinet", "sinet-base"))}
    del runs["ten/tiny/sinet-base/0"]
    dry = snakemake("-n")
    (search,) = [rule for rule in dry.split("rule ") if rule.startswith("find_cases:")]
    assert all(f"runs/{run}/model.safetensors" in search and f"data/{run[:3]}" in search for run in runs)
    assert "figures/attention_3.pdf" in dry and "attention_4" not in dry

    two_datasets(results / "data", prepared)  # from here on what is trained is not trained again
    (results / "encoders").mkdir()
    (results / "encoders" / "tiny.json").write_text("{}")
    for run, model in runs.items():
        shutil.copytree(studied / model, results / "runs" / run, copy_function=shutil.copyfile)
        (results / "runs" / run / "tokenizer").touch()
    made = snakemake("--", "draw_attention")
    assert set(re.findall(r"^(?:local)?rule (\w+):", made, re.M)) == {"find_cases", "draw_attention"}
    ruled, found, absent = [(results / f"figures/attention_{n}.md").read_text() for n in (1, 2, 3)]
    assert "SINET on Ten, tiny, seed 0, recipe tiny, dev split" in ruled
    assert "SINET on More, tiny, seed 0, recipe tiny, dev split" in found and found.count("\n| SINET") == 2
    assert absent.startswith("n/a: no sentence holds") and "(searched: Ten, More; test, dev, train)" in absent
    assert "⟨Kernels, Compare" in (results / "logs" / "find_cases.log").read_text()


def test_predictions_of_other_sentences_are_refused(studied, prepared):
    data = prepared / "test.jsonl", prepared / "labels.json", studied / "sinet.json"
    write_sentences(studied / "short.jsonl", read_sentences(CORPUS)[:3])
    with pytest.raises(UserError, match=r"short\.jsonl: not the sentences of"):
        score_in_triple_ner(
            prepared / "test.jsonl", {"sinet": {"0": studied / "short.jsonl"}}, "sinet", studied / "x.json"
        )
    others = [replace(s, tokens=("x", *s.tokens[1:])) for s in read_sentences(CORPUS)]
    write_sentences(studied / "others.jsonl", others)
    with pytest.raises(UserError, match=r"others\.jsonl: not the sentences of"):
        score_in_triple_ner(
            prepared / "test.jsonl", {"sinet": {"0": studied / "others.jsonl"}}, "sinet", studied / "x.json"
        )
    with pytest.raises(UserError, match=r"short\.jsonl: not the sentences of"):
        chosen_cases(*data, {"sinet": studied / "short.jsonl"}, "sinet", ["only-right"], "somewhere")


def test_in_triple_ner_is_tested_against_the_studied_model(studied, prepared, tmp_path):
    right, nothing = studied / "right.jsonl", studied / "nothing.jsonl"
    predictions = {
        "sinet": dict.fromkeys("012", right),
        "sinet-base": {"0": nothing, "1": right, "2": nothing},
        "spert": dict.fromkeys("012", right),
        "pfn": dict.fromkeys("01", nothing),
    }
    score_in_triple_ner(prepared / "test.jsonl", predictions, "sinet", tmp_path / "made.json")
    made = read_sealed(tmp_path / "made.json")
    base, same, few = (
        {g: of["recall"]["difference"] for g, of in made["models"][m].items()} for m in list(predictions)[1:]
    )
    for group in ("in_triple", "out_of_triple"):
        assert base[group]["value"] == pytest.approx(-200 / 3)
        # seeds of 0, 100 and 0 lie two standard errors from 100, at two degrees of freedom or few more
        assert 0.1 < base[group]["p"] < 0.2 and base[group]["p_holm"] > 0.5
        assert (same[group]["value"], same[group]["p"]) == (0, 1)
        assert few[group] == {"value": -100, "tested": False}
        assert "difference" not in made["models"]["sinet"][group]["recall"]
        assert "difference" not in made["models"]["spert"][group]["precision"]
    assert made["family"] == 2 * 2 * 2


@pytest.mark.parametrize("model, rows", [("sinet", 2 * (1 + 2)), ("sinet-base", 0)])
def test_attention_mass_and_in_triple_ner_are_tabulated_and_drawn(studied, prepared, tmp_path, model, rows):
    lengths = {"lengths": [4, 6]}
    attended = {"0": studied / f"{model}.json"}
    write_attention_mass(prepared / "test.jsonl", attended, tmp_path / "attention_mass.json", **lengths)
    predictions = {"sinet": {"0": studied / "right.jsonl", "1": studied / "nothing.jsonl"}}
    score_in_triple_ner(prepared / "test.jsonl", predictions, "sinet", tmp_path / "in_triple_ner.json", **lengths)
    declared = DECLARED | {"case_study": {"model": model}}
    files = tmp_path / "attention_mass.json", tmp_path / "in_triple_ner.json"
    machine = {"device_name": "a CPU", "device": "cpu", "threads": 3, "precision": "float32"}
    about = {"dataset": "ten", "encoder": "tiny", "model": "sinet", "selection": "last", "split": "test"}
    about |= {"test_sentences": 10, "recipe": recorded_recipe("odd", epochs=2, selection="last")}
    records = [tmp_path / f"{seed}.json" for seed in range(2)]
    for seed, path in enumerate(records):
        write_sealed(path, machine | about | {"seed": seed})
    draw_attention_mass(*files, records, declared, tmp_path / "tables", tmp_path / "figures")
    mass = (tmp_path / "tables" / "attention_mass.md").read_text()
    assert mass.count("\n| NER [CLS]") + mass.count("\n| RE [CLS]") == rows
    assert (rows == 0) == ("n/a: this model has no cross-task attention" in mass)
    found = json.loads(files[0].read_text())
    for heads in found["directions"].values():
        for head in heads:
            assert sum(g["share"]["value"] for g in head["groups"].values() if g["share"]) == pytest.approx(1)
    groups = (tmp_path / "tables" / "in_triple_ner.md").read_text()
    assert all("bootstrap over documents" in table for table in (mass, groups))
    assert "50.00 ± 70.71" in groups, "recall of all and of nothing, over two seeds"
    caption = (tmp_path / "figures" / "attention_mass.md").read_text()
    measured_on = (
        "Runs: test split (10 sentences), symmetric types direction-free; recipe odd (2 epochs, selection last); a CPU "
        "(cpu, 3 threads), float32; seeds 0, 1."
    )
    assert measured_on in groups and measured_on in caption and caption.startswith("Ten, Tiny, test split")
    assert "NER recall and F1 of each group" in caption and "it depends on no predicted relation" in caption
    assert (tmp_path / "figures" / "attention_mass.pdf").read_bytes().startswith(b"%PDF")
