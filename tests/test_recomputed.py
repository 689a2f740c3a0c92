"""The published main table and the significance of three pairs, recomputed from archived predictions and the datasets'
own files by a program that shares no line with `sinet`.

F1, means and standard deviations are exact: they are held to the printed digits. What comes from the paired bootstrap
(`docs/statistics.md`) is drawn here REPEATS times by another generator: a printed figure may be off by the Monte Carlo
error that these repetitions show.
"""

import csv
import functools
import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import DATASETS

TABLES = Path("results/shown/results-grid")
ARCHIVE = Path("results/archive/shown")
FOLDER = {"SciERC": "scierc", "CoNLL04": "conll04", "MiniLM": "minilm", "SPAN Multi-Head": "span-multihead"}
FOLDER |= {"PFN": "pfn", "DyGIE++": "dygiepp"}
FOLDER |= {"SINET": "sinet", "SpERT": "spert", "SINET Base": "sinet-base", "SINET +TAP": "sinet-tap"}
FOLDER |= {"Base": "sinet-base", "Base+TAP": "sinet-tap", "Base+TAP+CTAM_NER": "sinet-ctam-ner"}
FOLDER |= {"Base+TAP+CTAM_RE": "sinet-ctam-re", "Base+TAP+CTAM": "sinet"}
FIGURES = ("Ent", "Rel", "Rel+")
SYMMETRIC = {"Compare", "Conjunction"}
PAIRS = [("SciERC", "SINET", other) for other in ("SpERT", "PFN", "SPAN Multi-Head", "SINET Base", "SINET +TAP")]
PAIRS += [("SciERC", "SpERT", "DyGIE++"), ("CoNLL04", "SINET", "SpERT"), ("CoNLL04", "SINET", "SINET Base")]
RESAMPLES, REPEATS = 10_000, 32
ERRORS = 4
"""A printed figure may lie so many standard deviations of the repetitions from their mean."""


