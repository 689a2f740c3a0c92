"""Is one system better than another? Tests for F1 over sentences and over seeds.

*Paired bootstrap* (Efron and Tibshirani, 1993, ch. 13 and 16; Koehn, EMNLP 2004): the sentences of the test split, or
its documents where they are known, since sentences of one text are not independent (`by_document`), are drawn with
replacement, the same ones for every run; a system's figure in a resample is the mean over its seeds of each seed's F1
there. By itself it speaks of the trained runs alone: with other seeds equal systems differ by more. So systems of
LEAST_RUNS or more seeds are tested by Student's t. The variance of the difference is V = V_boot + sum over both systems
of max(0, s^2 - v) / n: s^2 is the variance of a system's F1 over its n seeds; v, half the mean paired-bootstrap
variance between two of its runs, is the part of s^2 that V_boot holds already, a run's noise on single sentences.
Degrees of freedom by Welch (Biometrika, 1947) and Satterthwaite, from the raw s^2. Resampling three seeds instead would
understate their variance by a third. *Almost stochastic order* (del Barrio et al., 2018; Dror et al., ACL 2019, section
4) compares the F1 of the seeds alone. Many comparisons are corrected for by Holm's procedure (Scandinavian Journal of
Statistics, 1979).

The order is computed here, exactly for step functions: the library `deepsig` (1.2.8) approximates the integral on a
grid, corrects too little for more than two comparisons, and is under the GPL.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrinc, stdtr, stdtrit

from sinet.evaluate.metrics import figures

RESAMPLES = 10_000
LEVEL = 0.05
POWER = 0.8
"""Probability with which the difference that a comparison could have found would be found."""
LEAST_RUNS = 3
"""Seeds of each system for a test: two tell too little of how far apart runs are. Where runs differ by far more than
sentences, equal systems with two seeds come out below 0.01 in 5 of 100 simulations, with three in 1."""
LEAST_SEEDS = 5
"""With fewer, an order is a hint at most: with 3 seeds all scores of the one of two equal systems lie above all of the
other in one of 20 cases, and then the bound is 0."""
ORDERED = 0.2
"""The bound below which scores count as almost stochastically larger (Ulmer et al., 2022, arXiv:2204.06815). Of equal
normal systems with 5 seeds 6 in 100 stay below it; 16 in 100 stay below 0.5, which is Dror et al.'s."""
_BLOCK = 500  # resamples at a time, which bounds memory on large test sets


def by_document(values: NDArray, documents: NDArray) -> NDArray:
    """What the sentences of each document contribute together: drawn again, it is documents that are drawn.

    Args:
        values: `(sentences, ...)`. documents: the number of each sentence's document, from 0, `(sentences,)`.
    """
    sums = np.zeros((documents.max(initial=-1) + 1, *values.shape[1:]), values.dtype)
    np.add.at(sums, documents, values)
    return sums


def resampled_f1(counts: NDArray, resamples: int = RESAMPLES, seed: int = 0) -> NDArray:
    """F1 x 100 of `resampled_figures`, `(resamples, runs)`."""
    return resampled_figures(counts, resamples, seed)[..., 2]


def resampled_figures(counts: NDArray, resamples: int = RESAMPLES, seed: int = 0) -> NDArray:
    """Precision, recall and F1 x 100 of every run on bootstrap samples of the test sentences or documents, the same
    samples for all runs, `(resamples, runs, 3)`.

    Args:
        counts: whole numbers `(runs, sentences, 3)`: correct, predicted and gold claims of each sentence (document).
    """
    runs, sentences, _ = counts.shape
    columns = np.ascontiguousarray(counts.transpose(1, 0, 2).reshape(sentences, runs * 3), dtype=float)
    sums = np.concatenate([weights @ columns for weights in draws(sentences, resamples, seed)])
    return figures(sums.reshape(resamples, runs, 3))


def draws(sentences: int, resamples: int, seed: int) -> Iterator[NDArray]:
    """How often each sentence is drawn in each resample, `(block, sentences)`."""
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _BLOCK):
        rows = min(_BLOCK, resamples - start)
        drawn = random.integers(sentences, size=(rows, sentences)) + sentences * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * sentences).reshape(rows, sentences).astype(float)


