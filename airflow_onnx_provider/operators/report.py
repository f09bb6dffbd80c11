# SPDX-License-Identifier: Apache-2.0
"""Operator: write a run's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.links import REPORT_KEY, ReportLink, report_address
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest, read_state

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxReportOperator(BaseOperator):
    """Write one page about a run: whether to trust it, and why not.

    The page is ``<output_path>/_reports/<run>.html`` and needs nothing else: no script, no network. It has the verdict
    and what stands out first, then checks, books, labels and scores beside the baseline, accuracy, speed, samples with
    their pictures, the quarantine, the plan, and where all of it comes from. A later report of the same run takes the
    place of an earlier one. Needs the extra ``report``.

    Give it the inference task's output and ``trigger_rule="all_done"``, downstream of the check task: then a run whose
    checks failed has a report as well. It is skipped, with one line, where inference failed or was only planned.

    Returns ``report`` (path of the page), ``address`` (of the page in the Airflow UI), ``verdict`` (``passed``,
    ``warned``, ``failed``, or ``not judged``), ``run``, ``partition`` and ``output_path``. Pushes the address as
    ``report_link`` for the button in the UI.

    :param predictions: an inference task's output, or the path of a run manifest. (templated)
    """

    template_fields: Sequence[str] = ("predictions",)
    operator_extra_links = (ReportLink(),)

    def __init__(self, *, predictions: PredictionsReference, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the report."""
        from airflow_onnx_provider.quality.report import write_report
        from airflow_onnx_provider.quality.verdict import CheckRecord

        with no_retry_for_bad_input():
            manifest = self._finished()
            layout = OutputLayout(Path(manifest.output_path))
            path = write_report(layout, manifest.run)
            record = CheckRecord.read(layout.checks(manifest.run))
        address = report_address(manifest.output_path, manifest.run)
        if (task := context.get("ti")) is not None:
            task.xcom_push(REPORT_KEY, address)
        self.log.info("the report of run %s is %s", manifest.run, path)
        return {
            "report": str(path),
            "address": address,
            "verdict": record.verdict if record else "not judged",
            "run": manifest.run,
            "partition": manifest.partition,
            "output_path": manifest.output_path,
        }

    def _finished(self) -> RunManifest:
        """The manifest of a finished run.

        :raises AirflowSkipException: if there is nothing to report on: inference failed, or was only planned
        """
        given = self.predictions.get("run_manifest") if isinstance(self.predictions, Mapping) else self.predictions
        planned = isinstance(self.predictions, Mapping) and self.predictions.get("dry_run")
        if not given and not planned:
            raise AirflowSkipException("inference left no run manifest, so there is nothing to report on")
        if isinstance(given, str):
            state = read_state(Path(given))
            if state is None or state.get("state") == "failed":
                said = f"the run failed: {state.get('error')}" if state else f"there is no run manifest at {given}"
                raise AirflowSkipException(f"there is nothing to report on: {said}")
        return manifest_of(self.predictions)
