# SPDX-License-Identifier: Apache-2.0
"""The check as a task: what it returns, what it leaves, how it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_onnx_provider import OnnxPredictionCheckOperator
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from tests.quality.days import Day, ordinary_rows, write_labels

DAY = "2026-01-02"


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def predictions(manifest: RunManifest) -> dict[str, Any]:
    """What inference returned."""
    path = OutputLayout(Path(manifest.output_path)).run_manifest(manifest.run)
    return {"run_manifest": str(path), "run": manifest.run, "predicted": manifest.predicted}


def check(given: Any, **arguments: Any) -> OnnxPredictionCheckOperator:
    return OnnxPredictionCheckOperator(task_id="check", predictions=given, **arguments)


def test_a_good_day_goes_on_with_its_verdicts(layout: OutputLayout, context: dict[str, Any]) -> None:
    Day().publish(layout, "2026-01-01")
    manifest = Day().stage(layout, DAY)
    labels = write_labels(layout.root / "labels.csv", ordinary_rows(), wrong=[1])

    result = check(predictions(manifest), labels=str(labels)).execute(context)

    assert {name: result[name] for name in ("run", "predicted", "verdict")} == {
        "run": manifest.run,
        "predicted": 400,
        "verdict": "passed",
    }
    record = CheckRecord.read(layout.checks(manifest.run))
    assert record is not None
    assert result["checks"] == [one.to_dict() for one in record.results]
    assert record.baseline_partitions == ("2026-01-01",)
    assert record.accuracy is not None
    assert record.accuracy.correct == 399
    assert "confusion" not in json.dumps(result), "what may be large stays in the record"


def test_a_run_manifest_may_be_given_by_its_path(layout: OutputLayout, context: dict[str, Any]) -> None:
    path = predictions(Day().stage(layout, DAY))["run_manifest"]

    assert check(path).execute(context)["run_manifest"] == path


def test_a_failed_check_leaves_its_record_lists_every_failure_and_is_not_retried(
    layout: OutputLayout, context: dict[str, Any]
) -> None:
    bad = Day(rows=ordinary_rows(score=0.2), lost=1, told={"images_per_second": 1.0})
    manifest = bad.stage(layout, DAY)

    with pytest.raises(AirflowFailException) as caught:
        check(predictions(manifest), checks={"throughput": {"min": "5", "severity": "warn"}}).execute(context)

    first, *lines = str(caught.value).splitlines()
    assert first == (
        f"ChecksFailedError: 3 of 9 checks failed for run {manifest.run} of partition {DAY}, nothing was published:"
    )
    assert [line.split(";")[0] for line in lines] == [
        "  - row_books: FAILED",
        "  - mean_confidence: FAILED",
        "  - throughput: WARNING",
    ]
    assert all("expected" in line and "found" in line for line in lines)
    record = CheckRecord.read(layout.checks(manifest.run))
    assert record is not None
    assert [one.name for one in record.failed] == ["row_books", "mean_confidence", "throughput"]


def test_a_warning_and_a_grey_zone_let_the_day_pass(layout: OutputLayout, context: dict[str, Any]) -> None:
    slow = Day(told={"images_per_second": 1.0})

    result = check(predictions(slow.stage(layout, DAY)), checks={"throughput": {"min": 5, "severity": "warn"}}).execute(
        context
    )

    assert result["verdict"] == "warned"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checks": {"nuls": {}}}, "BadInputError: checks: there is no nuls"),
        ({"baseline": "yesterday"}, "BadInputError: baseline: there is no rule 'yesterday'"),
        ({"labels": "/nowhere/labels.csv"}, "BadInputError: labels: there is no /nowhere/labels.csv"),
    ],
)
def test_what_cannot_be_used_fails_at_once_and_leaves_no_record(
    layout: OutputLayout, context: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    manifest = Day().stage(layout, DAY)

    with pytest.raises(AirflowFailException, match=message):
        check(predictions(manifest), **arguments).execute(context)

    assert not layout.checks(manifest.run).exists()


def test_after_a_plan_there_is_nothing_to_check(context: dict[str, Any]) -> None:
    with pytest.raises(AirflowSkipException, match="only planned"):
        check({"dry_run": True}).execute(context)


def test_all_of_it_can_come_from_templates() -> None:
    operator = check(
        "{{ path }}",
        checks={"nulls": {"max": "{{ most }}"}},
        baseline="trailing:{{ days }}",
        labels="/labels/{{ day }}/{partition}.csv",
    )

    operator.render_template_fields({"path": "run.json", "most": 3, "days": 7, "day": DAY})

    assert (operator.predictions, operator.checks) == ("run.json", {"nulls": {"max": "3"}})
    assert (operator.baseline, operator.labels) == ("trailing:7", f"/labels/{DAY}/{{partition}}.csv")


def assertions_of(lineage: Any) -> dict[str, bool]:
    (read,) = lineage.inputs
    return {one.assertion: one.success for one in read.inputFacets["dataQualityAssertions"].assertions}


def test_lineage_gets_the_verdicts_of_a_good_and_of_a_failed_day(layout: OutputLayout, context: dict[str, Any]) -> None:
    good = check(predictions(Day().stage(layout, "2026-01-01")))
    good.execute(context)
    bad = check(predictions(Day(lost=1).stage(layout, DAY)))
    with pytest.raises(AirflowFailException):
        bad.execute(context)

    told = DefaultExtractor(good).extract_on_complete(None)
    told_of_failure = DefaultExtractor(bad).extract_on_failure(None)

    assert set(assertions_of(told).values()) == {True}
    assert [name for name, passed in assertions_of(told_of_failure).items() if not passed] == ["row_books"]
    assert [one.name for one in told_of_failure.outputs] == [str(layout.checks(f"run-{DAY}"))]


def test_lineage_of_a_task_that_judged_nothing_is_empty(layout: OutputLayout) -> None:
    for given in ("/nowhere.json", predictions(Day().stage(layout, DAY))):
        lineage = check(given).get_openlineage_facets_on_failure(None)
        assert (lineage.inputs, lineage.outputs) == ([], [])
