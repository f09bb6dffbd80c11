"""Operator: score one partition of a catalogue on Spark."""

from __future__ import annotations

import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.model_store import store_of
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.hooks.spark_submit import (
    OnnxSparkSubmitHook,
    find_spark_submit,
    require_java,
)
from airflow_onnx_provider.links import SPARK_UI_KEY, SparkUILink
from airflow_onnx_provider.operators.model import ModelReference, address_of, number, truth
from airflow_onnx_provider.operators.request import InferenceRequest
from airflow_onnx_provider.operators.task_run import TaskRun
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.runtime.profile import profile_of
from airflow_onnx_provider.spark.layout import OutputLayout, local_path
from airflow_onnx_provider.spark.run_manifest import RunManifest, abandon, failure
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.sources import Source
from airflow_onnx_provider.spark.submission import ExecutorEnvironment, Submission, place_archive, prepare

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
        "python",
        "python_archive",
        "image",
        "plan_only",
    )
    operator_extra_links = (SparkUILink(),)
    _task: Any = None
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
        self.python = python
        self.python_archive = python_archive
        self.image = image
        self.plan_only = dry_run  # "dry_run" is a method of every operator

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # the parent returns nothing
        """Submit the job and read its manifest."""
        with no_retry_for_bad_input(), tempfile.TemporaryDirectory(prefix="onnx-spark-") as work:
            job_keys = (self.external_id_key, self._K8S_DRIVER_STATUS_KEY)
            run = TaskRun(context.get("task_state_store"), job_keys)
            address = address_of(self.model)
            store = store_of(address)
            with store.local(address) as folder:
                request = self._request(context, address, folder, waiting=run.running is not None)
                planned = request.plan.to_dict()
                self._task = context.get("ti")
                if self._task is not None:
                    self._task.xcom_push("plan", planned)
                if truth(self.plan_only, "dry_run"):
                    return {"dry_run": True, "partition": request.partition, "plan": planned}
                settings = request.settings(
                    run.begin(request.layout, request.partition, context["run_id"]),
                    incremental=truth(self.incremental, "incremental"),
                    top_k=int(number(self.top_k, "top_k")),
                    raw=tuple(self.raw),
                )
                home = store.root / request.manifest.name
                ships = request.plan["model_travels"] == "object_store"
                self._prepare(request, settings, Path(work), place_archive(home, folder) if ships else "")
            try:
                super().execute(context)
            except (AirflowException, RuntimeError) as error:
                # The parent's message is the whole command and up to 500 lines, which stand in the log already.
                reason = failure(request.layout.run_manifest(settings.run), str(error))
                self._abandon()
                raise reason from None
            manifest_path = request.layout.run_manifest(settings.run)
            manifest = RunManifest.read(manifest_path)
            run.forget()
        return {**manifest.figures(), "output_path": manifest.output_path, "run_manifest": str(manifest_path)}

    def on_kill(self) -> None:
        """End spark-submit and everything below it, with what it staged; nothing is killed before the submission."""
        if self._hook is not None:
            super().on_kill()
            self._abandon()

    def _abandon(self) -> None:
        """A driver on this machine has ended with spark-submit; one in a cluster may still be at work."""
        if self._submission is not None and self._in_client_mode:
            told = JobSettings(**json.loads(self._submission.arguments[0]))
            layout = OutputLayout(Path(told.output_path))
            abandon(layout.run_manifest(told.run), told.partition, layout.staging(told.run))

    @property
    def _in_client_mode(self) -> bool:
        return (self._deploy_mode or SparkClusterHook(self.conn_id).deploy_mode) == "client"

    def _request(self, context: Context, address: str, folder: Path, *, waiting: bool) -> InferenceRequest:
        """Look at everything that can be wrong before Spark starts, and plan.

        :param waiting: for a job that runs already, so that what it holds of the cluster counts as free
        """
        find_spark_submit()
        require_java()
        arguments = {
            "spark.executor.cores": self._executor_cores,
            "spark.executor.memory": self._executor_memory,
            "spark.executor.instances": self._num_executors,
            "spark.cores.max": self._total_executor_cores,
        }
        given = {**(self.conf or {}), **{name: value for name, value in arguments.items() if value}}
        cluster = SparkClusterHook(self.conn_id).capacity()
        if not cluster.healthy:
            raise OnnxProviderError(f"{cluster.master} takes no applications now: {cluster.note}")
        request = InferenceRequest.of(
            address=address,
            folder=folder,
            catalog=local_path(self.input_path, "input_path"),
            partition=partition_of(context, self.partition),
            source=Source(self.key or None, self.input or None, self.root or None),
            layout=OutputLayout(local_path(self.output_path, "output_path")),
            cluster=cluster.when_idle() if waiting else cluster,
            profile=profile_of(self.profile),
            sizing=self.sizing or {},
            conf={name: str(value) for name, value in given.items()},
        )
        self.log.info("Plan for %s on %s:\n%s", request.partition, request.cluster.master, request.plan.table())
        return request

    def _prepare(self, request: InferenceRequest, settings: JobSettings, work: Path, model_archive: str) -> None:
        self._submission = prepare(
            work,
            settings,
            model_folder=request.folder,
            plan_conf=request.plan.spark_conf(),
            model_travels=str(request.plan["model_travels"]),
            model_archive=model_archive,
            environment=self._environment(SparkClusterHook(self.conn_id)),
            master=request.cluster.master,
            deploy_mode="client" if self._in_client_mode else "cluster",
            hand_set={str(key): str(value) for key, value in (self.conf or {}).items()},
        )
        self.application, self._hook = self._submission.application, None

    def _environment(self, hook: SparkClusterHook) -> ExecutorEnvironment:
        given = ExecutorEnvironment(self.python or None, self.python_archive or None, self.image or None)
        return ExecutorEnvironment(hook.python) if given == ExecutorEnvironment() else given

    def _get_hook(self) -> OnnxSparkSubmitHook:
        """The parent names its hook's class in the middle of thirty arguments; take the same ones for ours."""
        held = {name.removeprefix("_"): value for name, value in vars(self).items()}
        if (made := self._submission) is not None:
            lists = ("py_files", "archives", "files")
            held |= {name: ",".join(filter(None, (getattr(made, name), held[name]))) for name in lists}
            held |= {"conf": {**held["conf"], **made.conf}, "application_args": list(made.arguments)}
        taken = inspect.signature(SparkSubmitHook.__init__).parameters
        arguments: dict[str, Any] = {name: held[name] for name in taken if name in held}
        hook = OnnxSparkSubmitHook(**{**arguments, "conn_id": self.conn_id})
        self.durable = hook.track(self.durable)
        hook.on_application = self._link
        return hook

    def _link(self, application: str, address: str) -> None:
        """As soon as the application has an address, the task's page links to it."""
        self.log.info("Spark UI of %s: %s", application, address or "its address is not known")
        if self._task is not None and address:
            self._task.xcom_push(SPARK_UI_KEY, address)
