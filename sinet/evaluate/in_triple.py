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
from sinet.evaluate import stats
from sinet.evaluate.compare import documents_of, unit
from sinet.evaluate.metrics import FIGURES, facts, figures
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


def score_in_triple_ner(
    gold_path: Path,
    predictions: Mapping[str, Mapping[str, Path]],
    studied: str,
    out: Path,
    lengths: Sequence[int] | None = None,
) -> None:
    """Write `in_triple_ner.json`: NER by group of each model, mean over seeds, with intervals over documents; and the
    difference of recall and F1 to the studied model, tested as systems are (`sinet.evaluate.stats`), Holm over all. A
    group without gold entities has no figures.

    Args:
        predictions: by model name and seed.
        lengths: sentences of each document in order, where the dataset declares them.
    """
    gold = read_sentences(gold_path)
    documents = documents_of(gold, lengths)
    # by model, group and figure: of each seed the figure (seeds,), and in the same resamples (seeds, resamples)
    of_seeds: dict[str, np.ndarray] = {}
    resampled: dict[str, np.ndarray] = {}
    for model, seeds in predictions.items():
        of_seed = [in_triple_counts(gold, read_predicted(path, gold, gold_path)) for path in seeds.values()]
        counts = np.stack([stats.by_document(of, documents) for of in of_seed])
        counts = np.moveaxis(counts, 2, 0)  # (groups, seeds, documents, 3)
        of_seeds[model] = np.moveaxis(figures(counts.sum(axis=2)), -1, 1)
        resampled[model] = np.stack([stats.resampled_figures(of).transpose(2, 1, 0) for of in counts])
    totals = {group: int(sum(len(argument_entities(s)[g]) for s in gold)) for g, group in enumerate(GROUPS)}
    models: dict[str, dict] = {}
    tested: list[dict] = []
    for model, seeds in predictions.items():
        models[model] = {}
        for g, group in enumerate(GROUPS):
            models[model][group] = {"gold": totals[group]}
            for f, figure in enumerate(FIGURES if totals[group] else ()):
                values, again = of_seeds[model][g, f], resampled[model][g, f]
                bounds = np.quantile(again.mean(axis=0), (stats.LEVEL / 2, 1 - stats.LEVEL / 2)).tolist()
                described = {"values": dict(zip(seeds, values.tolist(), strict=True)), "interval": bounds}
                models[model][group][figure] = described
                if figure == "precision" or model == studied or studied not in predictions:
                    continue
                against = of_seeds[studied][g, f]
                described["difference"] = {"value": float(values.mean() - against.mean()), "tested": False}
                if min(len(values), len(against)) >= stats.LEAST_RUNS:
                    test = stats.difference_of_systems(values, against, again, resampled[studied][g, f])
                    described["difference"] |= {"tested": True, "interval": [test.low, test.high], "p": test.p}
                    tested.append(described["difference"])
    for difference, adjusted in zip(tested, stats.holm([t["p"] for t in tested]), strict=True):
        difference["p_holm"] = adjusted
    about = {
        "sentences": len(gold),
        "unit": unit(documents),
        "resamples": stats.RESAMPLES,
        "split": gold_path.stem,
        "studied": studied,
    }
    write_sealed(out, about | {"family": len(tested), "models": models})
