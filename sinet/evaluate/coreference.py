"""How well predicted clusters of mentions agree with gold ones: MUC, B-cubed, CEAF over entities, and their mean, the
CoNLL score (Pradhan et al., CoNLL 2012; the equations stand in Pradhan et al., ACL 2014, section 4).

Counts are summed over documents. Mentions are the same where sentence, start and end are; a cluster of one mention is
none, in gold and prediction.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from sinet.data.sentence import Sentence, by_document
from sinet.evaluate.metrics import FIGURES, check_same_sentences

MEASURES = ("muc", "b_cubed", "ceaf_e")
Clusters = list[set[tuple[int, int, int]]]


def coreference_scores(gold: Sequence[Sentence], predicted: Sequence[Sentence]) -> dict:
    """`coreference`: precision, recall and F1 x 100 of each measure, and `f1`, the mean of the three; a ratio over
    nothing is 0. Nothing where no cluster is annotated, or none predicted, as by most systems.

    Raises:
        UserError: when the two lists are not the same sentences.
    """
    check_same_sentences(gold, predicted)
    if not all(any(s.coreference for s in sentences) for sentences in (gold, predicted)):
        return {}
    sums = np.zeros((len(MEASURES), 2, 2))
    for document in by_document([s.document for s in gold]):
        key, response = _clusters(gold, document), _clusters(predicted, document)
        sums += [[_of(measure, response, key), _of(measure, key, response)] for measure in MEASURES]
    found = {}
    for measure, (precision, recall) in zip(MEASURES, _ratios(sums), strict=True):
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        found[measure] = dict(zip(FIGURES, (100 * precision, 100 * recall, 100 * f1), strict=True))
    return {"coreference": found | {"f1": sum(figures["f1"] for figures in found.values()) / len(found)}}


def _ratios(sums: NDArray) -> list[list[float]]:
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0).tolist()


def _clusters(sentences: Sequence[Sentence], document: Sequence[int]) -> Clusters:
    """The clusters of a document, whose sentences stand at these positions."""
    found: dict[int, set[tuple[int, int, int]]] = {}
    for i in document:
        for start, end, cluster in sentences[i].coreference:
            found.setdefault(cluster, set()).add((i, start, end))
    return [cluster for cluster in found.values() if len(cluster) > 1]


def _of(measure: str, these: Clusters, others: Clusters) -> tuple[float, float]:
    """Numerator and denominator: of recall where `these` are gold, of precision where they are predicted."""
    overlap = np.array([[len(one & other) for other in others] for one in these]).reshape(len(these), len(others))
    sizes, other_sizes = (np.array([len(c) for c in clusters], dtype=int) for clusters in (these, others))
    if measure == "muc":  # links that are left when a cluster is divided as the others have it, of those there are
        alone = sizes - np.array([len(one & set().union(*others)) for one in these], dtype=int)
        parts = alone + (overlap > 0).sum(1)
        return float((sizes - parts).sum()), float((sizes - 1).sum())
    if measure == "b_cubed":  # of each mention the share of its cluster that is with it in the others
        return float((overlap**2 / sizes[:, None]).sum()), float(sizes.sum())
    similar = 2 * overlap / (sizes[:, None] + other_sizes)  # each cluster is matched with one other at most
    return float(similar[linear_sum_assignment(similar, maximize=True)].sum()), float(len(these))
