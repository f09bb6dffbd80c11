# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.metrics import TaskMetrics, combine, latency_bounds, latency_percentiles

# Multiples of 1/1024 add up without rounding, so sums in any order are equal to the last bit.
seconds = st.integers(0, 10**6).map(lambda count: count / 1024)
tasks = st.builds(
    TaskMetrics,
    rows=st.integers(0, 10**6),
    batches=st.integers(0, 10**4),
    tokens=st.integers(0, 10**6),
    padding=st.integers(0, 10**6),
    read_seconds=seconds,
    decode_seconds=seconds,
    inference_seconds=seconds,
    wait_seconds=seconds,
    wall_seconds=seconds,
    load_seconds=seconds,
    golden_difference=st.floats(0, 1),
    peak_memory_mb=st.floats(0, 1e5),
    latency=st.dictionaries(st.integers(-300, 100), st.integers(1, 100), max_size=5).map(Counter),
)


@given(tasks)
def test_json_there_and_back(metrics: TaskMetrics) -> None:
    assert TaskMetrics.from_dict(json.loads(json.dumps(metrics.to_dict()))) == metrics


@given(tasks, tasks)
def test_the_order_of_tasks_plays_no_part(one: TaskMetrics, other: TaskMetrics) -> None:
    assert combine([one, other]) == combine([other, one])


@given(tasks, tasks, tasks)
def test_sums_of_sums_are_sums(a: TaskMetrics, b: TaskMetrics, c: TaskMetrics) -> None:
    assert combine([combine([a, b]), c]) == combine([a, combine([b, c])]) == combine([a, b, c])


@given(tasks)
def test_one_task_alone_and_an_empty_one_change_nothing(metrics: TaskMetrics) -> None:
    assert combine([metrics]) == combine([metrics, TaskMetrics()]) == metrics
    assert combine([]) == TaskMetrics()


def test_of_memory_and_difference_the_largest_counts() -> None:
    total = combine([TaskMetrics(peak_memory_mb=80.0, golden_difference=0.1), TaskMetrics(peak_memory_mb=90.0)])

    assert (total.peak_memory_mb, total.golden_difference) == (90.0, 0.1)


def test_combining_leaves_its_parts_alone() -> None:
    part = TaskMetrics(rows=1, latency=Counter({5: 1}))
    total = combine([part, part])

    assert (total.rows, total.latency) == (2, Counter({5: 2}))
    assert (part.rows, part.latency) == (1, Counter({5: 1}))


def test_a_batch_is_counted_with_its_rows_and_its_time() -> None:
    metrics = TaskMetrics()
    metrics.record_batch(8, 0.25)
    metrics.record_batch(3, 0.5)

    assert (metrics.rows, metrics.batches, metrics.inference_seconds) == (11, 2, 0.75)
    assert sum(metrics.latency.values()) == 2


def test_a_clock_that_stood_still_is_no_error() -> None:
    metrics = TaskMetrics()
    metrics.record_batch(1, 0.0)

    assert latency_percentiles(metrics.latency) == {"p50": 0.0, "p90": 0.0, "p99": 0.0}


def test_buckets_come_with_their_upper_bounds_in_seconds() -> None:
    metrics = TaskMetrics()
    for seconds in (0.02, 0.0099, 0.0099):
        metrics.record_batch(1, seconds)
    ((low, two), (high, one)) = latency_bounds(metrics.latency)

    assert (two, one) == (2, 1)
    assert 0.0099 <= low <= 0.0099 * 1.06 < 0.02 <= high <= 0.02 * 1.06
    assert latency_bounds({}) == []


def test_no_batches_have_no_percentiles() -> None:
    assert latency_percentiles({}) == {}


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=60))
def test_percentiles_are_at_most_six_percent_too_high(times: list[float]) -> None:
    metrics = TaskMetrics()
    for time in times:
        metrics.record_batch(1, time)
    found = latency_percentiles(metrics.latency)

    for percentile in (50, 90, 99):
        exact = float(np.percentile(times, percentile, method="inverted_cdf")) * 1000
        rounding = 0.001  # the figures have three decimals of a millisecond
        assert exact - rounding <= found[f"p{percentile}"] <= exact * 1.06 + rounding


@given(tasks.filter(lambda task: task.latency), st.lists(st.integers(1, 100), min_size=2, max_size=5, unique=True))
def test_percentiles_rise(metrics: TaskMetrics, percentiles: list[int]) -> None:
    found = latency_percentiles(metrics.latency, sorted(percentiles))

    assert list(found) == [f"p{percentile}" for percentile in sorted(percentiles)]
    assert all(lower <= upper for lower, upper in pairwise(found.values()))


def test_seconds_become_milliseconds() -> None:
    metrics = TaskMetrics()
    metrics.record_batch(1, 0.01)

    assert latency_percentiles(metrics.latency, [50])["p50"] == pytest.approx(10, rel=0.06)
