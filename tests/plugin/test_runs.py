# SPDX-License-Identifier: Apache-2.0
"""What the files beside the predictions add to what Airflow knows of a run."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.plugin.history import TaskSeen
from airflow_onnx_provider.plugin.roots import Roots
from airflow_onnx_provider.plugin.runs import rows_of, streams_of
from tests.plugin.airflow_records import figures, leave_files, result

NOWHERE = Roots(())


def seen(run: str = "r1", day: str = "2026-01-01", output: Path | str = "/out", **changed: Any) -> TaskSeen:
    fields: dict[str, Any] = {
        "dag_id": "catalog",
        "run_id": f"scheduled__{day}",
        "task_id": "infer",
        "map_index": -1,
        "state": "success",
        "moment": dt.datetime.fromisoformat(f"{day}T06:00:00+00:00"),
        "day": day,
        "result": figures(run, day, output),
        **changed,
    }
    return TaskSeen(**fields)


def outcome(task: TaskSeen, roots: Roots = NOWHERE) -> str:
    (row,) = rows_of([task], roots)
    return row.outcome


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "not judged"),
        ({"check": {"verdict": "passed"}}, "passed"),
        ({"check": {"verdict": "warned"}}, "warned"),
        ({"check_state": "failed"}, "failed"),
        ({"check_state": "running"}, "at work"),
        ({"result": {}, "state": "failed"}, "job failed"),
        ({"result": {}, "state": "deferred"}, "at work"),
    ],
)
def test_the_outcome_where_only_airflow_can_be_asked(changed: dict[str, Any], expected: str) -> None:
    assert outcome(seen(**changed)) == expected


def test_the_record_of_the_checks_has_the_last_word(tmp_path: Path) -> None:
    leave_files(tmp_path, "r1", "2026-01-01", result(value=0.31), result("nulls", 0, 0), published=False)
    (row,) = rows_of([seen(output=tmp_path, check_state="failed")], Roots.of([str(tmp_path)]))
    assert (row.outcome, row.concerns, row.drift, row.drift_limit) == ("failed", ("label_drift",), 0.31, 0.2)
    assert (row.published, row.report, row.refused) == (False, True, False)


def test_without_the_files_what_the_check_task_returned_will_do() -> None:
    said = {"verdict": "warned", "checks": [result(value=0.19, grey=True).to_dict(), {"name": "torn"}, 7]}
    (row,) = rows_of([seen(check=said, publish={"changed": True})], NOWHERE)
    assert (row.outcome, row.concerns, row.drift, row.published) == ("warned", ("label_drift",), 0.19, True)
    assert (row.refused, row.report) == (True, False)


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"format": 99}', '{"format": 1}'])
def test_a_record_that_cannot_be_read_is_called_that(tmp_path: Path, content: str) -> None:
    leave_files(tmp_path, "r1", "2026-01-01").checks("r1").write_text(content)
    assert outcome(seen(output=tmp_path), Roots.of([str(tmp_path)])) == "verdict unreadable"


def test_a_record_outside_of_the_folders_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    hidden = leave_files(tmp_path / "hidden", "r1", "2026-01-01", result(value=0.31))
    layout = leave_files(tmp_path / "open", "r1", "2026-01-01")
    layout.checks("r1").unlink()
    layout.checks("r1").symlink_to(hidden.checks("r1"))
    assert outcome(seen(output=tmp_path / "open"), Roots.of([str(tmp_path / "open")])) == "not judged"
    assert outcome(seen(run="../r1", output=tmp_path / "open"), Roots.of([str(tmp_path)])) == "not judged"


def test_a_record_that_changed_is_read_again(tmp_path: Path) -> None:
    roots = Roots.of([str(tmp_path)])
    leave_files(tmp_path, "r1", "2026-01-01", result(value=0.31))
    before = outcome(seen(output=tmp_path), roots)
    leave_files(tmp_path, "r1", "2026-01-01", result(value=0.1), result("nulls", 0, 0))
    assert (before, outcome(seen(output=tmp_path), roots)) == ("failed", "passed")


@pytest.mark.parametrize("value", ["many", None, float("nan"), [1], True])
def test_what_is_no_number_is_no_figure(value: Any) -> None:
    (row,) = rows_of([seen(result=figures("r1", "2026-01-01", "/out", rows_in=value, model=value))], NOWHERE)
    assert row.rows_in is None
    assert isinstance(row.model, str)


def test_a_day_has_its_newest_run_in_the_stream(tmp_path: Path) -> None:
    days = ("2026-01-01", "2026-01-02", "2026-01-03")
    tasks = []
    for number, day in enumerate(days):
        leave_files(tmp_path, f"r{number}", day, result(value=number / 10))
        tasks.append(seen(f"r{number}", day, tmp_path))
    leave_files(tmp_path, "again", days[0], result(value=0.7))
    tasks.append(seen("again", days[0], tmp_path, moment=dt.datetime(2026, 1, 9, tzinfo=dt.UTC)))
    tasks.append(seen("", "2026-01-04", result={}, state="failed"))

    rows = rows_of(tasks, Roots.of([str(tmp_path)]))
    (stream,) = streams_of(rows)

    assert [row.day for row in rows] == ["2026-01-04", *reversed(days), days[0]]
    assert (stream.latest.outcome, stream.output_path) == ("job failed", str(tmp_path))
    assert stream.drifts == ((days[0], 0.7), (days[1], 0.1), (days[2], 0.2))
