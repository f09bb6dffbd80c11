# SPDX-License-Identifier: Apache-2.0
"""The whole chain in one call."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup
from airflow.serialization.serialized_objects import DagSerialization

from airflow_onnx_provider import TrainedModel, onnx_batch_inference
from airflow_onnx_provider.exceptions import BadInputError

TRAINED = TrainedModel("/data/c.keras", "tensorflow", "c", calibration="/data/samples", labelled="/data/labelled")
PLACES: dict[str, Any] = {"input_path": "/data/catalog", "output_path": "/data/predictions"}


def chain(**arguments: Any) -> tuple[DAG, TaskGroup]:
    with DAG("day", schedule=None) as dag:
        group = onnx_batch_inference(**{"model": TRAINED, **PLACES, **arguments})
    return dag, group


def order(dag: DAG) -> list[str]:
    return [task.task_id.rpartition(".")[2] for task in dag.topological_sort()]


def test_from_a_trained_model_to_published_predictions() -> None:
    dag, group = chain()

    assert order(dag) == [
        *("catalog", "convert", "validate", "optimize", "quantize"),
        *("infer", "check", "report", "approve", "publish"),
    ]
    assert all(name.startswith("onnx_batch_inference.") for name in group.children)
    assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == "day"


def test_a_model_that_is_ready_needs_no_stages() -> None:
    assert order(chain(model="/models/c@production")[0]) == [
        *("catalog", "infer", "check", "report", "approve", "publish"),
    ]


def test_an_alias_is_moved_only_when_the_day_is_published_and_the_card_comes_last() -> None:
    dag, _ = chain(alias="production", metrics={"job": "c", "textfile_dir": "/data/metrics"})

    assert dag.get_task("onnx_batch_inference.promote").upstream_task_ids >= {"onnx_batch_inference.publish"}
    assert dag.get_task("onnx_batch_inference.card").upstream_task_ids == {"onnx_batch_inference.promote"}
    assert dag.get_task("onnx_batch_inference.metrics").is_teardown, "it runs after failures, and hides none"


def test_nothing_is_published_that_was_not_judged_and_reported() -> None:
    dag, _ = chain()

    assert dag.get_task("onnx_batch_inference.approve").upstream_task_ids == {
        "onnx_batch_inference.check",
        "onnx_batch_inference.report",
    }
    assert dag.get_task("onnx_batch_inference.report").trigger_rule == "all_done", "a failed run needs its report most"


def test_without_labelled_rows_nothing_is_quantised() -> None:
    trained = TrainedModel("/data/c.keras", "tensorflow", "c", calibration="/data/samples")
    assert "quantize" not in order(chain(model=trained)[0])


def test_arguments_of_one_task() -> None:
    dag, _ = chain(group_id="day", prefix_group_id=False, arguments={"infer": {"sizing": {"threads": 2}}})
    assert dag.get_task("infer").sizing == {"threads": 2}


def test_arguments_of_a_task_that_is_not_in_the_chain() -> None:
    with pytest.raises(BadInputError, match="the chain has no task promote; it has catalog, convert"):
        chain(arguments={"promote": {"alias": "x"}})
