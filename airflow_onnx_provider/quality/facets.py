# SPDX-License-Identifier: Apache-2.0
"""A run's verdicts as OpenLineage facets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset

NAMESPACE = "file"
"""OpenLineage's name for paths; see its naming rules for datasets."""

COLUMNS = {
    "unique_keys": "key",
    "unknown_labels": "label",
    "label_drift": "label",
    "accuracy": "label",
    "recall": "label",
    "mean_confidence": "score",
    "confidence_drift": "score",
}
"""Checks that are about one column of the predictions."""


def judged_dataset(layout: OutputLayout, manifest: RunManifest, record: CheckRecord) -> InputDataset:
    """The partition that was judged, with its verdicts.

    Both data-quality facets are facets of an input: the check reads the dataset. It is called by the path that readers
    know, and the facet ``version`` says which run's rows were judged, as they may never be published.
    """
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        data_quality_metrics_input_dataset,
        dataset_version_dataset,
    )

    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion=one.name,
            success=one.passed,
            column=COLUMNS.get(one.name),
            severity=one.severity,
            name=one.name,
            description=str(one),
            expected=one.expected,
            actual=one.actual,
            params={"value": one.value, "limit": one.limit, "grey": one.grey},
        )
        for one in record.results
    ]
    metrics = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
        rowCount=manifest.predicted,
        fileCount=sum(file.startswith("predictions/") and file.endswith(".parquet") for file in manifest.files),
        lastUpdated=manifest.finished or None,
        columnMetrics={
            "label": data_quality_metrics_input_dataset.ColumnMetrics(distinctCount=len(manifest.labels)),
            "score": data_quality_metrics_input_dataset.ColumnMetrics(count=sum(manifest.score_histogram)),
        },
    )
    return InputDataset(
        namespace=NAMESPACE,
        name=str(layout.published(manifest.partition)),
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=manifest.run)},
        inputFacets={
            "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
                assertions=assertions
            ),
            "dataQualityMetrics": metrics,
        },
    )


def record_dataset(layout: OutputLayout, record: CheckRecord) -> OutputDataset:
    """The record of the verdicts, which the check writes."""
    from openlineage.client.event_v2 import OutputDataset

    return OutputDataset(namespace=NAMESPACE, name=str(layout.checks(record.run)))
