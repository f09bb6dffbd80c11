# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_onnx_provider.operators.publish import OnnxPublishOperator
from airflow_onnx_provider.spark.history import PUBLISHED, REMOVED, kept, moves
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from tests.operators.test_partition_rollback import run_of
from tests.spark.staging import a_manifest, stage

DAY = "2026-01-01"


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def publish(layout: OutputLayout, run: str, task_run: str = "monday", **given: Any) -> dict[str, Any]:
    """Publish a run, which is staged unless it was before."""
    if not layout.run_manifest(run).exists():
        stage(layout, run)
    operator = OnnxPublishOperator(
        task_id="publish", **{"predictions": {"run_manifest": str(layout.run_manifest(run))}, **given}
    )
    return operator.execute(run_of(task_run, "publish"))


def test_publish(layout: OutputLayout) -> None:
    publish(layout, "run-1")
    result = publish(layout, "run-2", "tuesday")

    assert result == {
        "path": str(layout.published(DAY)),
        "replaced": "run-1",
        "changed": True,
        **a_manifest("run-2", layout).figures(),
    }
    assert json.loads(json.dumps(result)) == result
    assert publish(layout, "run-2", "tuesday") == {**result, "replaced": None, "changed": False}, "another try"


def test_the_log_has_who_published(layout: OutputLayout) -> None:
    publish(layout, "run-1")
    stage(layout, "run-2")
    approved = {"run_manifest": str(layout.run_manifest("run-2")), "approved_by": "ann"}
    publish(layout, "run-2", "tuesday", predictions=approved)

    assert [(move.action, move.run, move.by, move.reason) for move in moves(layout, DAY)] == [
        (PUBLISHED, "run-1", "catalog/monday/publish", None),
        (PUBLISHED, "run-2", "catalog/tuesday/publish", "approved by ann"),
    ]


@pytest.mark.parametrize(
    ("keep", "stays"), [(None, "abc"), ("None", "abc"), ("", "abc"), (2, "bc"), ("2", "bc"), ("0", "")]
)
def test_so_many_replaced_versions_stay(layout: OutputLayout, keep: int | str | None, stays: str) -> None:
    for run in "abcd":
        publish(layout, run, keep_history=keep)

    assert sorted(kept(layout, DAY)) == list(stays)
    removed = [(move.run, move.by) for move in moves(layout, DAY) if move.action == REMOVED]
    assert removed == [(run, "catalog/monday/publish") for run in "abc" if run not in stays]


@pytest.mark.parametrize("keep", ["many", -1, "1.5"])
def test_so_many_cannot_stay_and_nothing_is_published(layout: OutputLayout, keep: int | str) -> None:
    with pytest.raises(AirflowFailException, match="keep_history: expected a number|a history cannot keep"):
        publish(layout, "run-1", keep_history=keep)
    assert published_run(layout, DAY) is None


def test_old_versions_that_cannot_be_removed_do_not_fail_the_day(layout: OutputLayout) -> None:
    publish(layout, "run-1")
    in_the_way = layout.root / "_history" / "discarded"
    in_the_way.touch()

    assert publish(layout, "run-2", keep_history=0)["changed"]
    assert kept(layout, DAY) == ("run-1",)

    in_the_way.unlink()
    publish(layout, "run-3", keep_history=0)
    assert kept(layout, DAY) == (), "the next publishing removes what was left"


def test_the_assets_of_the_day_get_an_event(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    outlet = Asset("catalog_predictions")
    context = run_of("monday", "publish", (outlet,))

    OnnxPublishOperator(task_id="publish", predictions=str(layout.run_manifest("run-1")), outlets=[outlet]).execute(
        context
    )

    assert context["outlet_events"][outlet].extra == a_manifest("run-1", layout).figures()


def test_what_was_only_planned_is_skipped(layout: OutputLayout) -> None:
    with pytest.raises(AirflowSkipException, match="only planned"):
        publish(layout, "run-1", predictions={"dry_run": True})


def test_a_run_that_lost_is_not_tried_again(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    stage(layout, "run-2")
    publish(layout, "run-1")

    with pytest.raises(AirflowFailException, match="PublishConflictError: run run-2 was based on an empty partition"):
        publish(layout, "run-2")
