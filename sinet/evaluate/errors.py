"""Every wrong claim of a sentence, each of exactly one kind.

A claim is wrong when only one side makes it, under strict matching: entities by type and boundaries, relations by
their type and both arguments with boundaries and types (Rel+). Gold and predicted claims that nearly agree are paired
one to one, the closest agreement first, and a pair is one error; what finds no partner is missing or spurious.
So the errors with a gold claim are the false negatives of Ent and Rel+, those with a predicted one the false positives.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from sinet.data.sentence import Sentence
from sinet.evaluate.metrics import facts

ENTITY_KINDS = {
    "type": "the boundaries of a gold entity, another type",
    "boundary": "shares words with a gold entity of the same type",
    "boundary and type": "shares words with a gold entity of another type",
    "missing entity": "a gold entity without a counterpart",
    "spurious entity": "a predicted entity without a counterpart",
}
RELATION_KINDS = {
    "argument type": "the type and both arguments' boundaries of a gold relation, another type of an argument",
    "wrong direction": "a gold relation with head and tail exchanged",
    "wrong relation type": "the arguments of a gold relation in either order, another type",
    "argument boundary": "the type of a gold relation, arguments that share words with its own",
    "missing relation": "a gold relation without a counterpart, its arguments found as entities",
    "missing argument": "a gold relation without a counterpart, an argument not found as an entity",
    "spurious relation": "a predicted relation without a counterpart, its arguments gold entities",
    "spurious argument": "a predicted relation without a counterpart, an argument no gold entity",
}
KINDS = ENTITY_KINDS | RELATION_KINDS
"""What each kind of error means; an argument and an entity are the same when boundaries and type are."""

Claim = tuple
"""As in `sinet.evaluate.metrics.facts`: (type, start, end), or (type, (start, end, type), (start, end, type))."""


@dataclass(frozen=True, slots=True)
class Error:
    """One mistake: its kind in `KINDS`, the gold claim that was missed and the claim made in its place, or None."""

    kind: str
    gold: Claim | None
    predicted: Claim | None


def sentence_errors(gold: Sentence, predicted: Sentence, symmetric: Collection[str]) -> list[Error]:
    """All errors of a prediction, entities before relations, in the order of `KINDS`; none where it is right.

    Args:
        symmetric: relation types without a direction, as in `Labels.symmetric`.
    """
    entities = facts(gold, "ent", symmetric), facts(predicted, "ent", symmetric)
    relations = facts(gold, "rel_plus", symmetric), facts(predicted, "rel_plus", symmetric)
    errors = [
        *_errors(*entities, _entity_likeness, lambda _: "missing entity", lambda _: "spurious entity"),
        *_errors(*relations, _relation_likeness, _alone("missing", entities[1]), _alone("spurious", entities[0])),
    ]
    order = list(KINDS)
    return sorted(errors, key=lambda e: (order.index(e.kind), e.gold or e.predicted))


Likeness = tuple[str, float] | None


def _errors(
    gold: set[Claim],
    predicted: set[Claim],
    likeness: Callable[[Claim, Claim], Likeness],
    missing: Callable[[Claim], str],
    spurious: Callable[[Claim], str],
) -> Iterator[Error]:
    """Pair what only gold and what only the prediction claims, by kind, then by shared words; the rest alone."""
    order = list(KINDS)
    missed, wrong = gold - predicted, predicted - gold
    near = by_word(wrong)
    alike = [(like, g, p) for g in missed for p in sharing(g, near) if (like := likeness(g, p))]
    for (kind, _), g, p in sorted(alike, key=lambda a: (order.index(a[0][0]), -a[0][1], a[1], a[2])):
        if g in missed and p in wrong:
            missed.remove(g)
            wrong.remove(p)
            yield Error(kind, g, p)
    yield from (Error(missing(g), g, None) for g in missed)
    yield from (Error(spurious(p), None, p) for p in wrong)


def by_word(claims: Iterable[Claim]) -> dict[int, set[Claim]]:
    """The claims at each word of a sentence, of relations those that have it in either argument."""
    found: dict[int, set[Claim]] = {}
    for claim in claims:
        for start, end in _spans(claim):
            for word in range(start, end):
                found.setdefault(word, set()).add(claim)
    return found


def sharing(claim: Claim, by_word: dict[int, set[Claim]]) -> set[Claim]:
    """The claims that share a word with the first span of one: there are none like it among the others."""
    return set().union(*(by_word.get(word, ()) for word in range(*_spans(claim)[0])))


def _spans(claim: Claim) -> list[tuple[int, int]]:
    return [claim[1:]] if isinstance(claim[1], int) else [argument[:2] for argument in claim[1:]]


def _entity_likeness(gold: Claim, predicted: Claim) -> Likeness:
    shared = _overlap(gold[1:], predicted[1:])
    if shared == 1:
        return "type", shared
    if shared > 0:
        return "boundary" if gold[0] == predicted[0] else "boundary and type", shared
    return None


def _relation_likeness(gold: Claim, predicted: Claim) -> Likeness:
    same_type = gold[0] == predicted[0]
    gold_spans, spans = [a[:2] for a in gold[1:]], [a[:2] for a in predicted[1:]]
    if gold_spans == spans:
        return "argument type" if same_type else "wrong relation type", 1.0
    if gold_spans == spans[::-1]:
        return "wrong direction" if same_type else "wrong relation type", 0.5
    shared = min(map(_overlap, gold_spans, spans))
    return ("argument boundary", shared) if same_type and shared > 0 else None


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Shared words of two spans over the words of either."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(shared, 0) / (max(one[1], other[1]) - min(one[0], other[0]))


def _alone(what: str, entities: set[Claim]) -> Callable[[Claim], str]:
    """The kind of a relation without a counterpart: is it the relation, or an argument that the other side lacks?"""

    def kind(relation: Claim) -> str:
        known = all((kind, start, end) in entities for start, end, kind in relation[1:])
        return f"{what} relation" if known else f"{what} argument"

    return kind
