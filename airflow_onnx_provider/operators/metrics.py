# SPDX-License-Identifier: Apache-2.0
"""Operator: tell Airflow's stats and Prometheus how a run went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_onnx_provider.exceptions import SparkJobError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.pushgateway import push
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.quality.exposition import last_published, registry_of, write_textfile
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.stats import emit

if TYPE_CHECKING:
    from airflow.sdk import Context
    from prometheus_client import CollectorRegistry

    from airflow_onnx_provider.spark.run_manifest import RunManifest


class OnnxMetricsOperator(BaseOperator):
    """Send a run's figures to Airflow's stats and, if asked, to Prometheus as a text file or through a push gateway.

    Let it come last and always, as a teardown, which does not decide whether the DAG run is green::

        publish >> OnnxMetricsOperator(task_id="metrics", predictions=infer.output, job="catalog", …).as_teardown()

    ``predictions`` is inference's own output, so that a run whose check failed shows, too. Where inference itself
    left no run manifest the task is skipped: the last figures stay, and grow stale.

    Prometheus shows the present: a run of a day before the newest published one (a backfill) leaves its series alone.
    A gateway that does not answer and a file that cannot be written are warnings: figures must not fail a good day,
    and ``OnnxRunStale`` in ``docker/prometheus/alerts.yml`` notices. Needs the extra ``prometheus`` if asked for it.

    Returns ``job``, ``run``, ``partition``, ``verdict`` (None if the run was not judged), ``stats`` (figures sent),
    ``textfile`` (path or None) and ``pushed`` (the gateway's address or None).

    Fails without retry if the job's name or the connection will not do, or the extra is missing.

    :param predictions: an inference task's output, or the path of a run manifest. (templated)
    :param job: short name of the daily job, the same every day: the label ``onnx_job`` of all series, the gateway's
        ``job``, and the text file's name. (templated)
    :param textfile_dir: folder that node exporter's textfile collector reads; it is made if need be. (templated)
    :param pushgateway_conn_id: connection of the type ``http`` to a push gateway: host, port, login and password, or
        a password alone as a bearer token. (templated)
    """

    template_fields: Sequence[str] = ("predictions", "job", "textfile_dir", "pushgateway_conn_id")

    def __init__(
        self,
        *,
        predictions: PredictionsReference,
        job: str,
        textfile_dir: str | None = None,
        pushgateway_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.job = job
        self.textfile_dir = textfile_dir
        self.pushgateway_conn_id = pushgateway_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Send what there is to say."""
        with no_retry_for_bad_input():
            manifest = self._manifest()
            layout = OutputLayout(Path(manifest.output_path))
            record = CheckRecord.read(layout.checks(manifest.run))
            stats = emit(manifest, record, self.job)
            textfile, pushed = self._tell_prometheus(layout, manifest, record)
        return {
            "job": self.job,
            "run": manifest.run,
            "partition": manifest.partition,
            "verdict": record.verdict if record else None,
            "stats": stats,
            "textfile": textfile,
            "pushed": pushed,
        }

    def _manifest(self) -> RunManifest:
        if self.predictions is None:
            raise AirflowSkipException("inference left no run manifest, so there are no figures")
        try:
            return manifest_of(self.predictions)
        except SparkJobError as error:
            raise AirflowSkipException(f"there are no figures: {error}") from error

    def _tell_prometheus(
        self, layout: OutputLayout, manifest: RunManifest, record: CheckRecord | None
    ) -> tuple[str | None, str | None]:
        """Write and push what is asked for; each answers with where it went, or None."""
        if not (self.textfile_dir or self.pushgateway_conn_id):
            return None, None
        newest, published = last_published(layout) or (None, None)
        if newest and manifest.partition < newest:
            self.log.info("Prometheus keeps showing %s, which is newer than %s", newest, manifest.partition)
            return None, None
        registry = registry_of(manifest, record, self.job, published)
        return (
            self._try(_write, self.textfile_dir, registry) if self.textfile_dir else None,
            self._try(push, self.pushgateway_conn_id, registry) if self.pushgateway_conn_id else None,
        )

    def _try(
        self, send: Callable[[str, str, CollectorRegistry], str], where: str, figures: CollectorRegistry
    ) -> str | None:
        try:
            place = send(where, self.job, figures)
        except OSError as error:
            self.log.warning("Prometheus was not told of this run: %s", error)
            return None
        self.log.info("The figures are at %s", place)
        return place


def _write(folder: str, job: str, registry: CollectorRegistry) -> str:
    return str(write_textfile(Path(folder), job, registry))
