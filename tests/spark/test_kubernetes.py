# SPDX-License-Identifier: Apache-2.0
"""The same plan as a resource for the Spark operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.kubernetes import spark_application, to_yaml
from airflow_onnx_provider.spark.submission import SERIAL_GC, ExecutorEnvironment, Submission, place, prepare
from tests.runtime.tiny import write_version
from tests.spark.test_submission import SETTINGS

PLAN = {
    "spark.task.cpus": "1",
    "spark.executor.instances": "4",
    "spark.executor.cores": "4",
    "spark.executor.memory": "1024m",
    "spark.executor.memoryOverhead": "5504m",
}
HAND_SET = {
    "spark.kubernetes.file.upload.path": "s3a://staging/spark",
    "spark.kubernetes.authenticate.driver.serviceAccountName": "spark",
    "spark.driver.memory": "2g",
}


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    return placed(tmp_path)


def placed(tmp_path: Path, **changes: Any) -> Submission:
    """Prepared for a cluster on Kubernetes, and its files copied to a folder that stands in for a bucket."""
    write_version(tmp_path / "version")
    (tmp_path / "work").mkdir()
    made = prepare(
        tmp_path / "work",
        SETTINGS,
        model_folder=tmp_path / "version",
        master="k8s://https://k:6443",
        deploy_mode="cluster",
        environment=ExecutorEnvironment(image="repo/onnx:1"),
        **{"plan_conf": PLAN, "hand_set": HAND_SET, **changes},
    )
    there = place(made, tmp_path / "bucket")
    in_bucket = {
        name: getattr(there, name).replace(f"{tmp_path}/bucket", "s3a://staging/run-1")
        for name in ("application", "py_files", "files", "archives")
    }
    return Submission(**in_bucket, arguments=there.arguments, conf=there.conf)


def test_the_whole_resource(submission: Submission) -> None:
    resource = spark_application(submission, name="onnx-2026-01-01", namespace="nightly", spark_version="4.2.0")

    assert resource == {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "SparkApplication",
        "metadata": {"name": "onnx-2026-01-01", "namespace": "nightly"},
        "spec": {
            "type": "Python",
            "pythonVersion": "3",
            "mode": "cluster",
            "sparkVersion": "4.2.0",
            "image": "repo/onnx:1",
            "mainApplicationFile": "s3a://staging/run-1/catalog_inference.py",
            "arguments": list(submission.arguments),
            "deps": {
                "pyFiles": ["s3a://staging/run-1/airflow_onnx_provider.zip"],
                "archives": ["s3a://staging/run-1/model.zip#onnx_model"],
            },
            "restartPolicy": {"type": "Never"},
            "timeToLiveSeconds": 86_400,
            "driver": {
                "memory": "2g",
                "javaOptions": SERIAL_GC,
                "env": [{"name": "ORT_DISABLE_TELEMETRY", "value": "1"}],
                "serviceAccount": "spark",
            },
            "executor": {
                "cores": 4,
                "memory": "1024m",
                "memoryOverhead": "5504m",
                "instances": 4,
                "javaOptions": SERIAL_GC,
                "env": [{"name": "OMP_NUM_THREADS", "value": "1"}, {"name": "ORT_DISABLE_TELEMETRY", "value": "1"}],
            },
            "sparkConf": {
                "spark.task.cpus": "1",
                "spark.task.maxFailures": "4",
                "spark.log.level": "WARN",
                "spark.sql.execution.arrow.pyspark.enabled": "true",
                "spark.ui.showConsoleProgress": "false",
                "spark.python.worker.faulthandler.enabled": "true",
                "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
            },
        },
    }


def test_gpus(tmp_path: Path) -> None:
    gpus = {"spark.executor.resource.gpu.amount": "2", "spark.task.resource.gpu.amount": "0.5"}
    spec = spark_application(placed(tmp_path, plan_conf=PLAN | gpus), name="onnx")["spec"]

    assert spec["executor"]["gpu"] == {"name": "nvidia.com/gpu", "quantity": 2}
    assert spec["sparkConf"]["spark.task.resource.gpu.amount"] == "0.5"


def test_bounds_of_dynamic_allocation(tmp_path: Path) -> None:
    bounds = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": "8",
        "spark.dynamicAllocation.executorIdleTimeout": "120s",
    }
    spec = spark_application(placed(tmp_path, plan_conf=PLAN | bounds), name="onnx")["spec"]

    assert spec["dynamicAllocation"] == {"enabled": True, "minExecutors": 1, "maxExecutors": 8}
    assert spec["sparkConf"]["spark.dynamicAllocation.executorIdleTimeout"] == "120s"


def test_what_is_named_wins_over_the_submission(submission: Submission) -> None:
    spec = spark_application(submission, name="onnx", image="repo/onnx:2", service_account="other")["spec"]

    assert spec["image"] == "repo/onnx:2"
    assert spec["driver"]["serviceAccount"] == "other"


def test_files_of_this_machine_are_refused(submission: Submission) -> None:
    here = Submission(**{**vars(submission), "py_files": "/tmp/work/airflow_onnx_provider.zip"})

    with pytest.raises(BadInputError, match="cannot see /tmp/work/airflow_onnx_provider.zip"):
        spark_application(here, name="onnx")


def test_an_image_is_needed(submission: Submission) -> None:
    conf = {key: value for key, value in submission.conf.items() if not key.endswith("image")}

    with pytest.raises(BadInputError, match="needs a container image"):
        spark_application(Submission(**{**vars(submission), "conf": conf}), name="onnx")


def test_the_yaml_says_the_same(submission: Submission) -> None:
    resource = spark_application(submission, name="onnx")
    read = yaml.safe_load(to_yaml(resource))

    assert read == resource
    assert json.loads(read["spec"]["arguments"][0])["run"] == SETTINGS.run


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "0.25"},
        {"spark.dynamicAllocation.enabled": "true", "spark.dynamicAllocation.maxExecutors": "8"},
    ],
)
def test_the_operators_own_models_take_it(tmp_path: Path, more: dict[str, str]) -> None:
    """kubeflow-spark-api has pydantic models made from the operator's schema; they drop what they do not know."""
    models = pytest.importorskip("kubeflow_spark_api.models", reason="kubeflow-spark-api is not installed")
    resource = spark_application(placed(tmp_path, plan_conf=PLAN | more), name="onnx")

    assert models.SparkV1beta2SparkApplication.from_dict(resource).to_dict() == resource
