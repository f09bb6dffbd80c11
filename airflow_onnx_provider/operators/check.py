# SPDX-License-Identifier: Apache-2.0
"""Operator: may anybody read this run's predictions?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.quality.baseline import PREVIOUS
from airflow_onnx_provider.quality.judge import judge, require_passed
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context


class OnnxPredictionCheckOperator(BaseOperator):
    """Judge a run by its books, its rows and its figures, before anything is visible.

    Each check fails when

    * ``row_books``: rows in ≠ predicted + quarantined, or the files hold other counts
    * ``unique_keys``: more than ``max`` (0) rows have a key that another row has
    * ``quarantine_rate``: a larger share of the rows than ``max`` (0.05) is in quarantine, or a larger one than
      ``reasons`` (a dict of reason to share) allows for one reason
    * ``nulls``: more than ``max`` (0) rows have a null, or a score that is NaN or infinite
    * ``unknown_labels``: more than ``max`` (0) rows have a label that the model does not have
    * ``mean_confidence``: the mean score is below ``min`` (0.5)
    * ``label_drift``: the labels' shares are further from the baseline than ``max``, and than chance explains;
      ``metric`` is ``psi`` (0.25), ``jensen_shannon`` (0.2) or ``total_variation`` (0.25)
    * ``confidence_drift``: the scores' histogram is, likewise; ``psi`` (0.25), ``jensen_shannon`` (0.2) or
      ``wasserstein`` (0.1)
    * ``accuracy``: a smaller share of the labelled rows than ``min`` is right, or none of them was predicted
    * ``recall``: the same for each class that has ``min_rows`` (20) labelled rows; ``classes`` (a dict of label to
      share) gives single classes a limit of their own
    * ``freshness``: the newest input file was more than ``max`` hours old when the run ended
    * ``throughput``: the run scored fewer than ``min`` images a second
    * ``latency``: a batch took more than ``max`` ms, at ``percentile`` ``p99``, ``p90`` or ``p50``

    Each also takes ``severity`` (``error`` or ``warn``; ``row_books`` is always an error) and, where it has a limit,
    ``tolerance``: how far beyond the limit it still passes, but as grey. ``accuracy`` and ``recall`` need ``labels``;
    they fail only where even the upper end of the 95 % interval is below the limit, and are grey where the share alone
    is. ``recall`` and the three below it run only where a limit is given.

    The verdicts are written to ``<output_path>/_checks/<run>.json`` in any case. Returns the predictions' figures with
    ``checks``, a list of dicts (name, severity, passed, expected, actual, value, limit, grey), and ``verdict``:
    ``passed``, or ``warned`` if a check of severity ``warn`` failed or one is grey. Fails without retry if a check of
    severity ``error`` failed, with every failed check in the message. Where the OpenLineage provider is installed, the
    verdicts are facets of the run's event.

    :param predictions: an inference task's output, or the path of a run manifest. (templated)
    :param checks: check name to its settings; None switches a check off; those not named run with their defaults.
        Numbers may be text. (templated)
    :param baseline: what drift is measured against: ``previous`` published partition, ``same_weekday``, ``trailing:N``
        partitions together, or ``pinned:NAME``. The first day has none, says so and passes. (templated)
    :param labels: CSV or Parquet file, or a folder of either, with the columns ``key`` (or ``file``) and ``label``;
        ``{partition}`` in it stands for the run's partition, which may have no such table (yet): its accuracy is then
        not judged. None or empty: there is none. (templated)
    """

    template_fields: Sequence[str] = ("predictions", "checks", "baseline", "labels")

    def __init__(
        self,
        *,
        predictions: PredictionsReference,
        checks: Mapping[str, Mapping[str, Any] | None] | None = None,
        baseline: str = PREVIOUS,
        labels: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.checks = checks
        self.baseline = baseline
        self.labels = labels

    def execute(self, context: Context) -> dict[str, Any]:
        """Run all checks, log each, keep the verdicts, fail if one must."""
        with no_retry_for_bad_input():
            manifest = manifest_of(self.predictions)
            layout = OutputLayout(Path(manifest.output_path))
            record = judge(layout, manifest, self.checks, self.baseline, self.labels)
            record.write(layout.checks(manifest.run))
            self.log.info("compared with: %s", record.baseline)
            for result in record.results:
                (self.log.info if result.passed and not result.grey else self.log.warning)("%s", result)
            require_passed(record.results, f"run {manifest.run} of partition {manifest.partition}")
        given = dict(self.predictions) if isinstance(self.predictions, Mapping) else {"run_manifest": self.predictions}
        return {**given, "checks": [result.to_dict() for result in record.results], "verdict": record.verdict}

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """The verdicts as data-quality facets of the partition that was read."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        from airflow_onnx_provider.quality.facets import judged_dataset, record_dataset

        try:
            manifest = manifest_of(self.predictions)
            layout = OutputLayout(Path(manifest.output_path))
            record = CheckRecord.read(layout.checks(manifest.run))
        except OnnxProviderError as error:
            self.log.debug("no verdicts for OpenLineage: %s", error)
            record = None
        if record is None:  # bad input ended the task before anything was judged
            return OperatorLineage()
        return OperatorLineage(
            inputs=[judged_dataset(layout, manifest, record)], outputs=[record_dataset(layout, record)]
        )

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """The same for a run that failed its checks."""
        return self.get_openlineage_facets_on_complete(task_instance)
