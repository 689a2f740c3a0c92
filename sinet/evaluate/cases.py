"""The sentences of the case study: found by rules in the predictions of the systems compared, or named by their ids.

Triples count as right under Rel+ with symmetric types direction-free. Among the sentences that fulfil a rule the
legible ones (`LONGEST` words at most) come first; no sentence is shown twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sinet.captions import machine
from sinet.data.sentence import Labels, Sentence, read_sentences, sentence_to_json
from sinet.errors import UserError, nearest
from sinet.evaluate.in_triple import argument_entities, read_predicted
from sinet.evaluate.metrics import facts
from sinet.files import read_sealed

LONGEST = 24
"""Words of a sentence that a column-wide figure can label legibly."""


@dataclass(frozen=True)
class Outcome:
    """What the systems made of one sentence: triples of gold, of the studied system, of each other system, and gold
    entities in a triple and apart from all of these."""

    sentence: Sentence
    gold: set[tuple]
    own: set[tuple]
    others: Sequence[set[tuple]]
    inside: set[tuple]
    apart: set[tuple]

    @property
    def only(self) -> set[tuple]:
        """Gold triples that the studied system finds and no other does."""
        return (self.gold & self.own).difference(*self.others)


@dataclass(frozen=True)
class Rule:
    """A rule: what it asks for in words, whether a sentence fulfils it, and what comes first among those that do."""

    text: str
    holds: Callable[[Outcome], bool]
    merit: Callable[[Outcome], tuple]


RULES = {
    "only-right": Rule(
        "a triple that only the studied system gets right, of all systems compared; most such triples, fewest wrong",
        lambda o: bool(o.others) and bool(o.only),
        lambda o: (len(o.only), -len(o.own - o.gold)),
    ),
    "out-of-triple": Rule(
        "an entity in a triple and one that stands in none and shares no word with those; most triples predicted "
        "right, fewest wrong",
        lambda o: bool(o.inside) and bool(o.apart),
        lambda o: (len(o.gold & o.own), -len(o.own - o.gold)),
    ),
    "hard-failure": Rule(
        "no system compared gets any of its triples right; most gold triples, most wrong ones of the studied system",
        lambda o: bool(o.gold) and not o.gold & o.own.union(*o.others),
        lambda o: (len(o.gold), len(o.own - o.gold)),
    ),
}


def outcome(gold: Sentence, own: Sentence, others: Sequence[Sentence], symmetric: frozenset[str]) -> Outcome:
    """Compare the predictions of one sentence."""
    inside, outside = argument_entities(gold)
    covered = {word for _, start, end in inside for word in range(start, end)}
    triples = [facts(s, "rel_plus", symmetric) for s in (gold, own, *others)]
    apart = {e for e in outside if covered.isdisjoint(range(e[1], e[2]))}
    return Outcome(gold, triples[0], triples[1], triples[2:], inside, apart)


def choose(outcomes: Sequence[Outcome], wanted: Sequence[str]) -> list[int | None]:
    """The place of a sentence for each of `wanted`, a name in `RULES` or a sentence's id; None where no sentence
    fulfils the rule. Ties go to the shorter, then to the earlier sentence.

    Raises:
        UserError: a name that is neither.
    """
    place = {o.sentence.id: i for i, o in enumerate(outcomes)}
    for name in wanted:
        if name not in RULES and name not in place:
            example = next(iter(place), "")
            raise UserError(f"case_study.sentences: {name!r} is no id such as {example!r}; rules: {', '.join(RULES)}")
    taken = {place[name] for name in wanted if name not in RULES}
    chosen: list[int | None] = []
    for name in wanted:
        if name not in RULES:
            chosen.append(place[name])
            continue
        rule = RULES[name]
        found = [i for i, o in enumerate(outcomes) if i not in taken and rule.holds(o)]
        best = max(
            found,
            key=lambda i: (_legible(outcomes[i]), *rule.merit(outcomes[i]), -_words(outcomes[i]), -i),
            default=None,
        )
        chosen.append(best)
        if best is not None:
            taken.add(best)
    return chosen


def chosen_cases(
    gold_path: Path,
    labels_path: Path,
    attention_path: Path,
    predictions: Mapping[str, Path],
    model: str,
    wanted: Sequence[str],
    what: str,
) -> list[dict]:
    """For each of `wanted` the rule, what was measured and, where one is found, the sentence, its attention and every
    system's prediction.

    Args:
        predictions: of every system compared, on the same sentences, by model name.
        model: the studied one of them, of which the attention is.
        what: whose attention this is, for captions.
    """
    gold = read_sentences(gold_path)
    symmetric = Labels.read(labels_path).symmetric
    predicted = {name: read_predicted(path, gold, gold_path) for name, path in predictions.items()}
    if model not in predicted:
        raise UserError(f"--model {model!r}: has no predictions here, {nearest(model, predicted)}")
    attended = read_sealed(attention_path)
    if [a["id"] for a in attended["sentences"]] != [s.id for s in gold]:
        raise UserError(f"{attention_path}: not the sentences of {gold_path}")
    others = [sentences for name, sentences in predicted.items() if name != model]
    outcomes = [
        outcome(sentence, predicted[model][i], [o[i] for o in others], symmetric) for i, sentence in enumerate(gold)
    ]
    device = f"{attended['precision']}, {machine(attended)}"
    common = {"model": model, "symmetric": sorted(symmetric), "measured": f"{what}; attention in {device}"}
    return [
        {"choice": _choice(name, place)}
        | common
        | (
            {}
            if place is None
            else {
                "gold": sentence_to_json(gold[place]),
                "attention": attended["sentences"][place]["attention"],
                "predicted": {system: sentence_to_json(s[place]) for system, s in predicted.items()},
            }
        )
        for name, place in zip(wanted, choose(outcomes, wanted), strict=True)
    ]


def holds_triple(sentence: Sentence, triple: Sequence[str], symmetric: frozenset[str]) -> bool:
    """Whether a sentence has a relation between these words (of the head, the tail) of this type; of a `symmetric` type
    in either direction."""
    head, kind, tail = triple
    words = [" ".join(sentence.tokens[e.start : e.end]) for e in sentence.entities]
    ends = {(words[r.head], words[r.tail]) for r in sentence.relations if r.type == kind}
    return (head, tail) in ends or (kind in symmetric and (tail, head) in ends)


def _legible(case: Outcome) -> bool:
    return _words(case) <= LONGEST


def _words(case: Outcome) -> int:
    return len(case.sentence.tokens)


def _choice(name: str, place: int | None) -> str:
    if name not in RULES:
        return "chosen by its id"
    text = f"rule {name}: {RULES[name].text}; of at most {LONGEST} words where there is one"
    return f"no sentence meets the {text}" if place is None else f"found by a {text}; not a sample of the typical"
