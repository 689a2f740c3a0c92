"""Relation thresholds by type that maximise micro F1 of Rel+, and precision and recall at every common threshold.

Micro F1 = 2 TP / (predicted + gold) is a ratio of sums over types. Its maximum f is where max(2 TP - f (predicted +
gold)) = 0 (Dinkelbach, Management Science 1967), and for a given f each type is cut by itself.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sinet.data.sentence import Labels, Sentence
from sinet.evaluate.metrics import facts, figures

LEAST = 0.01
"""Relations scored below are never predicted."""
GRID = np.arange(1, 100) / 100
"""Common thresholds of the curve."""
BINS = 10


class Claims(NamedTuple):
    """Candidate relations of one type, best first: scores, and whether each is right; how many gold ones there are."""

    scores: NDArray
    right: NDArray
    gold: int


def claims(gold: Sequence[Sentence], candidates: Sequence[Sentence], labels: Labels) -> dict[str, Claims]:
    """The candidates of each relation type under Rel+; one of two directions of a symmetric type counts, the better."""
    true = {(i, *fact) for i, s in enumerate(gold) for fact in facts(s, "rel_plus", labels.symmetric)}
    best: dict[tuple, float] = {}
    for i, sentence in enumerate(candidates):
        for relation in sentence.relations:
            (fact,) = facts(sentence.with_labels(sentence.entities, [relation]), "rel_plus", labels.symmetric)
            best[i, *fact] = max(relation.score or 0.0, best.get((i, *fact), 0.0))
    found = {}
    for kind in labels.relation_types:
        of = sorted(((score, fact in true) for fact, score in best.items() if fact[1] == kind), reverse=True)
        scores, right = np.array(of or np.empty((0, 2))).T
        found[kind] = Claims(scores, right.astype(bool), sum(fact[1] == kind for fact in true))
    return found


def counts(of: Mapping[str, Claims], thresholds: Mapping[str, float]) -> NDArray:
    """Correct, predicted and gold claims at a threshold for each type."""
    rows = [
        (c.right[c.scores >= thresholds[t]].sum(), (c.scores >= thresholds[t]).sum(), c.gold) for t, c in of.items()
    ]
    return np.array(rows).sum(0)


def choose(of: Mapping[str, Claims], default: float) -> dict[str, float]:
    """The thresholds of the best micro F1; a type without gold claims keeps the `default`."""
    chosen = dict.fromkeys(of, default)
    best = figures(counts(of, chosen))[2]
    while True:
        cut = {kind: _cut(c, best / 100) if c.gold else default for kind, c in of.items()}
        if (f1 := figures(counts(of, cut))[2]) <= best:
            return chosen
        chosen, best = cut, f1


def _cut(of: Claims, f: float) -> float:
    """Where 2 TP - f x predicted is greatest: midway between the last score that is taken and the next."""
    gain = np.concatenate([[0.0], np.cumsum(2 * of.right - f)])
    edges = np.concatenate([[1.0], of.scores, [LEAST]])
    gain[edges[:-1] == edges[1:]] = -np.inf  # equal scores are taken together
    taken = int(gain.argmax())
    return float(edges[taken] + edges[taken + 1]) / 2


def curve(of: Mapping[str, Claims]) -> list[dict[str, float]]:
    """Precision, recall and F1 x 100 at each common threshold of GRID."""
    names = ("threshold", "precision", "recall", "f1")
    return [
        dict(zip(names, (t, *figures(counts(of, dict.fromkeys(of, t))).tolist()), strict=True)) for t in GRID.tolist()
    ]


def calibration(of: Mapping[str, Claims]) -> list[dict[str, float]]:
    """By tenths of the score: how many candidates there are, their mean score and the share of right ones."""
    scores, right = (np.concatenate([c[i] for c in of.values()]) for i in (0, 1))
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {"candidates": int(here.sum()), "score": float(scores[here].mean()), "right": float(right[here].mean())}
        for here in (places == i for i in range(BINS))
        if here.any()
    ]
