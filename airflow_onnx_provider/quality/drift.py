# SPDX-License-Identifier: Apache-2.0
"""How far a day's mix moved from an earlier one's, and how far chance alone would have moved it.

A mix is a row of counts, one a cell: predicted rows per label, or per bin of the score. The statistics are SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]
Metric = Callable[[Counts, Counts], NDArray[np.float64]]
"""Counts of two days, each ``[draws, cells]``, to one number a draw. No row of counts is all zero."""

QUANTILE = 0.999
"""Chance alone moves a mix further than :func:`chance` says on one day in a thousand."""

DRAWS = 2_000
MOST_ROWS = 400_000_000
CELLS_AT_ONCE = 2_000_000


def population_stability_index(now: Counts, before: Counts) -> NDArray[np.float64]:
    """PSI: Σ (p − q) ln(p / q), the sum of both Kullback–Leibler divergences; 0 for the same mix, without an upper end.

    A cell that is empty on one of the days counts there as half a row, because the logarithm of nothing is infinite.

    Source: Siddiqi, Credit Risk Scorecards, 2006, with the rule of thumb that 0.1 is some and 0.25 is much.
    """
    from scipy.special import rel_entr

    seen = now + before > 0
    p, q = (np.where(seen, np.maximum(counts, 0.5), 0) / counts.sum(axis=-1, keepdims=True) for counts in (now, before))
    return np.asarray((rel_entr(p, q) + rel_entr(q, p)).sum(axis=-1), dtype=np.float64)


def jensen_shannon(now: Counts, before: Counts) -> NDArray[np.float64]:
    """The Jensen–Shannon distance to base 2: 0 for the same mix, 1 for no cell in common. Empty cells are no problem.

    Source: Endres and Schindelin, A new metric for probability distributions, 2003.
    """
    from scipy.spatial.distance import jensenshannon

    # A cell in which both mixes are the same can come out below zero by a rounding error, its root as NaN.
    return np.nan_to_num(np.asarray(jensenshannon(_shares(now), _shares(before), base=2, axis=-1), dtype=np.float64))


def total_variation(now: Counts, before: Counts) -> NDArray[np.float64]:
    """The share of rows that would have to change their cell to turn one mix into the other, 0 to 1."""
    return np.asarray(np.abs(_shares(now) - _shares(before)).sum(axis=-1) / 2, dtype=np.float64)


def wasserstein(now: Counts, before: Counts) -> NDArray[np.float64]:
    """How far a score moved on average, 0 to 1, for cells that are equal bins from 0 to 1 in order.

    The first Wasserstein or earth mover's distance between the two histograms, each row at the middle of its bin.
    """
    from scipy.stats import wasserstein_distance

    middles = (np.arange(now.shape[-1]) + 0.5) / now.shape[-1]
    pairs = zip(now, before, strict=True)
    return np.array([wasserstein_distance(middles, middles, one, other) for one, other in pairs])


METRICS: Mapping[str, Metric] = {
    "psi": population_stability_index,
    "jensen_shannon": jensen_shannon,
    "total_variation": total_variation,
    "wasserstein": wasserstein,
}
"""The metrics by the name that a check's setting calls them."""


def drift(metric: str, now: Sequence[int], before: Sequence[int]) -> float:
    """How far one mix is from another.

    :param metric: a name of :data:`METRICS`
    :param now: rows per cell, at least one row in all
    :param before: the same cells of the baseline, likewise
    """
    return float(METRICS[metric](_row(now), _row(before))[0])


def chance(metric: str, now: Sequence[int], before: Sequence[int]) -> float:
    """How far the two mixes would be apart by chance alone, were they samples of one and the same mix.

    A permutation test: all rows of both days are put together, and days of the same sizes are dealt from them again
    and again (a multivariate hypergeometric distribution, so that the result holds for any metric, and where most
    cells are empty too). Gives the :data:`QUANTILE` of what the metric says of :data:`DRAWS` such pairs; the same
    mixes always give the same number. For the PSI of well filled cells it is what Yurdakul and Naranjo, Statistical
    properties of the population stability index, Journal of Risk Model Validation 14, 2020, derive:
    (1/n + 1/m) times that quantile of chi-squared with one degree of freedom fewer than cells.

    :param metric: a name of :data:`METRICS`
    :param now: rows per cell, at least one row in all
    :param before: the same cells of the baseline, likewise
    """
    one, other = _of_bounded_size(_row(now)[0]), _of_bounded_size(_row(before)[0])
    together, rows = one + other, int(one.sum())
    # The generator is the same each time so that a judgement can be repeated.
    generator = np.random.default_rng(0)
    step = max(1, min(DRAWS, CELLS_AT_ONCE // len(together)))
    found = []
    for start in range(0, DRAWS, step):
        dealt = generator.multivariate_hypergeometric(together, rows, size=min(step, DRAWS - start), method="marginals")
        found.append(METRICS[metric](dealt, together - dealt))
    return float(np.quantile(np.concatenate(found), QUANTILE))


def _of_bounded_size(counts: Counts) -> Counts:
    """The same mix of at most :data:`MOST_ROWS` rows: NumPy deals from fewer than 10⁹, and fewer mean more chance."""
    total = int(counts.sum())
    return counts if total <= MOST_ROWS else np.floor(counts * (MOST_ROWS / total)).astype(np.int64)


def _row(counts: ArrayLike) -> Counts:
    return np.atleast_2d(np.asarray(counts, dtype=np.int64))


def _shares(counts: Counts) -> NDArray[np.float64]:
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True), dtype=np.float64)
