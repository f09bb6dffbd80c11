# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from airflow_onnx_provider.quality.drift import METRICS, chance, drift

CELLS = 6
mixes = st.lists(st.integers(0, 10**6), min_size=CELLS, max_size=CELLS).filter(any)
metrics = st.sampled_from(sorted(METRICS))
whenever = settings(deadline=None)  # a busy machine is no failure
UNORDERED = ["psi", "jensen_shannon", "total_variation"]
BOUNDED = ["jensen_shannon", "total_variation", "wasserstein"]


@pytest.mark.parametrize(
    ("metric", "now", "before", "expected"),
    [
        ("psi", [60, 40], [50, 50], 0.1 * np.log(1.2) + 0.1 * np.log(1.25)),
        ("psi", [10, 0], [0, 10], 2 * (1 - 0.05) * np.log(1 / 0.05)),  # half a row of ten where a cell is empty
        ("psi", [10, 10, 0], [500, 500, 0], 0.0),
        ("jensen_shannon", [10, 0], [0, 10], 1.0),
        ("total_variation", [60, 40], [50, 50], 0.1),
        ("total_variation", [3, 1], [4, 0], 0.25),
        ("wasserstein", [100, 0, 0, 0], [0, 0, 0, 100], 0.75),
        ("wasserstein", [50, 50, 0, 0], [0, 50, 50, 0], 0.25),
    ],
)
def test_distances_that_can_be_worked_out_by_hand(
    metric: str, now: list[int], before: list[int], expected: float
) -> None:
    assert drift(metric, now, before) == pytest.approx(expected)


@whenever
@given(metrics, mixes, mixes)
def test_drift_has_no_direction_and_is_never_negative(metric: str, now: list[int], before: list[int]) -> None:
    assert drift(metric, now, before) == pytest.approx(drift(metric, before, now))
    assert drift(metric, now, before) >= 0


@whenever
@given(metrics, mixes, st.integers(1, 1000))
def test_a_day_of_the_same_mix_has_not_drifted_whatever_its_size(metric: str, mix: list[int], times: int) -> None:
    assert drift(metric, mix, [rows * times for rows in mix]) == pytest.approx(0, abs=1e-6)


@whenever
@given(st.sampled_from(UNORDERED), mixes, mixes, st.permutations(range(CELLS)))
def test_labels_have_no_order(metric: str, now: list[int], before: list[int], order: list[int]) -> None:
    shuffled = drift(metric, [now[place] for place in order], [before[place] for place in order])

    assert shuffled == pytest.approx(drift(metric, now, before), abs=1e-9)


@whenever
@given(st.sampled_from(UNORDERED), mixes, mixes)
def test_a_label_that_neither_day_has_changes_nothing(metric: str, now: list[int], before: list[int]) -> None:
    assert drift(metric, [*now, 0], [*before, 0]) == pytest.approx(drift(metric, now, before))


@whenever
@given(st.sampled_from(BOUNDED), mixes, mixes)
def test_bounded_metrics_stay_within_one(metric: str, now: list[int], before: list[int]) -> None:
    assert drift(metric, now, before) <= 1 + 1e-9


@whenever
@given(st.sampled_from(BOUNDED), mixes, mixes, mixes)
def test_a_detour_is_never_shorter(metric: str, one: list[int], two: list[int], three: list[int]) -> None:
    assert drift(metric, one, three) <= drift(metric, one, two) + drift(metric, two, three) + 1e-9


@pytest.mark.parametrize(("cells", "rows", "rows_before"), [(5, 1_000, 1_000), (20, 2_000, 14_000), (50, 10**6, 10**6)])
def test_chance_is_what_theory_says_where_all_cells_are_well_filled(cells: int, rows: int, rows_before: int) -> None:
    """Yurdakul and Naranjo, 2020: the PSI of two samples of one mix, times nm / (n + m), is chi-squared."""
    expected = chi2.ppf(0.999, cells - 1) * (1 / rows + 1 / rows_before)

    assert chance("psi", [rows // cells] * cells, [rows_before // cells] * cells) == pytest.approx(expected, rel=0.2)


def test_the_same_days_always_get_the_same_judgement() -> None:
    assert chance("psi", [5, 7, 1], [3, 9, 2]) == chance("psi", [5, 7, 1], [3, 9, 2])


@pytest.mark.parametrize(
    ("metric", "cells", "rows"),
    [*((metric, *size) for metric in METRICS for size in [(4, 30), (20, 60)]), ("psi", 10, 300), ("psi", 300, 200)],
)
def test_days_of_one_mix_are_not_beyond_chance(metric: str, cells: int, rows: int) -> None:
    """Well filled cells, and so few rows that most cells are empty."""
    generator = np.random.default_rng(7)
    mix = generator.dirichlet(np.full(cells, 2.0))
    for _ in range(10):
        now, before = generator.multinomial(rows, mix), generator.multinomial(2 * rows, mix)
        assert drift(metric, now, before) <= chance(metric, now, before)


def test_many_more_classes_than_rows_hide_no_change() -> None:
    """Chance brings such days a PSI of 0.7; the formula for well filled cells would let 20 pass, and so any change."""
    generator = np.random.default_rng(3)
    even, odd = np.tile([1, 0], 1_500), np.tile([0, 1], 1_500)
    same = [generator.multinomial(300, even / 1_500) for _ in range(2)]
    other = generator.multinomial(300, odd / 1_500)

    assert drift("psi", *same) < chance("psi", *same)
    assert drift("psi", same[0], other) > chance("psi", same[0], other)


def test_a_billion_rows_can_be_dealt() -> None:
    assert 0 < chance("psi", [120_000_000, 130_000_000], [900_000_000, 900_000_000]) < 1e-6
    assert chance("psi", [3, 1], [10**10, 10**10]) > 0.1


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(UNORDERED), mixes)
def test_one_row_proves_nothing(metric: str, before: list[int]) -> None:
    now = [0] * CELLS
    now[before.index(max(before))] = 1

    assert drift(metric, now, before) <= chance(metric, now, before) + 1e-9
