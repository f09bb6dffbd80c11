# SPDX-License-Identifier: Apache-2.0
"""MLflow: a pyfunc model that wraps ONNX Runtime, given to Spark by ``mlflow.pyfunc.spark_udf``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.datasets import FEATURES
from benchmarks.environment import HOME
from benchmarks.ways import Way
from benchmarks.ways.peer import Peer
from benchmarks.ways.spark import SparkWay
from benchmarks.works import Task


class MlflowWay(SparkWay):
    """Saves the model in ``start``; a cold pass includes MLflow's loading of it."""

    def __init__(self) -> None:
        super().__init__(self._predicted)

    def start(self, task: Task) -> None:
        import mlflow
        import pandas as pd

        class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
            def load_context(self, context: Any) -> None:
                self._peer = Peer(context.artifacts["version"])

            def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
                if "image" in model_input:
                    best = self._peer.pictures(model_input["image"].to_numpy())
                else:
                    best = self._peer.rows(model_input.to_numpy())
                return pd.DataFrame(best, columns=["label", "score"])

        self._saved = HOME / "mlflow" / Path(task.model).name
        shutil.rmtree(self._saved, ignore_errors=True)
        mlflow.pyfunc.save_model(
            str(self._saved), python_model=Model(), artifacts={"version": task.model}, pip_requirements=["onnxruntime"]
        )
        super().start(task)

    def _predicted(self, frame: Any, task: Task) -> Any:
        from mlflow.pyfunc import spark_udf
        from pyspark.sql import functions as f

        udf = spark_udf(
            frame.sparkSession, str(self._saved), result_type="label double, score double", env_manager="local"
        )
        found = udf(f.struct(*(["image"] if task.kind == "images" else FEATURES)))
        return frame.select("key", found.alias("found")).select("key", "found.*")


def way(_option: str) -> Way:
    return MlflowWay()
