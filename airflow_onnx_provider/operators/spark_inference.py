"""Operator: score one partition of a catalogue on Spark."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import store_of
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import (
    OnnxSparkSubmitHook,
    find_spark_submit,
    require_java,
    submit_environment,
)
from airflow_onnx_provider.operators.model import ModelReference, address_of, number
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, require_scorable
from airflow_onnx_provider.runtime.profile import profile_of
from airflow_onnx_provider.spark.layout import OutputLayout, local_path, new_run_name
from airflow_onnx_provider.spark.plan import InputFacts, ModelFacts, plan
from airflow_onnx_provider.spark.run_manifest import RunManifest, failure
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.sources import list_partition
from airflow_onnx_provider.spark.submission import prepare

if TYPE_CHECKING:
    from airflow.sdk import Context

RUN_KEY = "onnx_run"
"""Where the run's name is kept while a cluster-mode job runs, so that a retry that re-attaches finds its manifest."""


class OnnxSparkInferenceOperator(SparkSubmitOperator):
    """Plan, submit and believe only the run manifest.

    Reads ``<input_path>/ds=<partition>/`` (pictures), scores each file once with the model, and stages predictions
    and quarantine below ``<output_path>/_staging/<run>/``. Nothing is visible to readers until it is published. Each
    execution is a run of its own, so a retry, a clear or a backfill starts clean.

    Returns ``run``, ``partition``, ``output_path``, ``run_manifest`` (its path), ``model``, ``model_digest``,
    ``rows_in``, ``predicted``, ``quarantined``, ``mean_score``, ``images_per_second``, ``raw_images_per_second``,
    ``raw_share``.

    Fails without retry if the connection, Spark, Java, the model or the day is missing, the day is empty, the output
    cannot be written, or the model was never validated. Further arguments are those of ``SparkSubmitOperator``.

    :param model: address, or a model task's output. (templated)
    :param input_path: catalogue folder that this worker and the executors both see. (templated)
    :param output_path: output folder, likewise. (templated)
    :param partition: of the data; default: decided by the run (Param ``partition``, partition key, logical date).
        (templated)
    :param conn_id: Spark connection, type ``spark`` or ``spark_cluster``. (templated)
    :param sizing: values that win over the planner's: ``slots``, ``task_cpus``, ``threads``, ``batch_size`` (rows),
        ``partitions``, ``executor_memory_overhead_mb``. (templated)
    :param profile: name of an execution profile (``cpu-throughput``, ``cpu-latency``, ``cuda``, ``tensorrt``,
        ``openvino``), or ``{"name": …}`` with fields of one's own beside it, as ``"decoder": "scaled"``. (templated)
    :param top_k: keep this many of the best classes with each prediction. (templated)
    :param raw: outputs of the model to keep whole, as arrays. (templated)
    :param python: interpreter on the executors; default: this one for ``local`` masters, else the cluster's.
        (templated)
    """

    template_fields: Sequence[str] = (
        *SparkSubmitOperator.template_fields,
        "model",
        "input_path",
        "output_path",
        "partition",
        "conn_id",
        "sizing",
        "profile",
        "top_k",
        "raw",
        "python",
    )

    def __init__(
        self,
        *,
        model: ModelReference,
        input_path: str,
        output_path: str,
        partition: str | None = None,
        conn_id: str = "spark_default",
        sizing: Mapping[str, int] | None = None,
        profile: str | Mapping[str, Any] = "cpu-throughput",
        top_k: int | str = 0,
        raw: Sequence[str] = (),
        python: str | None = None,
        name: str = "onnx-inference",
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, name=name, **kwargs)
        self.model = model
        self.input_path = input_path
        self.output_path = output_path
        self.partition = partition
        self.conn_id = conn_id
        self.sizing = sizing
        self.profile = profile
        self.top_k = top_k
        self.raw = raw
        self.python = python

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the parent returns nothing
        """Submit the job and read its manifest."""
        with no_retry_for_bad_input(), tempfile.TemporaryDirectory(prefix="onnx-spark-") as work:
            layout = OutputLayout(local_path(self.output_path, "output_path"))
            run = self._attach_or_name_run(context)
            settings = self._settle(context, layout, run, Path(work))
            manifest_path = layout.run_manifest(settings.run)
            try:
                super().execute(context)
            except (AirflowException, RuntimeError) as error:
                # The parent's message is the whole command and up to 500 lines, which stand in the log already.
                raise failure(manifest_path, str(error)) from None
            manifest = RunManifest.read(manifest_path)
            self._forget_run(context)
        return {**manifest.figures(), "output_path": manifest.output_path, "run_manifest": str(manifest_path)}

    def on_kill(self) -> None:
        """End spark-submit and everything below it; nothing is to be killed before the submission."""
        if self._hook is not None:
            super().on_kill()

    def _settle(self, context: Context, layout: OutputLayout, run: str, work: Path) -> JobSettings:
        """Look at everything that can be wrong before Spark starts, plan, and set what the parent submits."""
        partition = partition_of(context, self.partition)
        hook = SparkClusterHook(self.conn_id)
        cluster, deploy_mode = hook.capacity(), self._deploy_mode or hook.deploy_mode
        if self._executor_cores:
            cluster = replace(cluster, executor_cores=int(self._executor_cores))
        find_spark_submit()
        require_java()
        address = address_of(self.model)
        store = store_of(address)
        manifest = store.manifest(address)
        require_scorable(manifest)
        if manifest.golden is None:
            raise BadInputError(f"{address} was never validated; put an OnnxValidateOperator before inference")
        listing = list_partition(local_path(self.input_path, "input_path"), partition)
        layout.require_writable()
        with store.local(address) as folder:
            facts = ModelFacts.of((folder / MODEL_NAME).stat().st_size, manifest.best_speed(cpu_type()))
            inputs = InputFacts(len(listing.keys), listing.bytes)
            profile = profile_of(self.profile)
            sizing = {**profile.sizing, **{k: int(number(v, k)) for k, v in (self.sizing or {}).items()}}
            chosen = plan(facts, cluster, inputs, sizing)
            self.log.info("Plan for %s on %s:\n%s", listing.folder, cluster.master, chosen.table())
            settings = JobSettings(
                run=f"{partition}-{run}",
                partition=partition,
                input_path=str(listing.folder.parent),
                output_path=str(layout.root),
                model={
                    "model": address,
                    "name": manifest.name,
                    "version": manifest.version,
                    "digest": manifest.digest,
                },
                plan=chosen.to_dict(),
                profile=profile.to_dict(),
                top_k=int(number(self.top_k, "top_k")),
                raw=tuple(self.raw),
            )
            hand_set = {str(key): str(value) for key, value in (self.conf or {}).items()}
            submission = prepare(
                work,
                settings,
                model_folder=folder,
                plan_conf=chosen.spark_conf(),
                python=self.python,
                master=cluster.master,
                deploy_mode=deploy_mode,
                hand_set=hand_set,
            )
        self.application = submission.application
        self.py_files = ",".join(filter(None, (submission.py_files, self.py_files)))
        self._archives = ",".join(filter(None, (submission.archives, self._archives)))
        self.application_args = list(submission.arguments)
        self.conf = dict(submission.conf)
        self.env_vars = {**submit_environment(deploy_mode), **(self.env_vars or {})}
        return settings

    def _attach_or_name_run(self, context: Context) -> str:
        """The name of the run that a cluster-mode job of an earlier try may still be working on, else a new one."""
        state = context.get("task_state_store")
        if state is not None and state.get(self.external_id_key) and (earlier := state.get(RUN_KEY)):
            return str(earlier)
        run = new_run_name(context["run_id"])
        if state is not None:
            state.set(RUN_KEY, run)
        return run

    def _forget_run(self, context: Context) -> None:
        """A finished job must not be found again: the state outlives a clear, which has to run the day anew."""
        state = context.get("task_state_store")
        if state is not None:
            for key in (self.external_id_key, self._K8S_DRIVER_STATUS_KEY, RUN_KEY):
                state.delete(key)

    def _get_hook(self) -> OnnxSparkSubmitHook:
        """The parent names its hook's class in the middle of thirty arguments; take the same ones for ours."""
        held = {name.removeprefix("_"): value for name, value in vars(self).items()}
        taken = inspect.signature(SparkSubmitHook.__init__).parameters
        arguments: dict[str, Any] = {name: held[name] for name in taken if name in held}
        return OnnxSparkSubmitHook(**{**arguments, "conn_id": self.conn_id})
