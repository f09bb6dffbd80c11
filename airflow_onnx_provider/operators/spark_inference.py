# SPDX-License-Identifier: Apache-2.0
"""Operator: score one partition of a catalogue on Spark."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import open_version
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook
from airflow_onnx_provider.links import SPARK_UI_KEY, SparkUILink
from airflow_onnx_provider.operators.model import ModelReference, address_of, count, truth
from airflow_onnx_provider.operators.request import InferenceRequest
from airflow_onnx_provider.operators.submitting import in_client_mode, prepare_job, submit_hook
from airflow_onnx_provider.operators.task_run import TaskRun
from airflow_onnx_provider.spark.run_manifest import RunManifest, failure
from airflow_onnx_provider.spark.settings import COPY_BYTES, JobSettings
from airflow_onnx_provider.spark.sources import Source
from airflow_onnx_provider.spark.submission import Submission

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxSparkInferenceOperator(SparkSubmitOperator):
    """Plan, submit and believe only the run manifest.

    Reads ``<input_path>/ds=<partition>/``, scores each row once with the model, and stages predictions and quarantine
    below ``<output_path>/_staging/<run>/``. Nothing is visible to readers until it is published. Each execution is a
    run of its own, so a retry, a clear or a backfill starts clean.

    Returns ``run``, ``partition``, ``output_path``, ``run_manifest`` (its path), ``model``, ``model_digest``,
    ``rows_in``, ``predicted``, ``carried``, ``quarantined``, ``mean_score``, ``images_per_second``,
    ``raw_images_per_second``, ``raw_share``. The plan lies in the XCom ``plan``.

    Fails without retry if the connection, Spark, Java, the model or the day is missing, the day is empty, the output
    cannot be written, an executor lacks something, the plan contradicts itself, or the model was never validated.
    Further arguments are those of ``SparkSubmitOperator``.

    :param model: address, or a model task's output. (templated)
    :param input_path: catalogue folder that this worker and the executors both see. (templated)
    :param output_path: output folder, likewise. (templated)
    :param partition: of the data; default: decided by the run (Param ``partition``, partition key, logical date).
        (templated)
    :param key: column of the day's Parquet files that identifies a row; None: the day holds picture files. (templated)
    :param input: column with the encoded pictures (binary) or their addresses (string); as ``key``. (templated)
    :param root: folder or URL below which all addresses of such a column must lie. (templated)
    :param incremental: carry answers over from the published days for contents that this model has scored. (templated)
    :param conn_id: Spark connection, type ``spark`` or ``spark_cluster``. (templated)
    :param sizing: values that win over the planner's, by their names in the plan. (templated)
    :param profile: name of an execution profile (``cpu-throughput``, ``cpu-latency``, ``cuda``, ``tensorrt``,
        ``openvino``), or ``{"name": …}`` with fields of one's own beside it, as ``"decoder": "scaled"``. (templated)
    :param top_k: keep this many of the best classes with each prediction. (templated)
    :param raw: outputs of the model to keep whole, as arrays. (templated)
    :param quarantine_copy_bytes: a quarantined row keeps a copy of its encoded input if that is no larger, at most
        1,000 inputs or 16 MiB a Spark task; 0: none does. (templated)
    :param python: interpreter on the executors; default: the connection's, this one for ``local`` masters, else the
        cluster's. (templated)
    :param python_archive: a packed environment (``venv-pack``, ``conda-pack``) that Spark unpacks there. (templated)
    :param image: container image with the environment, for Kubernetes, or YARN with Docker. (templated)
    :param dry_run: plan, and return only ``dry_run`` and ``plan``; check and publish tasks behind it skip themselves.
        (templated)
    """

    template_fields: Sequence[str] = (
        *SparkSubmitOperator.template_fields,
        "model",
        "input_path",
        "output_path",
        "partition",
        "key",
        "input",
        "root",
        "incremental",
        "conn_id",
        "sizing",
        "profile",
        "top_k",
        "raw",
        "quarantine_copy_bytes",
        "python",
        "python_archive",
        "image",
        "plan_only",
    )
    operator_extra_links = (SparkUILink(),)
    _task: Any = None
    _run: TaskRun | None = None
    _submission: Submission | None = None

    def __init__(
        self,
        *,
        model: ModelReference,
        input_path: str,
        output_path: str,
        partition: str | None = None,
        key: str | None = None,
        input: str | None = None,  # noqa: A002
        root: str | None = None,
        incremental: bool | str = False,
        conn_id: str = "spark_default",
        sizing: Mapping[str, Any] | None = None,
        profile: str | Mapping[str, Any] = "cpu-throughput",
        top_k: int | str = 0,
        raw: Sequence[str] = (),
        quarantine_copy_bytes: int | str = COPY_BYTES,
        python: str | None = None,
        python_archive: str | None = None,
        image: str | None = None,
        dry_run: bool | str = False,
        name: str = "onnx-inference",
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, name=name, **kwargs)
        self.model = model
        self.input_path = input_path
        self.output_path = output_path
        self.partition = partition
        self.key = key
        self.input = input
        self.root = root
        self.incremental = incremental
        self.conn_id = conn_id
        self.sizing = sizing
        self.profile = profile
        self.top_k = top_k
        self.raw = raw
        self.quarantine_copy_bytes = quarantine_copy_bytes
        self.python = python
        self.python_archive = python_archive
        self.image = image
        self.plan_only = dry_run  # "dry_run" is a method of every operator

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the parent returns nothing
        """Submit the job and read its manifest."""
        with no_retry_for_bad_input(), tempfile.TemporaryDirectory(prefix="onnx-spark-") as work:
            job_keys = (self.external_id_key, self._K8S_DRIVER_STATUS_KEY)
            self._task, self._run = context.get("ti"), TaskRun(context.get("task_state_store"), job_keys)
            store, address = open_version(address_of(self.model))
            with store.local(address) as folder:
                request = self._request(context, address, folder, waiting=bool(self._run.running))
                planned = request.plan.to_dict()
                self.log.info("Plan for %s on %s:\n%s", request.partition, request.cluster.master, request.plan.table())
                if self._task is not None:
                    self._task.xcom_push("plan", planned)
                if truth(self.plan_only, "dry_run"):
                    return {"dry_run": True, "partition": request.partition, "plan": planned}
                run = self._run.begin(request.layout, request.partition, context["run_id"])
                settings = self._settings(request, run)
                self._submission = prepare_job(self, request, settings, work=Path(work), store=store)
                self.application, self._hook = self._submission.application, None
            manifest_path = request.layout.run_manifest(settings.run)
            try:
                super().execute(context)
            except (AirflowException, RuntimeError) as error:
                # The parent's message is the whole command and up to 500 lines, which stand in the log already.
                reason = failure(manifest_path, str(error))
                self._abandon()
                raise reason from None
            manifest = RunManifest.read(manifest_path)
            self._run.forget()
        return {**manifest.figures(), "output_path": manifest.output_path, "run_manifest": str(manifest_path)}

    def _request(self, context: Context, address: str, folder: Path, *, waiting: bool) -> InferenceRequest:
        """What is asked for; see :meth:`InferenceRequest.asked_by`."""
        source = Source(self.key or None, self.input or None, self.root or None)
        return InferenceRequest.asked_by(self, context, source, address, folder, waiting=waiting)

    def _settings(self, request: InferenceRequest, run: str) -> JobSettings:
        """What the job is told."""
        return request.settings(
            run,
            incremental=truth(self.incremental, "incremental"),
            top_k=count(self.top_k, "top_k"),
            raw=tuple(self.raw),
            copy_bytes=count(self.quarantine_copy_bytes, "quarantine_copy_bytes"),
        )

    def on_kill(self) -> None:
        """End spark-submit and everything below it, with what it staged; nothing is killed before the submission."""
        if self._hook is not None:
            super().on_kill()
            self._abandon()

    def _abandon(self) -> None:
        """A driver on this machine has ended with spark-submit; one in a cluster may still be at work."""
        if self._run is not None and in_client_mode(self):
            self._run.abandon()

    def _get_hook(self) -> OnnxSparkSubmitHook:
        hook = submit_hook(self, self._submission)
        self.durable = hook.track(self.durable)
        hook.on_application = self._link
        return hook

    def _link(self, application: str, address: str) -> None:
        """As soon as the application has an address, the task's page links to it."""
        self.log.info("Spark UI of %s: %s", application, address or "its address is not known")
        if self._task is not None and address:
            self._task.xcom_push(SPARK_UI_KEY, address)
