"""The only scorer: micro precision, recall and F1 of sets, per sentence, over a whole split.

Ent: type and boundaries. Rel: relation type and both boundaries. Rel+ (strict): also both entity types. Duplicates
collapse; gold that no model can reach stays in. Two matchings of symmetric types (SciERC: Compare, Conjunction):
*symmetric*, in which the argument that starts first is the head in gold and prediction alike (SINET, SpERT), and
*directed* (PURE, PFN, DyGIE++).

A symmetric relation whose arguments start at the same word is ordered by where they end. SpERT's released scorer
leaves those as they stand, so that its figure depends on the direction in which they were annotated.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sinet.data.sentence import Labels, Sentence
from sinet.errors import UserError, quoted

TITLES = {"ent": "Ent", "rel": "Rel", "rel_plus": "Rel+"}
"""What tables call each."""
METRICS = tuple(TITLES)
RELATION_METRICS = ("rel", "rel_plus")
REL_GOLD_ENTITIES = "rel_gold_entities"
"""Rel of relations decided between the gold entities, of systems that can: Rel and Rel+ are the same there."""
FIGURES = ("precision", "recall", "f1")


def check_same_sentences(gold: Sequence[Sentence], predicted: Sequence[Sentence]) -> None:
    """Raises `UserError` when the two lists are not the same sentences."""
    if len(gold) != len(predicted):
        raise UserError(f"{len(gold)} gold sentences but {len(predicted)} predicted ones; score the same file")
    for g, p in zip(gold, predicted, strict=True):
        if g.tokens != p.tokens:
            raise UserError(f"sentence {quoted(g.id)}: gold and prediction {quoted(p.id)} have different words")


def score(gold: Sequence[Sentence], predicted: Sequence[Sentence], labels: Labels) -> dict:
    """Score predictions against gold, sentence by sentence in the same order.

    Returns:
        `{matching: {metric: {"precision", "recall", "f1", "gold", "predicted", "correct", "types": {type: ...}}}}`
        with percentages; `types` holds the same figures for each type, entity types under `ent`, relation types
        under `rel` and `rel_plus`.

    Raises:
        UserError: when the two lists are not the same sentences.
    """
    check_same_sentences(gold, predicted)
    return {
        matching: {
            metric: _figures(
                [
                    (facts(g, metric, symmetric), facts(p, metric, symmetric))
                    for g, p in zip(gold, predicted, strict=True)
                ],
                labels.relation_types if metric in RELATION_METRICS else labels.entity_types,
            )
            for metric in METRICS
        }
        for matching, symmetric in (("symmetric", labels.symmetric), ("directed", frozenset()))
    }


def facts(sentence: Sentence, metric: str, symmetric: Collection[str]) -> set[tuple]:
    """What a sentence claims under a metric, as a set; the type comes first in each claim."""
    if metric == "ent":
        return {(e.type, e.start, e.end) for e in sentence.entities}
    claims = set()
    for relation in sentence.relations:
        arguments = [sentence.entities[relation.head], sentence.entities[relation.tail]]
        if relation.type in symmetric:
            arguments.sort(key=lambda e: (e.start, e.end, e.type))
        fields = ("start", "end", "type") if metric == "rel_plus" else ("start", "end")
        claims.add((relation.type, *(tuple(getattr(e, f) for f in fields) for e in arguments)))
    return claims


def _figures(pairs: Iterable[tuple[set, set]], types: Sequence[str]) -> dict:
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for gold_facts, predicted_facts in pairs:
        gold.update(fact[0] for fact in gold_facts)
        predicted.update(fact[0] for fact in predicted_facts)
        correct.update(fact[0] for fact in gold_facts & predicted_facts)
    return precision_recall(gold.total(), predicted.total(), correct.total()) | {
        "types": {t: precision_recall(gold[t], predicted[t], correct[t]) for t in types}
    }


def precision_recall(gold: int, predicted: int, correct: float) -> dict:
    """The figures of counts, and the counts."""
    percentages = figures(np.array([correct, predicted, gold])).tolist()
    counts = {"gold": gold, "predicted": predicted, "correct": correct}
    return dict(zip(FIGURES, percentages, strict=True)) | counts


def figures(counts: NDArray) -> NDArray:
    """Precision, recall and F1 x 100, `(..., 3)`, from counts `(..., 3)` of correct, predicted and gold claims; a ratio
    over nothing is 0, as in the published scorers."""
    correct, predicted, gold = np.moveaxis(counts, -1, 0)
    over = np.stack([predicted, gold, (predicted + gold) / 2], axis=-1)
    return np.divide(100 * correct[..., None], over, out=np.zeros(over.shape), where=over > 0)
