"""Operator: may anybody read this run's predictions?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.quality.checks import RunFigures, require_passed, run_checks
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from airflow_onnx_provider.spark.staged import count_rows

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPredictionCheckOperator(BaseOperator):
    """Judge a run by its books and its figures, before anything is visible.

    ==================  ========================  =============================================================
    check               setting                   fails when
    ==================  ========================  =============================================================
    ``row_books``       –                         rows in ≠ predicted + quarantined, or the files hold other counts
    ``quarantine_rate`` ``max`` (0.05)            a larger share of the rows is in quarantine
    ``nulls``           ``max`` (0)               more rows have a null, or a score that is not a number
    ``unknown_labels``  ``max`` (0)               more rows have a label that the model does not have
    ``mean_confidence`` ``min`` (0.5)             the mean score is lower
    ``label_drift``     ``max`` (0.2)             a larger share of rows moved to another label since the previous
                                                  published partition (total variation distance)
    ==================  ========================  =============================================================

    Returns the predictions' figures with ``checks``: a list of name, severity, passed, expected, actual.

    Fails without retry if a check of severity ``error`` failed, with every failed check in the message.

    :param predictions: an inference task's output, or the path of a run manifest. (templated)
    :param checks: check name to its setting and ``severity`` (``error`` or ``warn``); None switches a check off; those
        not named run with their defaults. (templated)
    """

    template_fields: Sequence[str] = ("predictions", "checks")

    def __init__(
        self,
        *,
        predictions: PredictionsReference,
        checks: Mapping[str, Mapping[str, Any] | None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.checks = checks

    def execute(self, context: Context) -> dict[str, Any]:
        """Run all checks, log each, fail if one must."""
        with no_retry_for_bad_input():
            manifest = manifest_of(self.predictions)
            results = run_checks(figures_of(manifest), self.checks)
            for result in results:
                (self.log.info if result.passed else self.log.warning)("%s", result)
            require_passed(results, f"run {manifest.run} of partition {manifest.partition}")
        given = dict(self.predictions) if isinstance(self.predictions, Mapping) else {"run_manifest": self.predictions}
        return {**given, "checks": [result.to_dict() for result in results]}


def figures_of(manifest: RunManifest) -> RunFigures:
    """Gather what the checks look at: the manifest, the staged files' own counts, the previous partition."""
    layout = OutputLayout(Path(manifest.output_path))
    staged_predicted, staged_quarantined = count_rows(layout, manifest.partition, manifest.run)
    earlier = [one for one in layout.published_partitions() if one < manifest.partition]
    baseline = RunManifest.read(layout.published(earlier[-1]) / RUN_FILE) if earlier else None
    return RunFigures(
        rows_in=manifest.rows_in,
        predicted=manifest.predicted,
        quarantined=manifest.quarantined,
        staged_predicted=staged_predicted,
        staged_quarantined=staged_quarantined,
        null_rows=manifest.null_rows,
        labels=manifest.labels,
        known_labels=manifest.model["labels"],
        mean_score=manifest.mean_score,
        baseline=baseline.labels if baseline else None,
        baseline_name=baseline.partition if baseline else None,
    )
