"""The scorer against the released scorers, and its rules on cases small enough to count by hand."""

import pytest

from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.errors import UserError
from sinet.evaluate.metrics import METRICS, score
from tests.reference import missing, stored

STORED = stored("scoring.json")
SYMMETRIC = frozenset({"Compare", "Conjunction"})
LABELS = Labels(tuple(STORED.get("entity_types", ())), tuple(STORED.get("relation_types", ())), SYMMETRIC)


def read(side: dict, length: int, name: str) -> Sentence:
    """A stored annotation; arguments that are no entity of their own are appended to the entities."""
    spans = [tuple(e) for e in side["entities"]]
    relations = []
    for r in side["relations"]:
        for role in ("head", "tail"):
            if tuple(r[role]) not in spans:
                spans.append(tuple(r[role]))
        relations.append(Relation(r["type"], spans.index(tuple(r["head"])), spans.index(tuple(r["tail"]))))
    return Sentence(name, ("w",) * length, tuple(Entity(t, a, b) for a, b, t in spans), tuple(relations))


def sides(case: dict) -> tuple[list[Sentence], list[Sentence]]:
    return tuple(
        [read(s[side], s["length"], str(i)) for i, s in enumerate(case["sentences"])] for side in ("gold", "predicted")
    )


def released_order(sentence: Sentence) -> Sentence:
    """SpERT's and SINET's normal form of symmetric relations: swapped only where the tail starts before the head.

    Here lies the one difference. Where both arguments start at the same word the released code keeps the direction in
    which each side happens to write the relation, so its figure depends on that; in ours it has no direction.
    """
    spans = sentence.entities
    relations = [
        Relation(r.type, r.tail, r.head) if r.type in SYMMETRIC and spans[r.tail].start < spans[r.head].start else r
        for r in sentence.relations
    ]
    return sentence.with_labels(spans, relations)


def starts_together(sentences: list[Sentence]) -> bool:
    return any(
        r.type in SYMMETRIC and s.entities[r.head].start == s.entities[r.tail].start
        for s in sentences
        for r in s.relations
    )


@pytest.mark.parametrize("case", STORED.get("cases", [{}]), ids=lambda case: case.get("name", "missing"))
def test_equals_the_released_scorers(case):
    if not case:
        missing("scoring.json")
    gold, predicted = sides(case)
    ours = score(gold, predicted, LABELS)
    as_released = score(list(map(released_order, gold)), list(map(released_order, predicted)), LABELS)["directed"]
    for released, figures in (
        ("spert_sinet_directed", ours["directed"]),
        ("spert_sinet", as_released),
        ("spert_sinet", None if starts_together(gold) or starts_together(predicted) else ours["symmetric"]),
    ):
        stored = case["scores"][released]
        if stored is None:
            assert case["notes"][released], "a case that the released scorer cannot take says why"
            continue
        for metric in METRICS if figures else ():
            for figure in ("precision", "recall", "f1") if stored[metric] else ():
                assert figures[metric][figure] == pytest.approx(stored[metric][figure], abs=1e-9), (released, metric)


def one(entities: list[tuple], relations: list[tuple]) -> Sentence:
    return Sentence("s", ("w",) * 9, tuple(Entity(*e) for e in entities), tuple(Relation(*r) for r in relations))


def test_symmetric_relations_that_start_together_are_direction_free():
    spans = [("Task", 1, 2), ("Task", 1, 3)]
    gold, reversed_ = one(spans, [("Compare", 0, 1)]), one(spans, [("Compare", 1, 0)])
    assert score([gold], [reversed_], LABELS)["symmetric"]["rel_plus"]["f1"] == 100
    assert score([gold], [reversed_], LABELS)["directed"]["rel_plus"]["f1"] == 0


def test_counts_by_hand():
    gold = one([("Task", 0, 1), ("Method", 2, 4), ("Metric", 5, 6)], [("Used-for", 1, 0), ("Part-of", 2, 1)])
    predicted = one([("Task", 0, 1), ("Task", 2, 4)], [("Used-for", 1, 0), ("Used-for", 1, 0), ("Part-of", 0, 1)])
    figures = score([gold], [predicted], LABELS)["symmetric"]
    assert (figures["ent"]["gold"], figures["ent"]["predicted"], figures["ent"]["correct"]) == (3, 2, 1)
    # the repeated relation counts once; it has the right spans but a wrong entity type
    assert (figures["rel"]["predicted"], figures["rel"]["correct"], figures["rel_plus"]["correct"]) == (2, 1, 0)
    assert figures["rel"]["f1"] == pytest.approx(50)
    assert figures["rel"]["types"]["Used-for"]["f1"] == 100 and figures["rel"]["types"]["Part-of"]["recall"] == 0


def test_figures_of_a_type_by_hand():
    gold = one([("Task", 0, 1), ("Method", 2, 4), ("Method", 5, 6)], [("Used-for", 1, 0)])
    predicted = one([("Task", 0, 1), ("Task", 2, 4), ("Task", 5, 6), ("Task", 7, 8)], [("Used-for", 1, 0)] * 2)
    figures = score([gold] * 2, [predicted, gold], LABELS)["symmetric"]
    task, method, none = (figures["ent"]["types"][name] for name in ("Task", "Method", "Metric"))
    # of the first sentence one of four, of the second all
    assert task == pytest.approx(
        {"precision": 40, "recall": 100, "f1": 400 / 7, "gold": 2, "predicted": 5, "correct": 2}
    )
    assert [method[k] for k in ("precision", "recall", "f1")] == pytest.approx([100, 50, 200 / 3])
    assert set(none.values()) == {0}
    assert figures["rel"]["types"]["Used-for"]["precision"] == 100
    assert [figures["rel_plus"]["types"]["Used-for"][k] for k in ("precision", "recall")] == [50, 50]


def test_refuses_other_sentences():
    with pytest.raises(UserError, match="2 gold sentences but 1"):
        score([one([], []), one([], [])], [one([], [])], LABELS)
    with pytest.raises(UserError, match="different words"):
        score([one([], [])], [Sentence("s", ("other",))], LABELS)
