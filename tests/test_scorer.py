"""The scorer against the released scorers, and its rules on cases small enough to count by hand."""

import random
from functools import partial

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from sinet.data.formats import ASPECT_OPINION
from sinet.data.sentence import Entity, Labels, Relation, Sentence
from sinet.errors import UserError
from sinet.evaluate.metrics import FIGURES, METRICS, facts, score
from sinet.evaluate.relaxed import relaxed_scores, symmetric_twice
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


TRIPLETS = stored("aste.json")


def triplets(words: list[str], items: list) -> Sentence:
    """[polarity, aspect, opinion] as a sentence: the distinct spans in either role, and the relations between them."""
    found = sorted({(*span, kind) for _, *spans in items for span, kind in zip(spans, ASPECT_OPINION, strict=True)})
    relations = (
        Relation(polarity, found.index((*aspect, "Aspect")), found.index((*opinion, "Opinion")))
        for polarity, aspect, opinion in items
    )
    return Sentence("s", tuple(words), tuple(Entity(kind, a, b) for a, b, kind in found), tuple(relations))


def repeats(*sentences: Sentence) -> bool:
    return any(len(set(s.relations)) < len(s.relations) for s in sentences)


@pytest.mark.parametrize("case", TRIPLETS.get("cases", [{}]), ids=lambda case: case.get("title", "missing"))
def test_equals_the_released_scorers_of_aspect_sentiment_triplets(case):
    """Triplet F1 is Rel+, of a pair without polarity Rel+ with one type, of aspects and of opinions Ent of the type.
    Repetitions collapse here and in SCI-Net's scorer, not in Span-ASTE's; SCI-Net's counts terms by their start."""
    if not case:
        missing("aste.json")
    sentences = [TRIPLETS["sentences"][i] for i in case["sentences"]]
    labels = Labels(tuple(TRIPLETS["entity_types"]), tuple(TRIPLETS["relation_types"]))
    gold = [triplets(s["words"], s["relations"]) for s in sentences]
    predicted = [triplets(s["words"], p) for s, p in zip(sentences, case["predicted"], strict=True)]
    alike = [
        [s.with_labels(s.entities, (Relation("POS", r.head, r.tail) for r in s.relations)) for s in side]
        for side in (gold, predicted)
    ]
    ours, pairs = (score(*sides, labels)["directed"] for sides in ((gold, predicted), alike))
    span_aste, sci_net = case["scores"]["span_aste"], case["scores"]["sci_net"]
    expected = [(ours["ent"]["types"][kind], span_aste[kind.lower()]) for kind in ASPECT_OPINION]
    expected += [(ours["rel_plus"], sci_net[name]) for name in ("triplet", "triplet_with_types")]
    if not repeats(*gold, *predicted):
        expected += [(ours["rel_plus"], span_aste[name]) for name in ("triplet", "original")]
    if not repeats(*alike[0], *alike[1]):
        expected.append((pairs["rel_plus"], span_aste["pair"]))
    for found, right in expected:
        assert [found[figure] for figure in FIGURES] == pytest.approx(right, abs=1e-9)


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


def relaxed(gold: Sentence, predicted: Sentence, metric: str = "ent") -> list[float]:
    """What is right of a sentence under exact, partial, type."""
    return [of["correct"] for of in relaxed_scores([gold], [predicted], SYMMETRIC)[metric].values()]


@pytest.mark.parametrize(
    "gold, predicted, correct",
    [
        ([("Task", 0, 2)], [("Task", 0, 2)], [1, 1, 1]),
        ([("Task", 0, 2)], [("Method", 0, 2)], [1, 1, 0]),
        ([("Task", 0, 2)], [("Task", 1, 4)], [0, 0.5, 1]),
        ([("Task", 0, 2)], [("Method", 1, 4)], [0, 0.5, 0]),
        ([("Task", 0, 2)], [("Task", 2, 4)], [0, 0, 0]),
        # each claim once: three parts of one entity
        ([("Task", 0, 6)], [("Task", 0, 2), ("Task", 2, 4), ("Task", 4, 6)], [0, 0.5, 1]),
        # as many pairs as can be under type, equal boundaries first under partial
        ([("Task", 0, 4), ("Task", 3, 6)], [("Task", 0, 4), ("Task", 0, 1)], [1, 1, 2]),
        # a word has two types on both sides
        ([("Task", 0, 1), ("Method", 0, 1)], [("Task", 0, 1), ("Metric", 0, 1)], [2, 2, 1]),
    ],
)
def test_relaxed_entities_by_hand(gold, predicted, correct):
    assert relaxed(one(gold, []), one(predicted, [])) == correct


MOVED = [("Task", 0, 2), ("Method", 5, 7)]


