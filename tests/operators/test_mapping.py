# SPDX-License-Identifier: Apache-2.0
"""Each operator declares its templates and can be mapped."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import DagSerialization

import airflow_onnx_provider as provider

EXPANDED: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "CatalogPartitionSensor": ({"path": "/data"}, {"partition": ["2026-01-01", "2026-01-02"]}),
    "SparkCapacitySensor": ({"cores": 2}, {"conn_id": ["spark_a", "spark_b"]}),
    "OnnxConvertOperator": ({"framework": "tensorflow", "name": "m"}, {"source": ["a.keras", "b.keras"]}),
    "OnnxValidateOperator": ({"inputs": "/data"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxQuantizeOperator": ({"mode": "static"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxOptimizeOperator": ({"inputs": "/data"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxPruneOperator": ({"labelled": "/data"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxSplitOperator": ({"inputs": "/data"}, {"stages": [2, 4], "model": ["s/m/1", "s/m/2"]}),
    "OnnxPromoteOperator": ({"alias": "candidate"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxRollbackOperator": ({"name": "m"}, {"alias": ["candidate", "production"]}),
    "OnnxModelCardOperator": ({}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxMlflowLogOperator": ({"experiment": "e"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxModelSensor": ({"alias": "production"}, {"name": ["a", "b"]}),
    "OnnxMeasureOperator": ({"pictures": "/data"}, {"model": ["s/m/1", "s/m/2"]}),
    "OnnxSparkInferenceOperator": (
        {"model": "s/m/1", "input_path": "/in", "output_path": "/out"},
        {"partition": ["2026-01-01", "2026-01-02"]},
    ),
    "OnnxPredictionCheckOperator": ({"checks": {}}, {"predictions": ["a.json", "b.json"]}),
    "OnnxApprovalOperator": ({"when": "grey"}, {"predictions": ["a.json", "b.json"]}),
    "OnnxReportOperator": ({}, {"predictions": ["a.json", "b.json"]}),
    "OnnxMetricsOperator": ({"job": "j", "textfile_dir": "/metrics"}, {"predictions": ["a.json", "b.json"]}),
    "OnnxPublishOperator": ({}, {"predictions": ["a.json", "b.json"]}),
    "OnnxPartitionRollbackOperator": ({"output_path": "/out"}, {"partition": ["2026-01-01", "2026-01-02"]}),
    "OnnxReplayOperator": ({"output_path": "/out"}, {"partition": ["2026-01-01", "2026-01-02"]}),
}

ELSEWHERE = {"dry_run": "plan_only"}
"""Arguments whose attribute has another name, as every operator has a method of that name."""


@pytest.mark.parametrize("name", EXPANDED)
def test_it_maps_and_serializes(name: str) -> None:
    operator = getattr(provider, name)
    fixed, expanded = EXPANDED[name]
    with DAG("mapped", schedule=None) as dag:
        operator.partial(task_id="mapped", **fixed).expand(**expanded)
    serialized = DagSerialization.to_dict(dag)
    (task,) = serialized["dag"]["tasks"]
    assert task["__var"]["_is_mapped"] is True


@pytest.mark.parametrize("name", EXPANDED)
def test_every_argument_that_a_run_may_decide_is_templated(name: str) -> None:
    operator: type[BaseOperator] = getattr(provider, name)
    parameters = inspect.signature(operator.__init__).parameters
    strings = {
        one.name for one in parameters.values() if one.kind is one.KEYWORD_ONLY and "str" in str(one.annotation)
    } - {"name"}
    attributes = {ELSEWHERE.get(one, one) for one in strings}
    assert attributes <= set(operator.template_fields)
    assert all(f":param {name}:" in (operator.__doc__ or "") for name in strings), "documented"


def test_all_public_operators_are_here() -> None:
    public = {name for name in provider.__all__ if name.endswith(("Operator", "Sensor"))}
    assert public == set(EXPANDED)
