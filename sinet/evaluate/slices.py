"""Where a system is right: figures by sentence length, number of triples, overlap of triples, distance of arguments.

Length, triples and overlap choose sentences, by their gold, and count all claims in them; every sentence is in one
class of length and of triples. Overlap follows Zeng et al., ACL 2018, section 1: a sentence is *normal* when no two of
its triples share an entity, has *entity pair overlap* (EPO) when two triples hold of the same two entities, and *single
entity overlap* (SEO) when two triples share one entity only; one sentence may have both, one without triples none.
Distance chooses claims, gold and predicted alike: the words between the two arguments, 0 where they touch or overlap.
"""

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from sinet.data.sentence import Sentence
from sinet.evaluate.metrics import METRICS, RELATION_METRICS, facts, precision_recall

LENGTHS = (10, 20, 30, 40)
TRIPLES = (0, 1, 2, 3, 4)
DISTANCES = (1, 3, 7, 15)
OVERLAPS = ("normal", "EPO", "SEO")
TITLES = {
    "length": "Words of the sentence",
    "triples": "Triples of the sentence",
    "overlap": "Overlap of triples",
    "distance": "Words between head and tail",
}


def _classes(ends: Sequence[int], least: int) -> list[str]:
    """Names of the classes that end at `ends`, the last one open."""
    starts = [least, *(end + 1 for end in ends)]
    names = [str(end) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=False)]
    return [*names, f"{starts[-1]}+"]


CLASSES = {
    "length": _classes(LENGTHS, 1),
    "triples": _classes(TRIPLES, 0),
    "overlap": list(OVERLAPS),
    "distance": _classes(DISTANCES, 0),
}


def _class(name: str, value: int, ends: Sequence[int]) -> str:
    return CLASSES[name][next((i for i, end in enumerate(ends) if value <= end), len(ends))]


def overlap_patterns(sentence: Sentence, symmetric: Collection[str] = ()) -> list[str]:
    """Which of OVERLAPS a sentence shows; none without triples."""
    triples = facts(sentence, "rel_plus", symmetric)
    pairs = Counter(frozenset(arguments) for _, *arguments in triples)
    entities = Counter(entity for pair in pairs for entity in pair)
    epo, seo = max(pairs.values(), default=0) > 1, max(entities.values(), default=0) > 1
    if not triples:
        return []
    return [name for name, has in zip(OVERLAPS[1:], (epo, seo), strict=True) if has] or [OVERLAPS[0]]


def sentence_classes(sentence: Sentence, symmetric: Collection[str] = ()) -> dict[str, list[str]]:
    """The classes of a gold sentence in each slicing of sentences."""
    triples = len(facts(sentence, "rel_plus", symmetric))
    return {
        "length": [_class("length", len(sentence.tokens), LENGTHS)],
        "triples": [_class("triples", triples, TRIPLES)],
        "overlap": overlap_patterns(sentence, symmetric),
    }


def distance_class(claim: tuple) -> str:
    """The class of a relation as `facts` states it."""
    first, second = sorted(argument[:2] for argument in claim[1:])
    return _class("distance", max(0, second[0] - first[1]), DISTANCES)


def slice_figures(gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str]) -> dict:
    """Figures of every class.

    Returns:
        `{slicing: {class: {"sentences": n, metric: as `precision_recall`}}}`; under `distance` there are no sentences
        and no entities.
    """
    pairs = list(zip(gold, predicted, strict=True))
    claims = [{m: (facts(g, m, symmetric), facts(p, m, symmetric)) for m in METRICS} for g, p in pairs]
    chosen = [sentence_classes(g, symmetric) for g, _ in pairs]
    figures = {}
    for name in ("length", "triples", "overlap"):
        members = {c: [i for i, of in enumerate(chosen) if c in of[name]] for c in CLASSES[name]}
        figures[name] = {
            c: {"sentences": len(members[c])} | {m: _count((claims[i][m] for i in members[c]), bool) for m in METRICS}
            for c in CLASSES[name]
        }
    figures["distance"] = {
        c: {m: _count((s[m] for s in claims), functools.partial(_of_distance, c)) for m in RELATION_METRICS}
        for c in CLASSES["distance"]
    }
    return figures


def without_gold_relations(gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str]) -> dict:
    """What is predicted where gold has no relation: the number of such `sentences`, the `relations` predicted in them,
    and the sentences `predicted_in`, with at least one."""
    pairs = zip(gold, predicted, strict=True)
    claimed = [len(facts(p, "rel_plus", symmetric)) for g, p in pairs if not g.relations]
    return {"sentences": len(claimed), "relations": sum(claimed), "predicted_in": sum(map(bool, claimed))}


def without_seen(
    gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str], train: Iterable[Sentence]
) -> dict:
    """Figures without the sentences whose words, capitals aside, also stand in train, and the number of those:
    `{"seen": n, metric: as precision_recall}`."""
    known = {_words(s) for s in train}
    new = [pair for pair in zip(gold, predicted, strict=True) if _words(pair[0]) not in known]
    counts = {m: _count(((facts(g, m, symmetric), facts(p, m, symmetric)) for g, p in new), bool) for m in METRICS}
    return {"seen": len(gold) - len(new)} | counts


def _words(sentence: Sentence) -> tuple[str, ...]:
    return tuple(word.casefold() for word in sentence.tokens)


def _of_distance(wanted: str, claim: tuple) -> bool:
    return distance_class(claim) == wanted


def _count(sentences: Iterable[tuple[set, set]], counts: Callable[[tuple], bool]) -> dict:
    gold = predicted = correct = 0
    for true, claimed in sentences:
        gold += sum(map(counts, true))
        predicted += sum(map(counts, claimed))
        correct += sum(map(counts, true & claimed))
    return precision_recall(gold, predicted, correct)