@pytest.mark.parametrize(
    "entities, relation, correct",
    [
        ([("Task", 0, 2), ("Method", 4, 6)], ("Used-for", 0, 1), [1, 1, 1]),
        ([("Task", 0, 2), ("Metric", 4, 6)], ("Used-for", 0, 1), [1, 1, 0]),
        (MOVED, ("Used-for", 0, 1), [0, 0.5, 1]),
        (MOVED, ("Used-for", 1, 0), [0, 0, 0]),
        (MOVED, ("Part-of", 0, 1), [0, 0, 0]),
        ([("Task", 0, 2), ("Method", 7, 8)], ("Used-for", 0, 1), [0, 0, 0]),
    ],
)
def test_relaxed_relations_by_hand(entities, relation, correct):
    gold = one([("Task", 0, 2), ("Method", 4, 6)], [("Used-for", 0, 1)])
    assert relaxed(gold, one(entities, [relation]), "rel_plus") == correct


def test_relaxed_symmetric_relations_have_no_direction_where_spans_cross():
    gold = one([("Task", 0, 5), ("Method", 1, 2)], [("Compare", 0, 1)])
    crossed = [("Task", 2, 5), ("Method", 0, 2)]
    assert relaxed(gold, one(crossed, [("Compare", 0, 1)]), "rel_plus") == [0, 0.5, 1]
    assert relaxed(gold, one(crossed, [("Used-for", 0, 1)]), "rel_plus") == [0, 0, 0]


def test_relaxed_figures_by_hand():
    gold = one([("Task", 0, 2), ("Method", 3, 4), ("Metric", 5, 6)], [])
    predicted = one([("Task", 1, 2), ("Method", 3, 4)], [])
    partly = relaxed_scores([gold, gold], [predicted, one([], [])], ())["ent"]["partial"]
    counts = {"gold": 6, "predicted": 2, "correct": 1.5}
    assert partly == pytest.approx({"precision": 75, "recall": 25, "f1": 37.5} | counts)


def test_symmetric_relations_count_twice_by_hand():
    entities = [("Task", 0, 1), ("Method", 2, 3), ("Metric", 4, 5)]
    gold = one(entities, [("Compare", 0, 1), ("Compare", 1, 2), ("Used-for", 0, 2)])
    predicted = one(entities, [("Compare", 1, 0), ("Used-for", 0, 2), ("Used-for", 2, 0)])
    counts = {"gold": 5, "predicted": 4, "correct": 3}
    twice = symmetric_twice([gold, one([], [])], [predicted, one([], [])], SYMMETRIC)
    assert twice["rel"] == twice["rel_plus"] == pytest.approx({"precision": 75, "recall": 60, "f1": 600 / 9} | counts)
    wrong = one([("Method", 0, 1), *entities[1:]], [("Compare", 0, 1)])
    assert [symmetric_twice([gold], [wrong], SYMMETRIC)[m]["correct"] for m in ("rel", "rel_plus")] == [2, 0]
    assert symmetric_twice([gold], [predicted], ()) == {}


def credit(matching: str, symmetric: frozenset[str], g: tuple, p: tuple) -> float:
    """What a pair of claims is worth, said once more: entities without their type as relations of one argument."""
    orders = [p[1:], p[:0:-1]] if g[0] in symmetric else [p[1:]]
    worth = [0.0]
    for order in orders if g[0] == p[0] else []:
        pairs = list(zip(g[1:], order, strict=True))
        same = all(a[:2] == b[:2] for a, b in pairs)
        meet = all(set(range(*a[:2])) & set(range(*b[:2])) for a, b in pairs)
        typed = all(a[2] == b[2] for a, b in pairs)
        worth.append({"exact": same, "partial": (same + meet) / 2, "type": meet and typed}[matching])
    return max(worth)


def test_relaxed_figures_are_the_best_pairing_and_never_below_strict_ones():
    draw = random.Random(0)
    types = ("Task", "Method")

    def any_sentence() -> Sentence:
        spans = [(draw.choice(types), s, s + draw.randint(1, 3)) for s in draw.choices(range(7), k=5)]
        relations = [(draw.choice(("Used-for", "Compare")), *draw.sample(range(5), 2)) for _ in range(6)]
        return one(spans, relations)

    labels, better = Labels(types, ("Used-for", "Compare"), SYMMETRIC), 0
    for _ in range(300):
        gold, predicted = any_sentence(), any_sentence()
        strict, ours = score([gold], [predicted], labels)["symmetric"], relaxed_scores([gold], [predicted], SYMMETRIC)
        for metric in ("ent", "rel_plus"):
            sides = [facts(s, metric, SYMMETRIC) for s in (gold, predicted)]
            if metric == "ent":
                sides = [{("", (start, end, kind)) for kind, start, end in side} for side in sides]
            for matching, figures in ours[metric].items():
                of = partial(credit, matching, SYMMETRIC)
                worth = np.array([[of(g, p) for p in sides[1]] for g in sides[0]])
                assert figures["correct"] == worth[linear_sum_assignment(worth, maximize=True)].sum(), matching
                for figure in ("precision", "recall", "f1"):
                    assert figures[figure] >= strict[metric][figure]
                better += figures["f1"] > strict[metric]["f1"]
    assert better > 1000
