# SPDX-License-Identifier: Apache-2.0
"""Trained models and large catalogues in, trusted daily predictions out.

Public names are given lazily: importing this package imports neither Airflow nor a machine-learning framework, so
that a DAG file stays cheap to parse and the executors need no Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_onnx_provider.assets import model_asset as model_asset
    from airflow_onnx_provider.exceptions import OnnxProviderError as OnnxProviderError
    from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook as OnnxModelStoreHook
    from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook as SparkClusterHook
    from airflow_onnx_provider.notifiers.run import OnnxRunNotifier as OnnxRunNotifier
    from airflow_onnx_provider.operators.approval import OnnxApprovalOperator as OnnxApprovalOperator
    from airflow_onnx_provider.operators.check import OnnxPredictionCheckOperator as OnnxPredictionCheckOperator
    from airflow_onnx_provider.operators.convert import OnnxConvertOperator as OnnxConvertOperator
    from airflow_onnx_provider.operators.log_to_mlflow import OnnxMlflowLogOperator as OnnxMlflowLogOperator
    from airflow_onnx_provider.operators.measure import OnnxMeasureOperator as OnnxMeasureOperator
    from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator as OnnxMetricsOperator
    from airflow_onnx_provider.operators.model_card import OnnxModelCardOperator as OnnxModelCardOperator
    from airflow_onnx_provider.operators.optimize import OnnxOptimizeOperator as OnnxOptimizeOperator
    from airflow_onnx_provider.operators.partition_rollback import (
        OnnxPartitionRollbackOperator as OnnxPartitionRollbackOperator,
    )
    from airflow_onnx_provider.operators.promote import OnnxPromoteOperator as OnnxPromoteOperator
    from airflow_onnx_provider.operators.prune import OnnxPruneOperator as OnnxPruneOperator
    from airflow_onnx_provider.operators.publish import OnnxPublishOperator as OnnxPublishOperator
    from airflow_onnx_provider.operators.quantize import OnnxQuantizeOperator as OnnxQuantizeOperator
    from airflow_onnx_provider.operators.replay import OnnxReplayOperator as OnnxReplayOperator
    from airflow_onnx_provider.operators.report import OnnxReportOperator as OnnxReportOperator
    from airflow_onnx_provider.operators.rollback import OnnxRollbackOperator as OnnxRollbackOperator
    from airflow_onnx_provider.operators.spark_inference import OnnxSparkInferenceOperator as OnnxSparkInferenceOperator
    from airflow_onnx_provider.operators.split import OnnxSplitOperator as OnnxSplitOperator
    from airflow_onnx_provider.operators.validate import OnnxValidateOperator as OnnxValidateOperator
    from airflow_onnx_provider.quality.alerts import Threshold as Threshold
    from airflow_onnx_provider.runtime.profile import ExecutionProfile as ExecutionProfile
    from airflow_onnx_provider.sensors.catalog import CatalogPartitionSensor as CatalogPartitionSensor
    from airflow_onnx_provider.sensors.model import OnnxModelSensor as OnnxModelSensor
    from airflow_onnx_provider.sensors.spark_capacity import SparkCapacitySensor as SparkCapacitySensor
    from airflow_onnx_provider.spark.score import score as score
    from airflow_onnx_provider.task_groups import TrainedModel as TrainedModel
    from airflow_onnx_provider.task_groups import onnx_batch_inference as onnx_batch_inference

__version__ = "0.1.0"

_HOMES = {
    "CatalogPartitionSensor": "sensors.catalog",
    "ExecutionProfile": "runtime.profile",
    "OnnxApprovalOperator": "operators.approval",
    "OnnxConvertOperator": "operators.convert",
    "OnnxMeasureOperator": "operators.measure",
    "OnnxMetricsOperator": "operators.metrics",
    "OnnxMlflowLogOperator": "operators.log_to_mlflow",
    "OnnxModelCardOperator": "operators.model_card",
    "OnnxModelSensor": "sensors.model",
    "OnnxModelStoreHook": "hooks.model_store",
    "OnnxOptimizeOperator": "operators.optimize",
    "OnnxPartitionRollbackOperator": "operators.partition_rollback",
    "OnnxPredictionCheckOperator": "operators.check",
    "OnnxPromoteOperator": "operators.promote",
    "OnnxProviderError": "exceptions",
    "OnnxPruneOperator": "operators.prune",
    "OnnxPublishOperator": "operators.publish",
    "OnnxQuantizeOperator": "operators.quantize",
    "OnnxReplayOperator": "operators.replay",
    "OnnxReportOperator": "operators.report",
    "OnnxRollbackOperator": "operators.rollback",
    "OnnxRunNotifier": "notifiers.run",
    "OnnxSparkInferenceOperator": "operators.spark_inference",
    "OnnxSplitOperator": "operators.split",
    "OnnxValidateOperator": "operators.validate",
    "SparkCapacitySensor": "sensors.spark_capacity",
    "SparkClusterHook": "hooks.spark_cluster",
    "Threshold": "quality.alerts",
    "TrainedModel": "task_groups",
    "model_asset": "assets",
    "onnx_batch_inference": "task_groups",
    "score": "spark.score",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
