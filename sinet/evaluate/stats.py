"""Is one system better than another? Tests for F1 over sentences and over seeds.

*Paired bootstrap* (Efron and Tibshirani, 1993, ch. 13 and 16; Koehn, EMNLP 2004): test sentences are drawn with
replacement, the same ones for every run; a system's figure in a resample is the mean over its seeds of each seed's F1
there. By itself it speaks of the trained runs alone: with other seeds equal systems differ by more. So systems of
LEAST_RUNS or more seeds are tested by Student's t, the variance of the difference being that of the bootstrap plus that
of each system's mean over seeds, with degrees of freedom by Welch (Biometrika, 1947) and Satterthwaite. What a run's
noise on single sentences contributes is in both parts: with seeds that differ by it alone the test is conservative.
Resampling three seeds instead would understate their variance by a third. *Almost stochastic order* (del Barrio et al.,
2018; Dror et al., ACL 2019, section 4) compares the F1 of the seeds alone. Many comparisons are corrected for by Holm's
procedure (Scandinavian Journal of Statistics, 1979).

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
from scipy.special import stdtr, stdtrit

from sinet.evaluate.metrics import figures

RESAMPLES = 10_000
LEVEL = 0.05
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


def resampled_f1(counts: NDArray, resamples: int = RESAMPLES, seed: int = 0) -> NDArray:
    """F1 of every run on bootstrap samples of the test sentences, the same samples for all runs.

    Args:
        counts: whole numbers `(runs, sentences, 3)`: correct, predicted and gold claims of each sentence.

    Returns:
        `(resamples, runs)`, F1 x 100.
    """
    runs, sentences, _ = counts.shape
    columns = np.ascontiguousarray(counts.transpose(1, 0, 2).reshape(sentences, runs * 3), dtype=float)
    sums = np.concatenate([weights @ columns for weights in draws(sentences, resamples, seed)])
    return figures(sums.reshape(resamples, runs, 3))[..., 2]


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


def difference_of_systems(f1: NDArray, other_f1: NDArray, resampled: NDArray, other: NDArray) -> Difference:
    """Interval and p of the difference of two systems' means over seeds, for other seeds and other sentences.

    Args:
        f1, other_f1: of each seed, `(seeds,)`, two or more.
        resampled, other: the systems' figures in the same resamples, each `(resamples,)`.
    """
    apart = f1.mean() - other_f1.mean()
    runs = [scores.var(ddof=1) / len(scores) for scores in (f1, other_f1)]
    variance = (resampled - other).var(ddof=1) + sum(runs)
    if variance == 0:
        return Difference(float(apart), float(apart), float(apart == 0))
    # that of the bootstrap, over hundreds of sentences, counts as known
    of_runs = sum(v**2 / (len(scores) - 1) for v, scores in zip(runs, (f1, other_f1), strict=True))
    freedom = variance**2 / of_runs if of_runs else math.inf
    error = math.sqrt(variance)
    reach = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Difference(float(apart - reach), float(apart + reach), float(2 * stdtr(freedom, -abs(apart) / error)))


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
