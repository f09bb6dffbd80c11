# SPDX-License-Identifier: Apache-2.0
"""The task that writes a run's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_onnx_provider.exceptions import SparkJobError
from airflow_onnx_provider.links import REPORT_KEY, report_address
from airflow_onnx_provider.operators.report import OnnxReportOperator
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import write_failure
from tests.quality.reports.runs import a_record, a_result, stage_rows


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    layout = OutputLayout(tmp_path / "out")
    stage_rows(layout, "one", [("a.png", "red", 0.9)], [])
    return layout


def report(predictions: Any, context: dict[str, Any]) -> dict[str, Any]:
    return OnnxReportOperator(task_id="report", predictions=predictions).execute(context)


def test_the_report_is_written_and_linked(layout: OutputLayout, context: dict[str, Any]) -> None:
    a_record(a_result(passed=False)).write(layout.checks("one"))
    task = Mock()
    found = report({"run_manifest": str(layout.run_manifest("one"))}, {**context, "ti": task})

    address = report_address(str(layout.root), "one")
    assert found == {
        "report": str(layout.report("one")),
        "address": address,
        "verdict": "failed",
        "run": "one",
        "partition": "2026-01-01",
        "output_path": str(layout.root),
    }
    assert "Checks failed" in layout.report("one").read_text()
    task.xcom_push.assert_called_once_with(REPORT_KEY, address)


def test_a_run_that_was_not_judged_has_a_report(layout: OutputLayout, context: dict[str, Any]) -> None:
    assert report(str(layout.run_manifest("one")), context)["verdict"] == "not judged"


@pytest.mark.parametrize(
    ("predictions", "reason"),
    [
        (None, "inference left no run manifest"),
        ({"dry_run": True, "plan": {}}, "only planned"),
        ({"run_manifest": "/nowhere/_runs/one.json"}, "there is no run manifest at /nowhere/_runs/one.json"),
    ],
)
def test_where_there_is_nothing_to_report_on_it_is_skipped(
    predictions: Any, reason: str, context: dict[str, Any]
) -> None:
    with pytest.raises(AirflowSkipException, match=reason):
        report(predictions, context)


def test_a_run_that_failed_is_skipped_with_its_reason(layout: OutputLayout, context: dict[str, Any]) -> None:
    write_failure(layout.run_manifest("two"), "2026-01-01", SparkJobError("no space left"))

    with pytest.raises(AirflowSkipException, match="the run failed: no space left"):
        report(str(layout.run_manifest("two")), context)


def test_a_record_that_is_none_is_not_tried_again(layout: OutputLayout, context: dict[str, Any]) -> None:
    layout.checks("one").parent.mkdir()
    layout.checks("one").write_text("{}")

    with pytest.raises(AirflowFailException, match="BadInputError: .* is no record of checks"):
        report(str(layout.run_manifest("one")), context)
