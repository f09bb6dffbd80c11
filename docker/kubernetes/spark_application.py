# SPDX-License-Identifier: Apache-2.0
"""Prints spark-application.yaml: a day as the planner plans it and as this package gives it to the Kubeflow operator.

``python docker/kubernetes/spark_application.py > docker/kubernetes/spark-application.yaml``. The numbers are examples;
a test compares the file with what the package makes today.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from airflow_onnx_provider.runtime.profile import profile_named
from airflow_onnx_provider.spark.kubernetes import spark_application, to_yaml
from airflow_onnx_provider.spark.plan import ClusterFacts, InputFacts, ModelFacts, plan
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.submission import UPLOAD_PATH, ExecutorEnvironment, place, prepare

MODEL = "/data/models/catalog_classifier/5ca5b1d6c2f0"
MASTER = "k8s://https://kubernetes.default.svc"
CLUSTER = ClusterFacts(MASTER, cores=32, memory_mb=131_072, executor_cores=8, executor_memory_mb=32_768, total_cores=32)
DAY = InputFacts(rows=1_000_000, bytes=50_000_000_000, files=1_000_000, largest=2_000_000)
VOLUME = "volumes.persistentVolumeClaim.data"
SHARED = "/data/staging/onnx-2026-01-01"
"""On the volume that Airflow and the pods share; for the pods it is a folder of their own machine, hence ``local://``."""

HEAD = """# SPDX-License-Identifier: Apache-2.0
# Made by spark_application.py beside it: an example of what the Kubeflow Spark operator is given for a day.
"""


def example() -> str:
    """The resource as YAML."""
    profile = profile_named("cpu-throughput")
    model = ModelFacts(14_000_000, images_per_second=230.0)
    planned = plan(model, CLUSTER, DAY, profile, {"model_travels": "path"}, store_url="/data/models")
    settings = JobSettings(
        run="onnx-2026-01-01",
        partition="2026-01-01",
        input_path="/data/catalog",
        output_path="/data/predictions",
        model={"model": MODEL, "name": "catalog_classifier", "version": "5ca5b1d6c2f0", "digest": "5ca5b1d6c2f0"},
        plan=planned.to_dict(),
        profile=profile.to_dict(),
        model_folder=MODEL,
    )
    volumes = {
        f"spark.kubernetes.{role}.{VOLUME}.{key}": value
        for role in ("driver", "executor")
        for key, value in {"mount.path": "/data", "options.claimName": "onnx-data"}.items()
    }
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as shared:
        submission = prepare(
            Path(made),
            settings,
            model_folder=Path(MODEL),
            plan_conf=planned.spark_conf(),
            master=MASTER,
            deploy_mode="cluster",
            hand_set={UPLOAD_PATH: f"local://{SHARED}", "spark.driver.memory": "2g", **volumes},
            model_travels="path",
            environment=ExecutorEnvironment(image="registry.example/spark-onnx:1"),
        )
        there = place(submission, Path(shared))
    application, py_files = (one.replace(shared, f"local://{SHARED}") for one in (there.application, there.py_files))
    there = replace(there, application=application, py_files=py_files)
    resource = spark_application(there, name="onnx-2026-01-01", namespace="onnx", service_account="onnx-spark")
    return HEAD + to_yaml(resource)


if __name__ == "__main__":
    print(example(), end="")
