"""Each wrong claim has one kind, and the kinds add up to what the scorer counts as wrong."""

import random

import pytest

from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.evaluate.errors import KINDS, sentence_errors
from sinet.evaluate.metrics import score

SYMMETRIC = frozenset({"Compare"})
LABELS = Labels(("Task", "Method"), ("Used-for", "Part-of", "Compare"), SYMMETRIC)


def one(entities: list[tuple], relations: list[tuple] = ()) -> Sentence:
    return Sentence("s", ("w",) * 12, tuple(Entity(*e) for e in entities), tuple(Relation(*r) for r in relations))


TWO = [("Task", 0, 2), ("Method", 4, 6)]


@pytest.mark.parametrize(
    "kind, gold, predicted",
    [
        ("type", one([("Task", 0, 2)]), one([("Method", 0, 2)])),
        ("boundary", one([("Task", 0, 2)]), one([("Task", 1, 3)])),
        ("boundary and type", one([("Task", 0, 2)]), one([("Method", 1, 3)])),
        ("missing entity", one([("Task", 0, 2)]), one([])),
        ("spurious entity", one([]), one([("Task", 0, 2)])),
        ("wrong direction", one(TWO, [("Used-for", 0, 1)]), one(TWO, [("Used-for", 1, 0)])),
        ("wrong relation type", one(TWO, [("Used-for", 0, 1)]), one(TWO, [("Part-of", 0, 1)])),
        ("wrong relation type", one(TWO, [("Used-for", 1, 0)]), one(TWO, [("Compare", 1, 0)])),
        ("missing relation", one(TWO, [("Used-for", 0, 1)]), one(TWO)),
        ("spurious relation", one(TWO), one(TWO, [("Used-for", 0, 1)])),
    ],
)
def test_each_kind(kind, gold, predicted):
    (error,) = sentence_errors(gold, predicted, SYMMETRIC)
    assert error.kind == kind
    assert (error.gold is None) == kind.startswith("spurious")
    assert (error.predicted is None) == kind.startswith("missing")


def kinds(gold: Sentence, predicted: Sentence) -> list[str]:
    return [error.kind for error in sentence_errors(gold, predicted, SYMMETRIC)]


def test_errors_of_entities_return_in_their_relations():
    gold = one(TWO, [("Used-for", 0, 1)])
    retyped, moved = [("Task", 0, 2), ("Task", 4, 6)], [("Task", 0, 2), ("Method", 5, 6)]
    assert kinds(gold, one(retyped, [("Used-for", 0, 1)])) == ["type", "argument type"]
    assert kinds(gold, one(moved, [("Used-for", 0, 1)])) == ["boundary", "argument boundary"]
    assert kinds(gold, one(TWO[:1])) == ["missing entity", "missing argument"]
    assert kinds(one(TWO[:1]), gold) == ["spurious entity", "spurious argument"]


def test_a_symmetric_relation_has_no_direction():
    assert kinds(one(TWO, [("Compare", 0, 1)]), one(TWO, [("Compare", 1, 0)])) == []


def test_the_closest_claims_are_paired():
    errors = sentence_errors(one([("Task", 0, 4)]), one([("Task", 0, 1), ("Task", 0, 3), ("Method", 0, 4)]), SYMMETRIC)
    paired = {error.predicted: error.kind for error in errors}
    assert paired == {("Method", 0, 4): "type", ("Task", 0, 1): "spurious entity", ("Task", 0, 3): "spurious entity"}


def random_sentence(draw: random.Random) -> Sentence:
    entities = [(draw.choice(LABELS.entity_types), s, s + draw.randint(1, 3)) for s in draw.choices(range(6), k=4)]
    relations = [(draw.choice(LABELS.relation_types), *draw.sample(range(4), 2)) for _ in range(draw.randint(0, 5))]
    return one(entities, relations)


def test_kinds_add_up_to_all_wrong_claims():
    draw = random.Random(0)
    seen = set()
    for _ in range(500):
        gold, predicted = random_sentence(draw), random_sentence(draw)
        errors = sentence_errors(gold, predicted, SYMMETRIC)
        seen |= {error.kind for error in errors}
        figures = score([gold], [predicted], LABELS)["symmetric"]
        for side in ("gold", "predicted"):
            claims = [claim for error in errors if (claim := getattr(error, side))]
            assert len(claims) == len(set(claims)), "a claim counted twice"
            assert len(claims) == sum(figures[m][side] - figures[m]["correct"] for m in ("ent", "rel_plus"))
    assert seen == set(KINDS), "every kind occurs"
