"""Every system against every other, and the ablation: differences of F1, their intervals and their worth.

Systems are compared where they share dataset, encoder and recipe: each with each other one, the full model with each
setting of its ablation, each setting with Base. All comparisons of a grid that are tested, of three metrics each, are
one family for the correction; with fewer than `stats.LEAST_RUNS` seeds on a side there is no test, and the bootstrap
alone speaks, of the trained runs only. What is drawn again are documents where they are known, else sentences. Folds of
a dataset are resampled one by one, a seed's figure is its mean over them.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sinet.data.sentence import Labels, Sentence, read_sentences
from sinet.errors import UserError
from sinet.evaluate import stats
from sinet.evaluate.metrics import METRICS, facts, figures
from sinet.files import read_sealed
from sinet.published import BASE, FULL, is_system


@dataclass(frozen=True)
class Scored:
    """A run to compare: where it stands, and the counts of its predictions, `(metrics, n, 3)` of the n documents or
    sentences (`unit`) that are drawn again."""

    dataset: str
    encoder: str
    recipe: str
    model: str
    seed: int
    counts: NDArray
    unit: str


def sentence_counts(gold: Sequence[Sentence], predicted: Sequence[Sentence], symmetric: Collection[str]) -> NDArray:
    """Correct, predicted and gold claims of each sentence under each of METRICS: `(metrics, sentences, 3)`."""
    counts = np.zeros((len(METRICS), len(gold), 3), dtype=np.int64)
    for (m, metric), (i, (g, p)) in itertools.product(enumerate(METRICS), enumerate(zip(gold, predicted, strict=True))):
        true, claimed = facts(g, metric, symmetric), facts(p, metric, symmetric)
        counts[m, i] = len(true & claimed), len(claimed), len(true)
    return counts


def documents_of(sentences: Sequence[Sentence], lengths: Sequence[int] | None) -> NDArray:
    """The number of each sentence's document, from 0; a sentence of no known document is one by itself.

    Args:
        lengths: sentences of each document in order, where a dataset declares them; names do not count then.
    """
    if lengths is not None:
        return np.repeat(np.arange(len(lengths)), lengths)[: len(sentences)]
    names = [i if s.document is None else s.document for i, s in enumerate(sentences)]
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return np.array([number[name] for name in names], dtype=int)


def unit(documents: NDArray) -> str:
    """What is drawn again: a "document", or a "sentence" where each is a document by itself."""
    return "sentence" if len(set(documents.tolist())) == len(documents) else "document"


def read_runs(records: Sequence[Path], data: Path, declared: Mapping[str, dict]) -> list[Scored]:
    """The runs of `records` with the predictions beside them, against `data/DATASET/test.jsonl`.

    Args:
        declared: the datasets, as in `sinet.grid.plan.Plan.declared`.

    Raises:
        UserError: when predictions are not those that a record's scores were made of.
    """
    gold: dict[str, tuple[list[Sentence], Labels, NDArray]] = {}
    runs = []
    for path in records:
        record = read_sealed(path, "dataset", "encoder", "recipe", "model", "seed", "scores")
        dataset = record["dataset"]
        if dataset not in gold:
            labels = Labels.read(data / dataset / "labels.json")
            sentences = read_sentences(data / dataset / "test.jsonl")
            lengths = declared[dataset].get("documents", {}).get("test")
            gold[dataset] = sentences, labels, documents_of(sentences, lengths)
        sentences, labels, documents = gold[dataset]
        predicted = read_sentences(path.with_name("predictions.jsonl"))
        same = len(predicted) == len(sentences)
        counts = sentence_counts(sentences, predicted, labels.symmetric) if same else None
        scored = [[record["scores"]["symmetric"][m][n] for n in ("correct", "predicted", "gold")] for m in METRICS]
        if counts is None or counts.sum(1).tolist() != scored:
            raise UserError(
                f"{path.with_name('predictions.jsonl')}: not what {path.name} has the scores of; score it again"
            )
        place = dataset, record["encoder"], record["recipe"]["name"]
        drawn = stats.by_document(counts.swapaxes(0, 1), documents).swapaxes(0, 1)
        runs.append(Scored(*place, record["model"], record["seed"], drawn, unit(documents)))
    return runs


def pairs_to_compare(models: dict[str, dict]) -> list[tuple[str, str, str]]:
    """Kind of comparison, system, other, of the declared models."""
    settings = {m["setting"]: n for n, m in models.items() if "setting" in m}
    systems = [n for n, m in models.items() if is_system(m)]
    full, base = settings.get(FULL), settings.get(BASE)
    steps = [n for s, n in settings.items() if s not in (FULL, BASE)]
    return [
        *(("system", *pair) for pair in itertools.combinations(systems, 2)),
        *(("ablation", full, other) for other in (base, *steps) if full and other),
        *(("ablation", step, base) for step in steps if base),
    ]


def compare(runs: Sequence[Scored], declared: dict, resamples: int = stats.RESAMPLES) -> dict:
    """All comparisons of a grid, as `comparisons.json`.

    Args:
        declared: as `sinet.grid.plan.Plan.declared`.

    Raises:
        UserError: a system without a run skipped or failed that lacks a seed on one of the dataset's folds.
    """

    def whole(dataset: str) -> str:
        return declared["datasets"][dataset].get("fold_of", dataset)

    places: dict[tuple[str, str, str], list[Scored]] = {}
    for run in runs:
        places.setdefault((whole(run.dataset), run.encoder, run.recipe), []).append(run)
    without_result = (*declared["skipped"], *declared["failed"])
    lacking = {(whole(d), e, m) for path, _ in without_result for d, e, m, _ in [path.split("/")]}
    found, not_compared = [], []
    tests: list[stats.Tested | None] = []
    for (dataset, encoder, recipe), there in places.items():
        place = {"dataset": dataset, "encoder": encoder, "recipe": recipe}
        begun = {run.model for run in there}
        of_model = _figures([run for run in there if (dataset, encoder, run.model) not in lacking], resamples)
        for kind, system, other in pairs_to_compare(declared["models"]):
            between = place | {"kind": kind, "system": system, "other": other}
            incomplete = [m for m in (system, other) if (dataset, encoder, m) in lacking]
            if system not in of_model or other not in of_model:
                if incomplete and begun & {system, other}:
                    not_compared.append(between | {"why": f"runs of {' and '.join(incomplete)} have no result"})
                continue
            a, b = of_model[system], of_model[other]
            tested = min(len(a.seeds), len(b.seeds)) >= stats.LEAST_RUNS
            for m, metric in enumerate(METRICS):
                again = a.resampled[m], b.resampled[m]
                bootstrap = stats.difference(*(of_seeds.mean(0) for of_seeds in again))
                test = stats.difference_of_systems(a.f1[m], b.f1[m], *again) if tested else None
                tests.append(test)
                found.append(
                    between
                    | {"metric": metric, "seeds": a.seeds, "other_seeds": b.seeds}
                    | {"f1": a.f1[m].tolist(), "other_f1": b.f1[m].tolist()}
                    | {"difference": float(a.f1[m].mean() - b.f1[m].mean())}
                    | {"bootstrap": {"interval": [bootstrap.low, bootstrap.high], "p": bootstrap.p}}
                    | {"interval": test and [test.low, test.high], "p": test and test.p, "tested": tested}
                )
    family = [test.p for test in tests if test]
    adjusted = iter(stats.holm(family))
    for comparison, test in zip(found, tests, strict=True):
        scores = comparison["f1"], comparison["other_f1"]
        comparison["p_holm"] = next(adjusted) if test else None
        # the level at which Holm's procedure finds the first of the family
        comparison["detectable"] = test.detectable(stats.LEVEL / len(family)) if test else None
        for key, sides in (("aso", scores), ("aso_of_other", scores[::-1])):
            comparison[key] = stats.almost_stochastic_order(*sides, comparisons=2 * len(family))
    return {
        "resamples": resamples,
        "units": {whole(run.dataset): run.unit for run in runs},
        "power": stats.POWER,
        "level": stats.LEVEL,
        "family": len(family),
        "least_runs": stats.LEAST_RUNS,
        "least_seeds": stats.LEAST_SEEDS,
        "ordered_below": stats.ORDERED,
        "comparisons": found,
        "not_compared": not_compared,
    }


@dataclass(frozen=True)
class _Figures:
    """A system at one place: its seeds, their F1 `(metrics, seeds)`, and in resamples `(metrics, seeds, resamples)`."""

    seeds: list[int]
    f1: NDArray
    resampled: NDArray


def _figures(runs: Sequence[Scored], resamples: int) -> dict[str, _Figures]:
    folds = sorted({run.dataset for run in runs})
    resampled, observed = {}, {}
    for number, fold in enumerate(folds):
        there = [run for run in runs if run.dataset == fold]
        for m in range(len(METRICS)):
            counts = np.stack([run.counts[m] for run in there])
            again = stats.resampled_f1(counts, resamples, seed=number)
            for i, run in enumerate(there):
                key = run.model, run.seed, fold, m
                resampled[key], observed[key] = again[:, i], figures(counts[i].sum(0))[..., 2]
    of_model = {}
    for model in dict.fromkeys(run.model for run in runs):
        seeds = sorted({run.seed for run in runs if run.model == model})
        for fold, seed in itertools.product(folds, seeds):
            if (model, seed, fold, 0) not in observed:
                raise UserError(f"{fold}: {model} has no run of seed {seed}, as it has on other folds; run the grid")

        def of_seed(figure: dict, m: int, seed: int, model: str = model) -> NDArray:
            return np.mean([figure[model, seed, fold, m] for fold in folds], axis=0)

        per_seed = [
            np.array([[of_seed(figure, m, seed) for seed in seeds] for m in range(len(METRICS))])
            for figure in (observed, resampled)
        ]
        of_model[model] = _Figures(seeds, *per_seed)
    return of_model
