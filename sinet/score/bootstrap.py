"""Percentile bootstrap over sentences: how far a figure of a test split would move on other sentences like these."""

from collections.abc import Callable

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 1_000
"""Resamples in memory at once."""


def intervals(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a statistic of summed values under resampling of sentences with replacement; the same at every call.

    Args:
        values: (sentences, ...), what each sentence contributes.
        statistic: from sums (resamples, ...) to figures (resamples, ...).

    Returns:
        the lower and the upper bound of the central `CONFIDENCE`, each shaped as one figure. A resample in which a
        figure is not defined (NaN) is left out of its bounds.
    """
    n = len(values)
    flat, generator = values.reshape(n, -1), np.random.default_rng(0)
    drawn = []
    for begin in range(0, resamples, CHUNK):
        # how often each sentence is drawn: a resample's sums are one row of a matrix product
        times = generator.multinomial(n, np.full(n, 1 / n), size=min(CHUNK, resamples - begin))
        drawn.append(statistic((times @ flat).reshape(-1, *values.shape[1:])))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.concatenate(drawn), [tail, 1 - tail], axis=0)
    return low, high
