# SPDX-License-Identifier: Apache-2.0
"""Checks of what moved since the baseline: the labels' shares, and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_onnx_provider.quality.baseline import Baseline
from airflow_onnx_provider.quality.checks.finding import Figures, Finding, at_most, limit_of, some
from airflow_onnx_provider.quality.checks.settings import Options

NAMES: Mapping[str, str] = {
    "psi": "PSI",
    "jensen_shannon": "Jensen–Shannon distance",
    "total_variation": "total variation",
    "wasserstein": "Wasserstein distance",
}
"""What the words of a verdict call the metrics."""


def label_drift(figures: Figures, options: Options) -> Finding:
    now, before = figures.manifest.labels, figures.baseline.labels
    labels = sorted({*now, *before})
    rows, rows_before = max(1, sum(now.values())), max(1, sum(before.values()))
    shares = {one: (before.get(one, 0) / rows_before, now.get(one, 0) / rows) for one in labels}
    most = sorted(labels, key=lambda one: -abs(shares[one][1] - shares[one][0]))[:3]
    return _moved(
        "the labels' shares",
        [now.get(one, 0) for one in labels],
        [before.get(one, 0) for one in labels],
        some([f"{one} {shares[one][0]:.1%} → {shares[one][1]:.1%}" for one in most]),
        baseline=figures.baseline,
        options=options,
    )


def confidence_drift(figures: Figures, options: Options) -> Finding:
    now, before = figures.manifest.score_histogram, figures.baseline.score_histogram
    means = f"mean score {_mean(before):.2f} → {_mean(now):.2f}"
    return _moved("the scores' histogram", now, before, means, baseline=figures.baseline, options=options)


def _moved(
    what: str, now: Sequence[int], before: Sequence[int], details: str, *, baseline: Baseline, options: Options
) -> Finding:
    """Hold the distance to the limit, or to what chance alone can bring where that is more."""
    from airflow_onnx_provider.quality.drift import chance, drift  # here, because DAG files reach this module

    limit, metric = limit_of(options), options.choice
    expected = f"{what} moved by a {NAMES[metric]} of at most {limit:.3f}"
    if not sum(before):
        return Finding(expected, f"{baseline}: nothing to compare with", limit=limit)
    expected += f" since {_named(baseline.partitions)}"
    if not sum(now):
        return Finding(expected, "no predicted row", passed=False, limit=limit)
    distance = drift(metric, now, before)
    if distance > limit:
        noise = chance(metric, now, before)
        if noise > limit:
            expected += f", or {noise:.3f}, to which chance alone can bring {sum(now)} and {sum(before)} rows"
            limit = noise
    return at_most(distance, limit, options.tolerance, expected, f"{distance:.3f} ({details})")


def _named(partitions: Sequence[str]) -> str:
    first, *others = partitions
    return f"{first} … {others[-1]} ({len(partitions)} partitions)" if others else first


def _mean(histogram: Sequence[int]) -> float:
    """The mean score as the histogram has it, 0 without rows."""
    rows = sum(histogram)
    return sum((place + 0.5) / len(histogram) * count for place, count in enumerate(histogram)) / rows if rows else 0.0
