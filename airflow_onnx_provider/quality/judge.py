# SPDX-License-Identifier: Apache-2.0
"""Checks as data: gather what there is to know of one run, hold it to the settings, give the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_onnx_provider.exceptions import ChecksFailedError
from airflow_onnx_provider.quality import baseline
from airflow_onnx_provider.quality.checks import accuracy, drifts, run
from airflow_onnx_provider.quality.checks.contents import read_contents
from airflow_onnx_provider.quality.checks.finding import Figures, Finding
from airflow_onnx_provider.quality.checks.settings import Options, read_settings
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest

_CHECKS: Mapping[str, Callable[[Figures, Options], Finding]] = {
    "row_books": run.row_books,
    "unique_keys": run.unique_keys,
    "quarantine_rate": run.quarantine_rate,
    "nulls": run.nulls,
    "unknown_labels": run.unknown_labels,
    "mean_confidence": run.mean_confidence,
    "label_drift": drifts.label_drift,
    "confidence_drift": drifts.confidence_drift,
    "accuracy": accuracy.accuracy,
    "recall": accuracy.recall,
    "freshness": run.freshness,
    "throughput": run.throughput,
    "latency": run.latency,
}


def judge(
    layout: OutputLayout,
    manifest: RunManifest,
    checks: Mapping[str, Mapping[str, Any] | None] | None = None,
    baseline_rule: str = baseline.PREVIOUS,
    labels: str | None = None,
) -> CheckRecord:
    """Run all checks of a run, staged or published. Nothing is written.

    :param checks: check name to settings, see :data:`~airflow_onnx_provider.quality.checks.settings.CHECKS`
    :param baseline_rule: see :func:`~airflow_onnx_provider.quality.baseline.choose`
    :param labels: path of a labels table, see :meth:`~airflow_onnx_provider.quality.checks.labels.LabelsTable.find`;
        None or empty: there is none; ``{partition}`` in it: there may be none for this one
    :raises BadInputError: for a setting or a rule that means nothing, or a labels table that cannot be used
    :raises PublishError: if the run is neither staged nor published
    :raises SparkJobError: if a file of the run cannot be read
    """
    settings = read_settings(checks)
    compared = baseline.choose(layout, manifest.partition, baseline_rule)
    contents = read_contents(layout, manifest.partition, manifest.run, labels)
    return CheckRecord(
        run=manifest.run,
        partition=manifest.partition,
        judged=datetime.now(UTC).isoformat(timespec="seconds"),
        baseline=str(compared),
        baseline_partitions=compared.partitions,
        results=run_checks(Figures(manifest, contents, compared), settings),
        accuracy=contents.accuracy,
    )


def run_checks(figures: Figures, settings: Mapping[str, Options]) -> tuple[CheckResult, ...]:
    """Judge one run. Without labels the accuracy is a check only where it has a limit that could not be held.

    :param settings: what :func:`~airflow_onnx_provider.quality.checks.settings.read_settings` gave
    :return: one result a check, in the order of the settings
    :raises BadInputError: for a limit of a class that the model does not have
    """
    return tuple(
        _CHECKS[name](figures, options).result(name, options)
        for name, options in settings.items()
        if name != "accuracy" or figures.contents.accuracy or options.limit is not None
    )


def require_passed(results: Sequence[CheckResult], what: str) -> None:
    """Raise if any check of severity ``error`` failed.

    :param what: the run, as the message calls it
    :raises ChecksFailedError: listing every failed check with expected and actual
    """
    failed = [result for result in results if not result.passed]
    if any(result.severity == "error" for result in failed):
        lines = "\n".join(f"  - {result}" for result in failed)
        raise ChecksFailedError(
            f"{len(failed)} of {len(results)} checks failed for {what}, nothing was published:\n{lines}"
        )
