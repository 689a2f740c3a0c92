"""Entities in a triple and in none: in-triple NER, of which the paper's case study speaks.

A gold entity is *in-triple* when it is an argument of a gold relation, else *out-of-triple*. NER F1 of a group: a
prediction that is right (type and boundaries) belongs to the group of the gold entity it finds; one that is wrong
belongs to the group it is predicted in, in-triple when it is an argument of a predicted relation. Every gold and every
predicted entity is counted once, so the counts of the two groups add up to those of Ent. But a system that predicts few
relations puts its wrong entities into the out-of-triple group: precision and F1 of a group hang on the system's
relations, recall depends on gold alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sinet.data.sentence import Sentence, read_sentences
from sinet.errors import UserError
from sinet.evaluate.metrics import FIGURES, facts, figures
from sinet.evaluate.stats import RESAMPLES, intervals
from sinet.files import write_sealed

GROUPS = ("in_triple", "out_of_triple")


def argument_entities(sentence: Sentence) -> tuple[set[tuple], set[tuple]]:
    """Entities (type, start, end) that are an argument of a relation, and all others."""
    arguments = {i for r in sentence.relations for i in (r.head, r.tail)}
    inside = {(e.type, e.start, e.end) for i, e in enumerate(sentence.entities) if i in arguments}
    return inside, facts(sentence, "ent", ()) - inside


def read_predicted(path: Path, gold: Sequence[Sentence], gold_path: Path) -> list[Sentence]:
    """Predictions of the sentences of `gold`; raises `UserError` where they are of others."""
    predicted = read_sentences(path)
    if [s.tokens for s in predicted] != [s.tokens for s in gold]:
        raise UserError(f"{path}: not the sentences of {gold_path}")
    return predicted


def in_triple_counts(gold: Sequence[Sentence], predicted: Sequence[Sentence]) -> np.ndarray:
    """Correct, predicted and gold entities of each sentence and group, (sentences, 2, 3)."""
    counts = np.zeros((len(gold), len(GROUPS), 3))
    for i, (g, p) in enumerate(zip(gold, predicted, strict=True)):
        true, claimed = argument_entities(g), argument_entities(p)
        everything = true[0] | true[1]
        found = claimed[0] | claimed[1]
        for group in range(len(GROUPS)):
            correct = len(true[group] & found)
            counts[i, group] = correct, correct + len(claimed[group] - everything), len(true[group])
    return counts


def score_in_triple_ner(gold_path: Path, predictions: Mapping[str, Mapping[str, Path]], out: Path) -> None:
    """Write `in_triple_ner.json`: NER by group of each model, mean over seeds, with intervals over sentences.

    Args:
        predictions: by model name and seed.
    """
    gold = read_sentences(gold_path)
    models = {}
    for model, seeds in predictions.items():
        # (sentences, seeds, groups, 3): the same sentences are drawn for all seeds, their figures averaged
        counts = np.stack(
            [in_triple_counts(gold, read_predicted(path, gold, gold_path)) for path in seeds.values()], axis=1
        )
        per_seed = figures(counts.sum(axis=0))
        low, high = intervals(counts, lambda sums: figures(sums).mean(axis=-3))
        models[model] = {
            group: {
                figure: {
                    "values": {seed: per_seed[s, g, f].item() for s, seed in enumerate(seeds)},
                    "interval": [low[g, f].item(), high[g, f].item()],
                }
                for f, figure in enumerate(FIGURES)
            }
            | {"gold": int(counts[:, 0, g, 2].sum())}
            for g, group in enumerate(GROUPS)
        }
    write_sealed(out, {"sentences": len(gold), "resamples": RESAMPLES, "split": gold_path.stem, "models": models})
