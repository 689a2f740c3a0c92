"""Scores beside the strict ones: relaxed, and with symmetric relations counted twice.

The relaxed ones stand under the names of SemEval-2013 Task 9 (Segura-Bedmar et al., 2013).
A gold and a predicted entity agree under *exact* when their boundaries are equal, of whatever type they are; under
*partial* when they share a word, of whatever type, which counts one half where the boundaries differ; under *type* when
they share a word and have the same type. Relations agree when their types are equal and their arguments agree one by
one, those of symmetric types in either order. So *exact* of relations is Rel, where no span has several types.

A claim is paired with one claim at most, and as many are paired as can be; under *partial* those of equal boundaries
first, which gives the largest sum. The claims are those of Ent and Rel+: no relaxed figure is below its strict one.
"""

from collections.abc import Callable, Collection, Sequence, Set

from sinet.data.sentence import Sentence
from sinet.evaluate.errors import Claim, by_word, sharing
from sinet.evaluate.metrics import facts, precision_recall

MATCHINGS = ("exact", "partial", "type")


def relaxed_scores(gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str]) -> dict:
    """Micro figures of `ent` and `rel_plus` over the same sentences in the same order: `{metric: {matching: as
    precision_recall}}`; under `partial`, `correct` may be half a claim more."""
    scores = {}
    for metric in ("ent", "rel_plus"):
        true, claimed = 0, 0
        correct = dict.fromkeys(MATCHINGS, 0.0)
        for g, p in zip(gold, predicted, strict=True):
            sides = _claims(g, metric, symmetric), _claims(p, metric, symmetric)
            true, claimed = true + len(sides[0]), claimed + len(sides[1])
            for matching, credit in zip(MATCHINGS, _credits(*sides, symmetric), strict=True):
                correct[matching] += credit
        scores[metric] = {matching: precision_recall(true, claimed, correct[matching]) for matching in MATCHINGS}
    return scores


def symmetric_twice(gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str]) -> dict:
    """Micro figures of `rel` and `rel_plus` as PL-Marker's scorer has them (Ye et al., ACL 2022): a relation of a
    symmetric type counts twice in gold, in predictions and where both agree; empty where no type is symmetric."""
    scores = {}
    for metric in ("rel", "rel_plus") if symmetric else ():
        pairs = [
            (facts(g, metric, symmetric), facts(p, metric, symmetric)) for g, p in zip(gold, predicted, strict=True)
        ]
        sides = (claims for g, p in pairs for claims in (g, p, g & p))
        counts = [sum(1 + (claim[0] in symmetric) for claim in claims) for claims in sides]
        scores[metric] = precision_recall(sum(counts[::3]), sum(counts[1::3]), sum(counts[2::3]))
    return scores


def _claims(sentence: Sentence, metric: str, symmetric: Collection[str]) -> set[Claim]:
    """As `facts`, an entity in the form of a relation of no type with one argument."""
    found = facts(sentence, metric, symmetric)
    return {("", (start, end, kind)) for kind, start, end in found} if metric == "ent" else found


def _credits(gold: Set[Claim], predicted: Set[Claim], symmetric: Collection[str]) -> tuple[float, float, float]:
    """What the predicted claims of a sentence are worth under each of MATCHINGS."""
    exact = _pairs(gold, predicted, symmetric, lambda a, b: a[:2] == b[:2])
    near = _pairs(gold - {*exact.values()}, predicted - exact.keys(), symmetric, _overlap)
    typed = _pairs(gold, predicted, symmetric, lambda a, b: a[2] == b[2] and _overlap(a, b))
    return len(exact), len(exact) + len(near) / 2, len(typed)


def _overlap(one: tuple, other: tuple) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])


def _pairs(
    gold: Set[Claim], predicted: Set[Claim], symmetric: Collection[str], agree: Callable[[tuple, tuple], bool]
) -> dict[Claim, Claim]:
    """Gold by predicted claims: as many as can be paired one to one, found by augmenting paths.

    Args:
        agree: whether two arguments do, which share a word.
    """

    def alike(g: Claim, p: Claim) -> bool:
        orders = (p[1:], p[:0:-1]) if g[0] in symmetric else (p[1:],)
        return g[0] == p[0] and any(all(map(agree, g[1:], order)) for order in orders)

    at = by_word(predicted)
    candidates = {g: [p for p in sharing(g, at) if alike(g, p)] for g in gold}
    paired: dict[Claim, Claim] = {}

    def pair(g: Claim, tried: set[Claim]) -> bool:
        for p in candidates[g]:
            if p not in tried:
                tried.add(p)
                if p not in paired or pair(paired[p], tried):
                    paired[p] = g
                    return True
        return False

    for g in gold:
        pair(g, set())
    return paired
