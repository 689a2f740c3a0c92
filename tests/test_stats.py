"""The tests of significance: slow loops agree, equal systems stay equal, a planted difference is found."""

import numpy as np
import pytest
import scipy.stats

from sinet.evaluate import stats
from sinet.evaluate.metrics import figures
from sinet.evaluate.stats import (
    almost_stochastic_order,
    by_document,
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


RUNS_APART = {"by noise on sentences alone": 0, "moderately": 0.06, "mostly": 0.15}


def p_of_equal_systems(runs: int, apart: float, texts: int = 2000) -> np.ndarray:
    """The p of systems of so many runs that are equal over all sentences there could be, on many test splits.

    Sentences differ in how easily their claims are found, and systems in the sentences that are easy to them, about as
    much as archived runs of two systems on SciERC do. A run finds more or fewer claims everywhere.
    """
    random = np.random.default_rng([runs, round(100 * apart)])
    p = []
    for _ in range(texts // 100):
        gold, easy = random.poisson(1.8, (100, 1, 1, 300)), random.beta(2, 3, (100, 1, 1, 300))
        of_system = np.exp(random.normal(0, 0.45, (100, 2, 1, 300)))
        of_run = np.exp(random.normal(0, apart, (100, 2, runs, 1)))
        correct = random.binomial(gold, np.minimum(easy * of_system * of_run, 1))
        predicted = correct + random.poisson(0.4 * gold, correct.shape)
        counts = np.stack(np.broadcast_arrays(correct, predicted, gold), axis=-1)
        f1 = figures(counts.sum(-2))[..., 2]
        again = resampled_f1(counts.reshape(-1, 300, 3), resamples=300).reshape(300, 100, 2, runs)
        p += [difference_of_systems(*f1[i], *again[:, i].transpose(1, 2, 0)).p for i in range(100)]
    return np.array(p)


@pytest.mark.parametrize("apart", RUNS_APART.values(), ids=RUNS_APART)
@pytest.mark.parametrize("runs", [3, 5])
def test_equal_systems_are_found_different_as_often_as_the_level_says(runs, apart):
    found = (p_of_equal_systems(runs, apart) < stats.LEVEL).mean()
    assert 0.03 < found < 0.07


def test_identical_runs_are_rarely_significant_by_their_sentences():
    random = np.random.default_rng(1)
    significant = 0
    for number in range(100):
        gold, easy = sentences(random, 300)
        counts = np.stack([system(random, gold, easy) for _ in range(2)])
        significant += difference(*resampled_f1(counts, resamples=1000, seed=number).T).p < stats.LEVEL
    assert significant <= 7


RESAMPLED = np.array([[5.0, 6, 10], [5, 7, 4], [2, 2, 4]])
"""Three runs in three resamples: the variance of their mean is 1."""


def test_what_sentences_set_runs_apart_by_is_half_the_mean_variance_of_their_differences():
    pairs = [(RESAMPLED[i] - RESAMPLED[j]).var(ddof=1) / 2 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert stats._between_runs(RESAMPLED) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("swapped", [False, True])
def test_difference_of_systems_by_hand(swapped):
    # variances of the means: 1/3 of three seeds, 10/5 of five; of the bootstrap 1, in which nothing of them is counted
    few, many = np.array([61.0, 62, 63]), np.array([50.0, 52, 54, 56, 58])
    resampled, other = np.tile([5.0, 6, 7], (3, 1)), np.zeros((5, 3))
    distribution = scipy.stats.t((10 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 2**2 / 4), scale=(10 / 3) ** 0.5)
    arguments = (many, few, other, resampled) if swapped else (few, many, resampled, other)
    made, apart = difference_of_systems(*arguments), -8 if swapped else 8
    assert made.p == pytest.approx(2 * distribution.sf(8))
    assert (made.low, made.high) == pytest.approx((apart + distribution.ppf(0.025), apart + distribution.ppf(0.975)))
    assert difference_of_systems(few * 0, many[:3] * 0, other[:3], other[:3]).p == 1


def test_what_sentences_make_of_the_spread_of_runs_counts_once():
    v = stats._between_runs(RESAMPLED)
    for variance, adds in ((v - 1, 0), (v, 0), (v + 3, 1)):
        scores = np.array([-1, 0, 1]) * variance**0.5
        made = difference_of_systems(scores, np.zeros(3), RESAMPLED, np.zeros((3, 3)))
        assert made.error == pytest.approx((1 + adds) ** 0.5)
        assert made.freedom == pytest.approx((1 + variance / 3) ** 2 / ((variance / 3) ** 2 / 2)), "of the raw variance"


def test_what_is_detectable_is_found_with_so_much_probability():
    random, level = np.random.default_rng(1), 0.05 / 12
    made = stats.Tested(0, 0, 1, error=1.3, freedom=7.0)
    spread = made.error * (random.chisquare(made.freedom, 20_000) / made.freedom) ** 0.5
    t = random.normal(made.detectable(level), made.error, 20_000) / spread
    found = 2 * scipy.stats.t(made.freedom).sf(abs(t)) < level
    assert found.mean() == pytest.approx(stats.POWER, abs=0.01)
    assert stats.Tested(0, 0, 1, 1.3, np.inf).detectable(0.05) == pytest.approx(1.3 * (1.96 + 0.8416), abs=1e-3)


def test_documents_are_drawn_whole():
    random = np.random.default_rng(4)
    gold, easy = sentences(random, 40)
    counts, documents = system(random, gold, easy), np.repeat(np.arange(8), 5)
    whole = by_document(counts, documents)
    assert whole.tolist() == [counts[documents == d].sum(0).tolist() for d in range(8)]
    assert by_document(counts, np.arange(40)).tolist() == counts.tolist()


def test_documents_that_differ_widen_the_interval_as_much_as_other_texts_do():
    random, documents = np.random.default_rng(5), np.repeat(np.arange(100), 5)

    def text() -> np.ndarray:
        correct = random.binomial(2, random.beta(2, 3, 100)[documents])
        return np.stack([correct, correct + 1, np.full(500, 2)], axis=-1)

    one, truth = text(), np.std([figures(text().sum(0))[2] for _ in range(1000)])
    of_sentences, of_documents = (
        resampled_f1(counts[None], resamples=1000).std() for counts in (one, by_document(one, documents))
    )
    assert of_documents == pytest.approx(truth, rel=0.15) and of_sentences < 0.85 * truth


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