def intervals(
    values: NDArray, statistic: Callable[[NDArray], NDArray], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[NDArray, NDArray]:
    """Percentile interval, level 1 - LEVEL, of a figure of summed values when sentences are drawn again.

    Args:
        values: (sentences, ...), what each sentence contributes.
        statistic: from sums (resamples, ...) to figures (resamples, ...), NaN where a figure is not defined: such a
            resample is left out of its interval.

    Returns:
        the lower and the upper bound, each of the shape of one figure; NaN where no resample defines it.
    """
    flat, shape = values.reshape(len(values), -1).astype(float), values.shape[1:]
    drawn = [statistic((weights @ flat).reshape(-1, *shape)) for weights in draws(len(values), resamples, seed)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        low, high = np.nanquantile(np.concatenate(drawn), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return low, high


@dataclass(frozen=True)
class Difference:
    """Interval (level 1 - LEVEL) and two-sided p of a difference."""

    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Tested(Difference):
    """A difference of systems, with its standard error and degrees of freedom."""

    error: float
    freedom: float

    def detectable(self, level: float) -> float:
        """The true difference that a two-sided test of this level finds with probability POWER where runs and sentences
        vary as here: by the noncentral t distribution."""
        return self.error * float(nctdtrinc(self.freedom, 1 - POWER, stdtrit(self.freedom, 1 - level / 2)))


def difference_of_systems(f1: NDArray, other_f1: NDArray, resampled: NDArray, other: NDArray) -> Tested:
    """Interval and p of the difference of two systems' means over seeds, for other seeds and other sentences.

    Args:
        f1, other_f1: of each seed, `(seeds,)`, two or more.
        resampled, other: of each seed in the same resamples, each `(seeds, resamples)`.
    """
    apart = float(f1.mean() - other_f1.mean())
    known = (resampled.mean(0) - other.mean(0)).var(ddof=1)  # over hundreds of sentences: it counts as known
    runs = [scores.var(ddof=1) / len(scores) for scores in (f1, other_f1)]
    counted = [_between_runs(again) / len(again) for again in (resampled, other)]
    error = math.sqrt(known + sum(max(0, of - part) for of, part in zip(runs, counted, strict=True)))
    of_runs = sum(of**2 / (len(scores) - 1) for of, scores in zip(runs, (f1, other_f1), strict=True))
    freedom = (known + sum(runs)) ** 2 / of_runs if of_runs else math.inf
    if error == 0:
        return Tested(apart, apart, float(apart == 0), error, freedom)
    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Tested(apart - reach, apart + reach, float(2 * stdtr(freedom, -abs(apart) / error)), error, freedom)


def _between_runs(resampled: NDArray) -> float:
    """Half the mean variance over resamples of the difference of two runs of a system, `(seeds, resamples)`."""
    centred = resampled - resampled.mean(1, keepdims=True)
    return centred.var(0, ddof=1).sum() / (resampled.shape[1] - 1)


def difference(resampled: NDArray, other: NDArray) -> Difference:
    """Percentile interval and p of the difference of two systems' figures in the same resamples, each `(resamples,)`,
    as they were trained: for other sentences alone.

    p is twice the smaller share of resamples at or beyond no difference, the observed sample counted among them, so
    that p < LEVEL where the interval leaves out 0.
    """
    differences = resampled - other
    low, high = np.quantile(differences, (LEVEL / 2, 1 - LEVEL / 2))
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return Difference(float(low), float(high), min(1.0, 2 * (1 + int(beyond)) / (1 + len(differences))))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: each at most LEVEL keeps the chance of any false find at LEVEL."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, p[i] * (len(p) - rank)))
        adjusted[i] = least
    return adjusted


def violation_ratio(scores: NDArray, other: NDArray) -> NDArray:
    """How far `scores` are from stochastically larger: 0 where every quantile is, 1 where none is, 0.5 for equals.

    The share of the squared Wasserstein distance on which the other's quantile function is above (Dror et al., eq. 4);
    the last axis holds the scores of the seeds.
    """
    n, m = scores.shape[-1], other.shape[-1]
    steps = math.lcm(n, m)  # both quantile functions are constant on each of so many equal parts of [0, 1]
    gap = np.repeat(np.sort(other), steps // m, axis=-1) - np.repeat(np.sort(scores), steps // n, axis=-1)
    whole = (gap**2).sum(-1)
    return np.divide((np.maximum(gap, 0) ** 2).sum(-1), whole, out=np.full(whole.shape, 0.5), where=whole > 0)


def almost_stochastic_order(
    scores: Sequence[float], other: Sequence[float], comparisons: int = 1, resamples: int = 1000, seed: int = 0
) -> float | None:
    """Upper bound of the violation ratio at confidence 1 - LEVEL / comparisons (Bonferroni): below ORDERED,
    `scores` are almost stochastically larger. None for fewer than LEAST_RUNS scores on a side.
    """
    if min(len(scores), len(other)) < LEAST_RUNS:
        return None
    a, b = np.asarray(scores, dtype=float), np.asarray(other, dtype=float)
    random = np.random.default_rng(seed)
    again = [x[random.integers(len(x), size=(resamples, len(x)))] for x in (a, b)]
    ratio = float(violation_ratio(a, b))
    spread = float(np.sqrt(np.mean((violation_ratio(*again) - ratio) ** 2)))
    bound = ratio - spread * NormalDist().inv_cdf(LEVEL / comparisons)
    return min(1.0, max(0.0, bound))
