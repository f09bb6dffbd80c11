# SPDX-License-Identifier: Apache-2.0
"""What really lies in a run's folders, counted from the Parquet files' footers."""

from __future__ import annotations

from pathlib import Path

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run, require_base


def count_rows(layout: OutputLayout, partition: str, run: str) -> tuple[int, int]:
    """Rows of a run's predictions and quarantine, staged or already published.

    :raises PublishConflictError: if the run was removed because another was published that it was not based on
    :raises PublishError: if the run is in neither place
    """
    staged = layout.staging(run)
    if published_run(layout, partition) == run:
        # A publish that died in between has left the quarantine in staging, and maybe the old rows beside it.
        quarantine = staged / "quarantine"
        return rows_in(layout.published(partition)), rows_in(
            quarantine if quarantine.is_dir() else layout.quarantine(partition)
        )
    if not (staged / "predictions").is_dir():
        require_base(layout, partition, run)
        raise PublishError(
            f"the rows of run {run} are neither staged nor published below {layout.root}; run inference again"
        )
    return rows_in(staged / "predictions"), rows_in(staged / "quarantine")


def rows_in(folder: Path) -> int:
    """Rows of the Parquet files in a folder, as their footers say."""
    import pyarrow.parquet as pq  # here, because the operators need this module while DAG files are parsed

    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))
