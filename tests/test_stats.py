"""The tests of significance: slow loops agree, equal systems stay equal, a planted difference is found."""

import numpy as np
import pytest
import scipy.stats

from sinet.evaluate import stats
from sinet.evaluate.metrics import figures
from sinet.evaluate.stats import (
    almost_stochastic_order,
    difference,
    difference_of_systems,
    holm,
    resampled_f1,
    violation_ratio,
)


def system(random: np.random.Generator, gold: np.ndarray, recall: np.ndarray, precision: float = 0.5) -> np.ndarray:
    """Counts `(sentences, 3)` of a system that finds each gold claim with its sentence's chance."""
    correct = random.binomial(gold, recall)
    return np.stack([correct, correct + random.poisson(gold * recall.mean() * (1 / precision - 1)), gold], axis=-1)


def sentences(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gold claims and how easily they are found: sentences differ in both."""
    return random.poisson(1.8, n), random.beta(2, 3, n)


def test_equals_a_slow_loop():
    random = np.random.default_rng(3)
    gold, easy = sentences(random, 7)
    counts = np.stack([system(random, gold, easy) for _ in range(3)])
    fast = resampled_f1(counts, resamples=40, seed=5)
    drawn = np.random.default_rng(5).integers(7, size=(40, 7))
    for resample, chosen in zip(fast, drawn, strict=True):
        for run, figure in zip(counts, resample, strict=True):
            correct = sum(int(run[i][0]) for i in chosen)
            claims = sum(int(run[i][1]) + int(run[i][2]) for i in chosen)
            assert figure == pytest.approx(200 * correct / claims if claims else 0.0)


def test_resamples_are_the_same_in_blocks(monkeypatch):
    random = np.random.default_rng(0)
    counts = system(random, *sentences(random, 9))[None]
    whole = resampled_f1(counts, resamples=50)
    monkeypatch.setattr(stats, "_BLOCK", 7)
    assert np.array_equal(resampled_f1(counts, resamples=50), whole)


def run(random: np.random.Generator, gold: np.ndarray, easy: np.ndarray, between_runs: float) -> np.ndarray:
    """A run of a system: as `system`, finding more or fewer claims everywhere, as trainings do."""
    return system(random, gold, np.minimum(easy * np.exp(random.normal(0, between_runs)), 1))


def of_halves(counts: np.ndarray, number: int) -> stats.Difference:
    """Two systems of half of the runs each."""
    seeds = len(counts) // 2
    scores, again = figures(counts.sum(1))[..., 2], resampled_f1(counts, resamples=500, seed=number)
    means = again[:, :seeds].mean(1), again[:, seeds:].mean(1)
    return difference_of_systems(scores[:seeds], scores[seeds:], *means)


@pytest.mark.parametrize("between_runs", [0, 0.06, 0.15], ids=["F1 apart 1.3", "1.9", "3.7"])
@pytest.mark.parametrize("seeds", [stats.LEAST_RUNS, 5])
def test_identical_systems_are_rarely_significant(seeds, between_runs):
    random = np.random.default_rng(seeds)
    significant = 0
    for number in range(100):
        gold, easy = sentences(random, 551)
        counts = np.stack([run(random, gold, easy, between_runs) for _ in range(2 * seeds)])
        significant += of_halves(counts, number).p < stats.LEVEL
    assert significant <= 7


def test_identical_runs_are_rarely_significant_by_their_sentences():
    random = np.random.default_rng(1)
    significant = 0
    for number in range(100):
        gold, easy = sentences(random, 300)
        counts = np.stack([system(random, gold, easy) for _ in range(2)])
        significant += difference(*resampled_f1(counts, resamples=1000, seed=number).T).p < stats.LEVEL
    assert significant <= 7


def test_a_planted_difference_of_systems_is_found():
    random = np.random.default_rng(1)
    found = 0
    for number in range(20):
        gold, easy = sentences(random, 551)
        counts = [run(random, gold, e, 0.06) for e in (np.minimum(easy * 1.4, 1), easy) for _ in range(3)]
        interval = of_halves(np.stack(counts), number)
        assert (interval.p < stats.LEVEL) == (interval.low > 0 or interval.high < 0)
        found += interval.low > 0
    assert found >= 16


def test_difference_of_systems_by_hand():
    # variances of the means: 1/3 and 4/3; of the bootstrap 1; degrees of freedom (8/3)^2 / ((1/9 + 16/9) / 2)
    scores, again = np.array([[61.0, 62, 63], [54, 56, 58]]), np.array([[5.0, 6, 7], [0, 0, 0]])
    made, distribution = difference_of_systems(*scores, *again), scipy.stats.t(64 / 8.5, scale=(8 / 3) ** 0.5)
    assert made.p == pytest.approx(2 * distribution.sf(6))
    assert (made.low, made.high) == pytest.approx((6 + distribution.ppf(0.025), 6 + distribution.ppf(0.975)))
    assert difference_of_systems(*scores[[0, 0]] * 0, *again[[1, 1]]) == stats.Difference(0, 0, 1)


@pytest.mark.parametrize("swapped", [False, True])
def test_difference_of_systems_with_other_numbers_of_seeds(swapped):
    # variances of the means: 1/3 of three seeds, 10/5 of five; of the bootstrap 1
    few, many = np.array([61.0, 62, 63]), np.array([50.0, 52, 54, 56, 58])
    resampled, other = np.array([5.0, 6, 7]), np.zeros(3)
    distribution = scipy.stats.t((10 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 2**2 / 4), scale=(10 / 3) ** 0.5)
    arguments = (many, few, other, resampled) if swapped else (few, many, resampled, other)
    made, apart = difference_of_systems(*arguments), -8 if swapped else 8
    assert made.p == pytest.approx(2 * distribution.sf(8))
    assert (made.low, made.high) == pytest.approx((apart + distribution.ppf(0.025), apart + distribution.ppf(0.975)))


def test_a_planted_difference_is_found():
    random = np.random.default_rng(1)
    found = 0
    for number in range(20):
        gold, easy = sentences(random, 551)
        better, worse = system(random, gold, np.minimum(easy * 1.25, 1)), system(random, gold, easy)
        figures = resampled_f1(np.stack([better, worse]), resamples=1000, seed=number)
        interval = difference(*figures.T)
        assert (interval.p < stats.LEVEL) == (interval.low > 0 or interval.high < 0)
        found += interval.low > 0
    assert found >= 16


def test_a_system_does_not_differ_from_itself():
    random = np.random.default_rng(2)
    figures = resampled_f1(system(random, *sentences(random, 50))[None])[:, 0]
    assert difference(figures, figures) == stats.Difference(0, 0, 1)


def test_f1_over_nothing_is_zero():
    assert figures(np.array([[0, 0, 0], [1, 1, 3]])).tolist() == [[0, 0, 0], [100, 100 / 3, 50]]


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1, 1]


def test_violation_ratio_against_an_integral():
    random = np.random.default_rng(0)
    a, b = random.normal(0.5, 1, 4), random.normal(0, 1, 6)
    levels = (np.arange(120_000) + 0.5) / 120_000
    quantile = lambda x: np.sort(x)[np.ceil(len(x) * levels).astype(int) - 1]  # noqa: E731
    gap = quantile(b) - quantile(a)
    assert violation_ratio(a, b) == pytest.approx((gap[gap > 0] ** 2).sum() / (gap**2).sum())
    assert violation_ratio(a, b) + violation_ratio(b, a) == pytest.approx(1)
    assert violation_ratio(a, a) == 0.5 and violation_ratio(a + 9, b) == 0


def test_almost_stochastic_order():
    scores = [64.1, 63.8, 64.6, 64.0, 64.9]
    assert almost_stochastic_order([s + 3 for s in scores], scores) == 0
    assert almost_stochastic_order(scores, [s + 3 for s in scores]) == 1
    assert almost_stochastic_order(scores[:2], scores) is None, "two seeds are too few"
    random = np.random.default_rng(0)
    passed = sum(almost_stochastic_order(*random.normal(size=(2, 5))) < stats.ORDERED for _ in range(300))
    assert passed <= 0.09 * 300
