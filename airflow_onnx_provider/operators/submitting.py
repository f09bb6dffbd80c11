# SPDX-License-Identifier: Apache-2.0
"""How a planned request becomes one call of spark-submit, with all that the operator's user set by hand."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook

from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.submission import ExecutorEnvironment, Submission, place_archive, prepare

if TYPE_CHECKING:
    from airflow_onnx_provider.operators.request import InferenceRequest
    from airflow_onnx_provider.operators.spark_inference import OnnxSparkInferenceOperator

PROPERTIES = {
    "executor_cores": "spark.executor.cores",
    "executor_memory": "spark.executor.memory",
    "num_executors": "spark.executor.instances",
    "total_executor_cores": "spark.cores.max",
}
"""Arguments of ``SparkSubmitOperator`` that stand for a Spark property."""


def arguments_of(operator: OnnxSparkInferenceOperator) -> dict[str, Any]:
    """What the operator was given, rendered, by the names of its arguments."""
    return {name.removeprefix("_"): value for name, value in vars(operator).items()}


def spark_properties(operator: OnnxSparkInferenceOperator) -> dict[str, str]:
    """The Spark properties that the user set: in ``conf``, or by an argument of its own, which wins."""
    held = arguments_of(operator)
    arguments = {name: held[argument] for argument, name in PROPERTIES.items() if held[argument]}
    return {name: str(value) for name, value in {**(held["conf"] or {}), **arguments}.items()}


def in_client_mode(operator: OnnxSparkInferenceOperator) -> bool:
    """Whether the driver runs on this machine: the operator's word, else its connection's."""
    mode = arguments_of(operator)["deploy_mode"] or SparkClusterHook(operator.conn_id).deploy_mode
    return bool(mode == "client")


def prepare_job(
    operator: OnnxSparkInferenceOperator,
    request: InferenceRequest,
    settings: JobSettings,
    *,
    work: Path,
    store: ModelStore,
) -> Submission:
    """Write the job's files.

    :param work: an empty folder that stays until the job has ended
    :param store: the model's; a model that travels by object store is placed there as an archive
    :raises BadInputError: if what the user set contradicts itself or the cluster
    """
    travels = str(request.plan["model_travels"])
    home = store.root / request.manifest.name
    return prepare(
        work,
        settings,
        model_folder=request.folder,
        plan_conf=request.plan.spark_conf(),
        model_travels=travels,
        model_archive=place_archive(home, request.folder) if travels == "object_store" else "",
        environment=_environment(operator),
        master=request.cluster.master,
        deploy_mode="client" if in_client_mode(operator) else "cluster",
        hand_set={str(name): str(value) for name, value in (operator.conf or {}).items()},
    )


def _environment(operator: OnnxSparkInferenceOperator) -> ExecutorEnvironment:
    """Where the operator names none, it is the connection's."""
    given = ExecutorEnvironment(operator.python or None, operator.python_archive or None, operator.image or None)
    return ExecutorEnvironment(SparkClusterHook(operator.conn_id).python) if given == ExecutorEnvironment() else given


def submit_hook(operator: OnnxSparkInferenceOperator, job: Submission | None) -> OnnxSparkSubmitHook:
    """The hook for a prepared job.

    ``SparkSubmitOperator`` names its hook's class in the middle of thirty arguments; ours is given the same ones.
    """
    held = arguments_of(operator)
    if job is not None:
        for name in ("py_files", "archives", "files"):
            held[name] = ",".join(filter(None, (getattr(job, name), held[name])))
        held |= {"conf": {**held["conf"], **job.conf}, "application_args": list(job.arguments)}
    taken = inspect.signature(SparkSubmitHook.__init__).parameters
    return OnnxSparkSubmitHook(**{name: held[name] for name in taken if name in held})