def rows(table: str) -> list[dict]:
    with (TABLES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def claims(sentence: dict) -> tuple[set, set, set]:
    """Entities, relations between spans, relations between typed spans."""
    entities = [(e["start"], e["end"], e["type"]) for e in sentence["entities"]]
    typed = set()
    for relation in sentence["relations"]:
        head, tail = entities[relation["head"]], entities[relation["tail"]]
        swapped = relation["type"] in SYMMETRIC and tail < head
        typed.add((relation["type"], tail, head) if swapped else (relation["type"], head, tail))
    return set(entities), {(kind, head[:2], tail[:2]) for kind, head, tail in typed}, typed


def counted(dataset: str, encoder: str, system: str) -> np.ndarray:
    """Correct, predicted and gold claims: (figures, runs, sentences, 3)."""
    gold = json.loads((DATASETS / FOLDER[dataset] / f"{FOLDER[dataset]}_test.json").read_text(encoding="utf-8"))
    runs = []
    for path in sorted((ARCHIVE / FOLDER[dataset] / FOLDER[encoder] / FOLDER[system]).glob("*/predictions.jsonl.gz")):
        predicted = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        assert [p["tokens"] for p in predicted] == [g["tokens"] for g in gold], path
        both = [zip(claims(g), claims(p), strict=True) for g, p in zip(gold, predicted, strict=True)]
        runs.append([[(len(true & found), len(found), len(true)) for true, found in pair] for pair in both])
    return np.array(runs).transpose(2, 0, 1, 3)


def f1(counts: np.ndarray) -> np.ndarray:
    return 200 * counts[..., 0] / (counts[..., 1] + counts[..., 2])


@pytest.mark.parametrize(("table", "cells"), [("main", 21), ("ablation", 30)])
def test_every_measured_cell(table, cells):
    """The four decimals of the table's CSV; relations of gold entities are of predictions that are not archived."""
    measured = [row for row in rows(table) if row["split"] == "test" and row["figure"] in FIGURES]
    place = ("dataset", "encoder", "system")
    counts = {where: counted(*where) for where in {tuple(row[k] for k in place) for row in measured}}
    assert len(measured) == 3 * len(counts) == cells
    for row in measured:
        values = f1(counts[tuple(row[k] for k in place)][FIGURES.index(row["figure"])].sum(axis=1)).tolist()
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        spread = str(round(math.sqrt(squares / (len(values) - 1)), 4)) if len(values) > 1 else ""
        assert [row["mean"], row["sd"], row["n"]] == [str(round(mean, 4)), spread, str(len(values))], row
        assert row["values"] == " ".join(f"{value:.4f}" for value in values), row


@pytest.mark.parametrize(("table", "cells"), [("main", 21), ("ablation", 30)])
def test_every_cell_on_dev(table, cells):
    """What the archived trainings measured there."""
    measured = [row for row in rows(table) if row["split"] == "dev"]
    assert len(measured) == cells
    for row in measured:
        runs = ARCHIVE.joinpath(*(FOLDER[row[key]] for key in ("dataset", "encoder", "system")))
        dev = [json.loads(path.read_text(encoding="utf-8"))["dev"] for path in sorted(runs.glob("*/training.json"))]
        metric = {"Ent": "ent", "Rel": "rel", "Rel+": "rel_plus"}[row["figure"]]
        assert row["values"] == " ".join(f"{of[metric]:.4f}" for of in dev), row


def grouped(counts: np.ndarray, dataset: str) -> np.ndarray:
    """The sentences of each abstract summed, where the dataset's release has abstracts."""
    if dataset != "SciERC":
        return counts
    lines = (DATASETS / "scierc_documents" / "test.json").read_text(encoding="utf-8").splitlines()
    ends = list(itertools.accumulate(len(json.loads(line)["sentences"]) for line in lines))
    assert ends[-1] == counts.shape[2]
    return np.stack([of.sum(axis=2) for of in np.split(counts, ends[:-1], axis=2)], axis=2)


def two_sided(t: float, freedom: float) -> float:
    """P(|T| > t) of Student's t, which is tan(angle) x sqrt(freedom) with a density of cos(angle)^(freedom - 1)."""
    angle, middles = math.atan(abs(t) / math.sqrt(freedom)), (np.arange(2000) + 0.5) / 2000
    beyond, whole = (
        (math.pi / 2 - low) * np.mean(np.cos(low + (math.pi / 2 - low) * middles) ** (freedom - 1))
        for low in (angle, 0)
    )
    return float(beyond / whole)


def bound(p: float, freedom: float) -> float:
    """The t that is exceeded with probability p, by bisection."""
    low, high = 0.0, 100.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > p else (low, middle)
    return low


@functools.cache
def resamples(units: int) -> list[np.ndarray]:
    """How often each unit is drawn, (resamples, units), in each repetition."""
    random = np.random.Generator(np.random.MT19937(7))
    return [random.multinomial(units, np.full(units, 1 / units), RESAMPLES).astype(float) for _ in range(REPEATS)]


def significance(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Both tests of a pair from counts (runs, documents, 3) of each and how often a resample draws each document."""
    sides = [f1(of.sum(axis=1)) for of in (one, other)]
    again = [f1(np.einsum("bd,rdc->brc", weights, of, optimize=True)) for of in (one, other)]
    apart = sides[0].mean() - sides[1].mean()
    differences = again[0].mean(axis=1) - again[1].mean(axis=1)
    variance = of_bootstrap = differences.var(ddof=1)
    raw, of_freedom = of_bootstrap, 0.0
    for of, drawn in zip(sides, again, strict=True):
        n, spread = len(of), of.var(ddof=1)
        pairs = itertools.combinations(range(n), 2)
        counted_already = np.mean([(drawn[:, i] - drawn[:, j]).var(ddof=1) / 2 for i, j in pairs])
        variance += max(0, spread - counted_already) / n
        raw += spread / n
        of_freedom += (spread / n) ** 2 / (n - 1)
    freedom, error = raw**2 / of_freedom, math.sqrt(variance)
    reach = bound(0.05, freedom) * error
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    low, high = np.percentile(differences, [2.5, 97.5])
    return {"t_low": apart - reach, "t_high": apart + reach, "log t_p": math.log(two_sided(apart / error, freedom))} | {
        "bootstrap_low": low,
        "bootstrap_high": high,
        "bootstrap_p": 2 * (1 + beyond) / (1 + RESAMPLES),
    }


@pytest.mark.parametrize(("dataset", "system", "other"), PAIRS)
def test_significance_of_a_pair(dataset, system, other):
    """All three figures: the intervals and p of the t test and of the bootstrap alone."""
    one, two = (grouped(counted(dataset, "MiniLM", name), dataset) for name in (system, other))
    drawn = resamples(one.shape[2])
    for figure, a, b in zip(FIGURES, one, two, strict=True):
        key = {"dataset": dataset, "encoder": "MiniLM", "system": system, "other": other, "figure": figure}
        row = next(row for row in rows("significance") if key.items() <= row.items())
        repeated = [significance(a, b, weights) for weights in drawn]
        row["log t_p"] = math.log(float(row["t_p"]))
        for name in repeated[0]:
            found = [r[name] for r in repeated]
            rounding = 4 / RESAMPLES if name == "bootstrap_p" else 0.0001
            off = abs(float(row[name]) - np.mean(found))
            assert off <= ERRORS * np.std(found, ddof=1) + rounding, (key, name, row[name], found)


def test_correction_of_all_comparisons():
    """Holm: the smallest of m p-values times m, the next times m - 1, and so on, none below the one before."""
    tested = sorted((row for row in rows("significance") if row["t_p"]), key=lambda row: float(row["t_p"]))
    least = 0.0
    for rank, row in enumerate(tested):
        least = max(least, min(1.0, float(row["t_p"]) * (len(tested) - rank)))
        assert float(row["p_holm"]) == pytest.approx(least), row
    assert len(tested) == 75
