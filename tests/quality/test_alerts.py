# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.alerts import Threshold, changes, states
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.spark.staging import a_manifest

DRIFT = Threshold("label_drift", raise_at=0.2, clear_at=0.1, after=2)
SPEED = Threshold("images_per_second", raise_at=500, clear_at=700, after=2)


@pytest.mark.parametrize(
    ("threshold", "values", "raised"),
    [
        pytest.param(DRIFT, [0.05, 0.3, 0.05, 0.3, 0.05], "-----", id="single bad days"),
        pytest.param(DRIFT, [0.3, 0.3, 0.3, 0.05], "-!!-", id="raised once, cleared once"),
        pytest.param(DRIFT, [0.3, 0.2, 0.15, 0.19, 0.11, 0.1], "-!!!!-", id="between the two it stays"),
        pytest.param(DRIFT, [0.15, 0.19, 0.15], "---", id="between the two it does not begin"),
        pytest.param(DRIFT, [0.3, None, 0.3, None, 0.05], "--!!-", id="a day without a value changes nothing"),
        pytest.param(SPEED, [900, 400, 450, 600, 700], "--!!-", id="where less is bad"),
        pytest.param(Threshold("label_drift", 0.2, 0.1, after=1), [0.3, 0.05], "!-", id="at once"),
    ],
)
def test_an_alert_over_the_days(threshold: Threshold, values: list[float | None], raised: str) -> None:
    assert "".join("!" if one else "-" for one in states(threshold, values)) == raised


@given(st.lists(st.floats(0.11, 0.3)), st.integers(1, 4))
def test_it_never_goes_up_and_down_on_one_side_of_the_lower_limit(values: list[float], after: int) -> None:
    found = states(Threshold("label_drift", 0.2, 0.1, after), values)

    assert found == sorted(found), "raised at most once, never cleared"


def judge(layout: OutputLayout, run: str, partition: str, value: float | None, **fields: Any) -> str:
    """A judged run of a day; runs are judged in the order of their names."""
    a_manifest(run, layout, partition=partition, **fields).write(make(layout.run_manifest(run)))
    result = CheckResult("label_drift", "warn", passed=True, expected="", actual="", value=value)
    judged = f"2026-02-01T00:00:00.{run:0>6}+00:00"
    CheckRecord(run, partition, judged, "previous", (), (result,)).write(layout.checks(run))
    return run


def make(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def said(layout: OutputLayout, run: str, *thresholds: Threshold) -> list[str]:
    return [str(one) for one in changes(layout, run, thresholds)]


def test_a_change_is_told_once_each_way(tmp_path: Path) -> None:
    layout, told = OutputLayout(tmp_path), []
    for day, value in enumerate([0.05, 0.3, 0.31, 0.4, 0.15, 0.02, 0.05], start=1):
        told.append(said(layout, judge(layout, str(day), f"2026-01-0{day}", value), DRIFT))

    assert told == [
        [],
        [],
        ["RAISED label_drift: 0.31, threshold 0.2 for 2 runs"],
        [],
        [],
        ["CLEARED label_drift: 0.02, threshold 0.1"],
        [],
    ]


def test_a_day_that_is_run_again_counts_once(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    for number in (1, 2, 3):
        assert said(layout, judge(layout, str(number), "2026-01-01", 0.3), DRIFT) == []

    assert said(layout, judge(layout, "4", "2026-01-02", 0.3), DRIFT) != []
    assert said(layout, judge(layout, "5", "2026-01-02", 0.3), DRIFT) == [], "told already"
    assert said(layout, judge(layout, "6", "2026-01-02", 0.0), DRIFT) != [], "mended by running it again"


def test_asking_again_about_an_earlier_run_gives_the_same_answer(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    for day in (1, 2):
        judge(layout, str(day), f"2026-01-0{day}", 0.3)
    before = said(layout, "2", DRIFT)

    judge(layout, "3", "2026-01-03", 0.0)

    assert said(layout, "2", DRIFT) == before != []


def test_a_backfill_of_an_old_day_does_not_tell_of_today(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    for number, day in (("1", 8), ("2", 9)):
        judge(layout, number, f"2026-01-0{day}", 0.05)

    for number, day in (("3", 1), ("4", 2)):
        assert said(layout, judge(layout, number, f"2026-01-0{day}", 0.3), DRIFT) == []


def test_figures_come_from_the_run_manifests(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    for day in (1, 2):
        judge(layout, str(day), f"2026-01-0{day}", None, images_per_second=400.0)

    assert said(layout, "2", SPEED, DRIFT) == ["RAISED images_per_second: 400, threshold 500 for 2 runs"]

    layout.run_manifest("1").unlink()
    os.utime(layout.checks("1"))
    assert said(layout, "2", SPEED) == [], "a day whose manifest is gone counts neither way"


def test_a_replay_tells_nothing_of_the_speed(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    quick = Threshold("images_per_second", raise_at=500, clear_at=700, after=1)
    judge(layout, "1", "2026-01-01", 0.0, images_per_second=900.0)
    judge(layout, "2", "2026-01-02", 0.0, images_per_second=3.0, replays="1")

    assert said(layout, "2", quick) == []


def test_a_run_that_was_not_judged(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="run 1 was not judged"):
        changes(OutputLayout(tmp_path), "1", [DRIFT])


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        (("label_drift", 0.2, 0.2), "raise_at and clear_at are both 0.2"),
        (("drift", 0.2, 0.1), "nothing called 'drift'; there is accuracy, "),
        (("label_drift", 0.2, 0.1, 0), "after must be 1 day or more"),
    ],
)
def test_thresholds_that_make_no_sense(fields: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(BadInputError, match=complaint):
        Threshold(*fields)
