"""What really lies in a run's folders, counted from the Parquet files' footers."""

from __future__ import annotations

from pathlib import Path

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run


def count_rows(layout: OutputLayout, partition: str, run: str) -> tuple[int, int]:
    """Rows of a run's predictions and quarantine, staged or already published.

    :raises PublishError: if the run is in neither place
    """
    if layout.staging(run).is_dir():
        return _rows(layout.staging(run) / "predictions"), _rows(layout.staging(run) / "quarantine")
    if published_run(layout, partition) == run:
        return _rows(layout.published(partition)), _rows(layout.quarantine(partition))
    raise PublishError(
        f"the rows of run {run} are neither staged nor published below {layout.root}; run inference again"
    )


def _rows(folder: Path) -> int:
    import pyarrow.parquet as pq  # here, because the operators need this module while DAG files are parsed

    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
