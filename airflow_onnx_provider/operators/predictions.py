# SPDX-License-Identifier: Apache-2.0
"""What the operators after inference share: how they name a run's predictions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import XComArg
from airflow.sdk.exceptions import AirflowSkipException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.run_manifest import RunManifest

PredictionsReference = str | Mapping[str, Any] | XComArg
"""Path of a run manifest, or what an inference or check task returned (``task.output`` when the DAG is written)."""


def manifest_of(predictions: PredictionsReference) -> RunManifest:
    """Read the run manifest behind either form of a reference.

    :raises BadInputError: if there is none
    :raises SparkJobError: if the run did not finish
    :raises AirflowSkipException: if inference was only planned
    """
    if isinstance(predictions, Mapping) and predictions.get("dry_run"):
        raise AirflowSkipException("inference was only planned (dry_run), so there are no predictions")
    path = predictions.get("run_manifest") if isinstance(predictions, Mapping) else predictions
    if not isinstance(path, str) or not path:
        raise BadInputError(f"predictions: expected an inference task's output or a run manifest, got {predictions!r}")
    return RunManifest.read(Path(path))
