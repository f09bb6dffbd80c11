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
    staged, published = layout.staging(run), published_run(layout, partition) == run
    # A publish that died in between has moved the one and not the other.
    predictions = staged / "predictions" if (staged / "predictions").is_dir() else layout.published(partition)
    quarantine = staged / "quarantine" if (staged / "quarantine").is_dir() else layout.quarantine(partition)
    if not published and predictions.parent != staged:
        raise PublishError(
            f"the rows of run {run} are neither staged nor published below {layout.root}; run inference again"
        )
    return _rows(predictions), _rows(quarantine)


def _rows(folder: Path) -> int:
    import pyarrow.parquet as pq  # here, because the operators need this module while DAG files are parsed

    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
