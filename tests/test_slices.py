"""Slices by hand, and what must add up: classes of sentences and of relations cover every claim once."""

import random

import pytest

from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.evaluate.metrics import score
from sinet.evaluate.slices import (
    CLASSES,
    distance_class,
    overlap_patterns,
    sentence_classes,
    slice_figures,
    without_gold_relations,
    without_seen,
)

SPANS = tuple(Entity("Task", i, i + 1) for i in (0, 3, 9, 20))
LABELS = Labels(("Task",), ("Used-for", "Part-of", "Compare"), frozenset({"Compare"}))


def one(*relations: tuple, words: int = 24) -> Sentence:
    return Sentence("s", ("w",) * words, SPANS, tuple(Relation(*r) for r in relations))


@pytest.mark.parametrize(
    "relations, patterns",
    [
        ([], []),
        ([("Used-for", 0, 1)], ["normal"]),
        ([("Used-for", 0, 1), ("Used-for", 2, 3)], ["normal"]),
        ([("Used-for", 0, 1), ("Part-of", 0, 1)], ["EPO"]),
        ([("Used-for", 0, 1), ("Part-of", 1, 0)], ["EPO"]),
        ([("Used-for", 0, 1), ("Used-for", 1, 2)], ["SEO"]),
        ([("Used-for", 0, 1), ("Part-of", 0, 1), ("Used-for", 1, 2)], ["EPO", "SEO"]),
        ([("Compare", 0, 1), ("Compare", 1, 0)], ["normal"]),
    ],
)
def test_overlap_patterns(relations, patterns):
    assert overlap_patterns(one(*relations), LABELS.symmetric) == patterns


def test_classes_of_a_sentence_and_a_relation():
    classes = sentence_classes(one(("Used-for", 0, 1), ("Used-for", 1, 2)), LABELS.symmetric)
    assert (classes["length"], classes["triples"]) == (["21-30"], ["2"])
    assert sentence_classes(one(words=41))["length"] == ["41+"]
    assert CLASSES["length"] == ["1-10", "11-20", "21-30", "31-40", "41+"]
    near, far = ("Used-for", (4, 6, "Task"), (0, 3, "Task")), ("Used-for", (0, 1, "Task"), (17, 18, "Task"))
    assert (distance_class(near), distance_class(far)) == ("0-1", "16+")
    assert distance_class(("Used-for", (0, 5, "Task"), (2, 3, "Task"))) == "0-1", "one inside the other"


def test_classes_add_up():
    draw = random.Random(0)
    sides = [
        [
            one(*((draw.choice(LABELS.relation_types), *draw.sample(range(4), 2)) for _ in range(draw.randint(0, 6))))
            for _ in range(60)
        ]
        for _ in range(2)
    ]
    figures, whole = slice_figures(*sides, LABELS.symmetric), score(*sides, LABELS)["symmetric"]
    for slicing, metrics in (("length", 3), ("triples", 3), ("distance", 2)):
        for metric in ("rel", "rel_plus", "ent")[:metrics]:
            for count in ("gold", "predicted", "correct"):
                classes = figures[slicing].values()
                assert sum(c[metric][count] for c in classes) == whole[metric][count], (slicing, metric, count)
    assert sum(c["sentences"] for c in figures["triples"].values()) == 60


def test_what_is_predicted_without_gold_relations_by_hand():
    some = [("Used-for", 0, 1), ("Used-for", 0, 1), ("Compare", 1, 2), ("Compare", 2, 1)]  # two claims
    gold = [one(), one(), one(), one(("Used-for", 0, 1))]
    predicted = [one(*some), one(("Part-of", 0, 1)), one(), one(*some)]
    found = without_gold_relations(gold, predicted, LABELS.symmetric)
    assert found == {"sentences": 3, "relations": 3, "predicted_in": 2}


def test_sentences_that_stand_in_train_are_left_out_by_hand():
    first, second = (Sentence("s", words, (Entity("Task", 0, 1),)) for words in (("A", "b"), ("c",)))
    train = [Sentence("t", ("a", "B"))]
    found = without_seen([first, second, first], [first, second.with_labels((), ()), first], (), train)
    assert found["seen"] == 2
    assert found["ent"] == {"precision": 0, "recall": 0, "f1": 0, "gold": 1, "predicted": 0, "correct": 0}
    kept = without_seen([first, second], [first, second], (), [])
    assert kept["seen"] == 0 and (kept["ent"]["correct"], kept["rel_plus"]["gold"]) == (2, 0)
