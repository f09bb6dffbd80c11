# SPDX-License-Identifier: Apache-2.0
"""Roll a day back as a task does, with the event that other DAGs are scheduled by."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.operators.partition_rollback import OnnxPartitionRollbackOperator
from airflow_onnx_provider.operators.publish import OnnxPublishOperator
from airflow_onnx_provider.spark.history import moves
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from tests.spark.staging import a_manifest, stage, stage_and_publish, tree

DAY = "2026-01-01"


def run_of(run: str, task: str, outlets: tuple[Asset, ...] = (), **params: Any) -> dict[str, Any]:
    """What Airflow gives a task."""
    return {
        "ti": SimpleNamespace(dag_id="catalog", run_id=run, task_id=task, map_index=-1),
        "outlet_events": {outlet: SimpleNamespace(extra={}) for outlet in outlets},
        "params": params,
        "logical_date": datetime(2026, 1, 1, tzinfo=UTC),
    }


def roll_back(
    layout: OutputLayout, task_run: str, *, params: dict[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    operator = OnnxPartitionRollbackOperator(task_id="back", output_path=str(layout.root), **given)
    return operator.execute(run_of(task_run, "back", **(params or {})))


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def test_the_day_before_the_last_publishing_is_back(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    before = tree(layout.published(DAY)), tree(layout.quarantine(DAY))
    stage_and_publish(layout, "run-2")

    result = roll_back(layout, "monday", reason="blue was called red")

    assert result == {
        "path": str(layout.published(DAY)),
        "output_path": str(layout.root),
        "replaced": "run-2",
        "changed": True,
        **a_manifest("run-1", layout).figures(),
    }
    assert json.loads(json.dumps(result)) == result
    assert (tree(layout.published(DAY)), tree(layout.quarantine(DAY))) == before
    last = moves(layout, DAY)[-1]
    assert (last.by, last.reason) == ("catalog/monday/back", "blue was called red")


def test_another_try_of_the_same_task_does_not_go_back_once_more(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2", "run-3")

    first = roll_back(layout, "monday")
    again = roll_back(layout, "monday")

    assert (first["run"], first["replaced"], first["changed"]) == ("run-2", "run-3", True)
    assert again == {**first, "changed": False}
    assert roll_back(layout, "tuesday")["run"] == "run-1", "another run goes one step further"
    with pytest.raises(AirflowFailException, match="BadInputError: run run-1 is the earliest version of 2026-01-01"):
        roll_back(layout, "wednesday")


def test_a_named_run_is_brought_back(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2", "run-3")

    assert roll_back(layout, "monday", run="run-1")["replaced"] == "run-3"
    assert roll_back(layout, "tuesday", run="run-3")["run"] == "run-3", "and forward again"
    assert roll_back(layout, "wednesday", run="")["run"] == "run-1", "an empty Param names none"
    assert published_run(layout, DAY) == "run-1"


def test_a_rollback_that_cannot_be_is_not_tried_again(layout: OutputLayout) -> None:
    with pytest.raises(AirflowFailException, match="2026-01-01 is not published below"):
        roll_back(layout, "monday")
    stage_and_publish(layout, "run-1")
    with pytest.raises(AirflowFailException, match=r"only version of 2026-01-01 .* Run the day again"):
        roll_back(layout, "monday")
    stage_and_publish(layout, "run-2")
    with pytest.raises(AirflowFailException, match="run run-9 is not in the history of 2026-01-01, which has run-1"):
        roll_back(layout, "monday", run="run-9")
    with pytest.raises(AirflowFailException, match="output_path: s3://bucket is a URL"):
        OnnxPartitionRollbackOperator(task_id="back", output_path="s3://bucket").execute(run_of("monday", "back"))


def test_which_day(layout: OutputLayout) -> None:
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        stage_and_publish(layout, f"first-{day}", f"second-{day}", partition=day)

    assert roll_back(layout, "monday")["partition"] == "2026-01-01", "the run's own"
    assert roll_back(layout, "monday", partition="2026-01-02")["partition"] == "2026-01-02"
    by_hand = roll_back(layout, "monday", partition="2026-01-02", params={"partition": "2026-01-03"})
    assert by_hand["partition"] == "2026-01-03", "a person's last word"


def test_the_assets_of_the_day_get_an_event(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    outlet = Asset("catalog_predictions")
    context = run_of("monday", "back", (outlet,))
    operator = OnnxPartitionRollbackOperator(task_id="back", output_path=str(layout.root), outlets=[outlet])

    operator.execute(context)

    extra = context["outlet_events"][outlet].extra
    assert (extra["rolled_back"], extra["run"], extra["replaced"], extra["predicted"]) == (True, "run-1", "run-2", 2)
    assert json.loads(json.dumps(extra)) == extra


def test_the_publish_task_of_what_was_rolled_back_is_refused(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    roll_back(layout, "monday", reason="blue was called red")

    publish = OnnxPublishOperator(task_id="publish", predictions=str(layout.run_manifest("run-2")))
    with pytest.raises(AirflowFailException, match=r"rolled back by catalog/monday/back at .*: blue was called red"):
        publish.execute(run_of("sunday", "publish"))

    stage(layout, "run-3")
    later = OnnxPublishOperator(task_id="publish", predictions=str(layout.run_manifest("run-3")))
    assert later.execute(run_of("tuesday", "publish"))["replaced"] == "run-1"
