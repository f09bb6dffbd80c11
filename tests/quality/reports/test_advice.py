# SPDX-License-Identifier: Apache-2.0
"""Advice in words: each rule quotes its number, or is silent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_onnx_provider.quality.reports.advice import advice
from airflow_onnx_provider.quality.reports.facts import Before
from airflow_onnx_provider.quality.verdict import Accuracy
from tests.quality.reports.runs import BEFORE, FIGURES, NEW, a_record, some_facts, unjudged


def said(**fields: Any) -> str:
    return "\n".join(remark.text for remark in advice(some_facts(**fields)))


def test_the_gravest_comes_first() -> None:
    levels = [remark.level for remark in advice(some_facts(runtimes=("onnxruntime 1", "onnxruntime 2")))]

    assert levels == sorted(levels, key=["stop", "care", "good", "info"].index)
    assert levels[0] == "care"


@pytest.mark.parametrize(
    ("seconds", "advised"),
    [
        ({"read": 2, "decode": 61, "inference": 37, "wait": 50},
         "Decoding takes 61.0 % of the work, the model 37.0 %, and the model waits 57.5 % of its time for pictures: "
         'a faster model would change little. For more speed let the profile decode large JPEGs scaled down'),
        ({"read": 60, "decode": 20, "inference": 20, "wait": 0}, "Reading takes 60.0 % of the work: pack the day into"),
        ({"read": 2, "decode": 18, "inference": 80, "wait": 0}, "The model takes 80.0 % of the work: a quantised"),
        ({"read": 30, "decode": 40, "inference": 30, "wait": 70}, "The model waits 70.0 % of its time for full batch"),
    ],
)  # fmt: skip
def test_the_part_that_sets_the_pace(seconds: dict[str, float], advised: str) -> None:
    assert advised in said(seconds=seconds)


def test_a_scaled_decoder_is_not_advised_twice() -> None:
    told = said(scoring={"decoder": "scaled"})

    assert "For more speed have smaller pictures delivered." in told


@pytest.mark.parametrize(
    ("fields", "advised"),
    [
        ({"raw_share": 0.97}, "The run reached 97.0 % of raw ONNX Runtime speed: Spark costs next to nothing."),
        ({"raw_share": 0.5}, "The run reached only 50.0 % of raw ONNX Runtime speed."),
        ({"raw_share": 0.5, "seconds": {"scoring": 2.9, "job": 24}}, "scoring took only 2.9 s: on a day this short"),
        ({"raw_images_per_second": 0.0, "raw_share": 0.0}, "The raw speed could not be measured beside this run"),
        ({"seconds": {"scoring": 2.9, "job": 24}}, "Of the job's 24 s on the clock, 2.9 s were scoring (12.1 %)"),
        ({"latency_ms": {"p50": 2.0, "p90": 3.0, "p99": 30.0}}, "took more than 15.0 times the median (30 ms against"),
        ({"peak_memory_mb": 480.0}, "Memory is tight: 2 workers of 480 MiB at most took 96.0 % of the 1,000 MiB"),
        ({"peak_memory_mb": 100.0}, "Memory to spare: 2 workers of 100 MiB at most took 20.0 % of the 1,000 MiB"),
        ({"tasks": {"count": 1, "seconds": {"median": 9, "largest": 9}}}, "Only 1 Spark task for 4 slots"),
        ({"carried": 594}, "594 of 1,188 predicted rows (50.0 %) have the answer that an earlier run gave"),
        ({"replays": "earlier-run"}, "This run scored the quarantine of run earlier-run again."),
        ({"runtimes": ("onnxruntime 1", "onnxruntime 2")}, "scored by 2 different runtimes: onnxruntime 1 and onnx"),
        ({"golden_difference": 3e-7}, "golden answers within their tolerance; the largest difference was 3e-07."),
        ({"score_histogram": (0, 30, *[0] * 17, 70)}, "30.0 % of the rows have a score below 0.5 (before: 16.7 %)"),
        ({"quarantined": {"not_an_image": 9, "empty_file": 3}},
         "75.0 % of the quarantine (9 of 12 rows) are files that are no pictures. Their first bytes"),
    ],
)  # fmt: skip
def test_a_rule_quotes_its_number(fields: dict[str, Any], advised: str) -> None:
    assert advised in said(**fields)


@pytest.mark.parametrize(
    ("slowest", "cause"),
    [
        ((), "If it is always the same machine, look there."),
        (({"task": 1, "rows": 160, "bytes": 11_000_000, "seconds": 70.0},), "It also had the most to do"),
        (({"task": 1, "rows": 80, "bytes": 5_000_000, "seconds": 70.0},), "It did not have more to do than others"),
    ],
)
def test_a_task_that_took_long_by_its_size_or_by_its_machine(slowest: Any, cause: str) -> None:
    tasks = {**NEW["tasks"], "seconds": {"median": 20.0, "largest": 70.0}}

    assert f"took 3.5 times the median (70 s against 20 s). {cause}" in said(tasks=tasks, slowest=slowest)


def test_the_labels_that_moved_are_named() -> None:
    told = said(labels={"red": 900, "blue": 100})

    assert "40.0 % of the rows moved to another label: “red” from 50.0 % to 90.0 %" in told
    assert "No row is “green” any more, which was 10.0 % of the rows before." in told


def test_a_first_day_and_another_model_put_drift_in_its_place() -> None:
    assert "There is no earlier day to compare with" in said(before=Before())
    assert "scored by another version of the model" in said(before=replace(BEFORE, digests=frozenset({"9999"})))
    assert "The figures of 2026-01-01, with which the checks compared, can no longer be read." in said(
        before=Before(missing=("2026-01-01",))
    )


def test_what_the_accuracy_is_worth() -> None:
    told = said()

    assert "100 labelled rows tell the accuracy to within 6 points; about 860 would tell it to within 2." in told
    assert "The model often misses “green” (5 of 10): fewer than 7 in 10 are found." in told
    assert "The most frequent mistake: 5 rows of “blue” taken for “red”." in told
    assert "No row of the day was labelled" in said(record=a_record(accuracy=None))
    assert "labelled" not in "".join(one.text for one in advice(unjudged(some_facts())))


def test_a_calm_day_says_little() -> None:
    calm = {**FIGURES, "labels": {"red": 600, "blue": 480, "green": 108}, "quarantined": {}, "predicted": 1200}
    even = {"read": 3, "decode": 48, "inference": 49, "wait": 5, "scoring": 80, "job": 100}
    exact = Accuracy(10_000, 0, 9_700, 0.966, 0.973, {"red": (9_700, 10_000)}, ())
    told = advice(some_facts(record=a_record(accuracy=exact), **{**calm, "seconds": even}))

    assert [remark.level for remark in told] == ["good"], told


@pytest.mark.parametrize("missing", ["tasks", "scoring", "slowest", "latency_buckets", "source"])
def test_old_manifests_get_the_advice_that_they_have_the_numbers_for(missing: str) -> None:
    assert "Decoding takes 61.0 %" in said(**{missing: type(NEW[missing])()})
