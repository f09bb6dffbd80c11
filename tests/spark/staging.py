# SPDX-License-Identifier: Apache-2.0
"""Runs as the Spark job leaves them, with real Parquet files, and a way to look at what lies where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import base_run, publish
from airflow_onnx_provider.spark.run_manifest import RunManifest


def a_manifest(run: str, layout: OutputLayout, **fields: Any) -> RunManifest:
    """A finished run's manifest with two predicted rows and one in quarantine."""
    given: dict[str, Any] = {
        "run": run,
        "partition": "2026-01-01",
        "output_path": str(layout.root),
        "model": {"model": "/models/colours/0123", "digest": "0123", "labels": ["red", "blue"]},
        "plan": {"decisions": [], "estimate_seconds": None},
        "rows_in": 3,
        "predicted": 2,
        "quarantined": {"not_an_image": 1},
        "labels": {"red": 2},
        "score_histogram": (0,) * 19 + (2,),
        "mean_score": 0.97,
        "null_rows": 0,
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0},
        "seconds": {"read": 0.1},
        "images_per_second": 30.0,
        "raw_images_per_second": 40.0,
        "raw_share": 0.75,
        "golden_difference": 0.0,
        "peak_memory_mb": 120.0,
        "runtimes": ("onnxruntime 1.31.1, CPUExecutionProvider",),
        "provenance": {"spark": "4.2.0"},
        "files": ("predictions/part-0.parquet", "quarantine/part-0.parquet"),
    }
    return RunManifest(**{**given, **fields})


def stage(layout: OutputLayout, run: str, partition: str = "2026-01-01") -> None:
    """Leave ``run`` in staging as the job does: two predictions, one row in quarantine, a manifest."""
    staging = layout.staging(run)
    for folder, keys in (("predictions", ["a.png", "b.png"]), ("quarantine", ["c.txt"])):
        (staging / folder).mkdir(parents=True)
        pq.write_table(pa.table({"key": keys, "run": [run] * len(keys)}), staging / folder / "part-0.parquet")
        (staging / folder / "_SUCCESS").touch()
    manifest = a_manifest(run, layout, partition=partition, replaces=base_run(layout, partition))
    manifest.write(layout.run_manifest(run))


def stage_and_publish(layout: OutputLayout, *runs: str, partition: str = "2026-01-01") -> None:
    """Publish these runs one after the other."""
    for run in runs:
        stage(layout, run, partition)
        publish(layout, partition, run)


def run_in(folder: Path) -> str | None:
    """The run whose rows lie in ``folder``; None if it has no rows. Mixed rows fail the test."""
    runs = {run for file in folder.glob("*.parquet") for run in pq.read_table(file)["run"].to_pylist()}
    assert len(runs) <= 1, f"{folder} mixes the rows of {runs}"
    return next(iter(runs), None)


def tree(root: Path) -> dict[str, bytes]:
    """Every file below ``root`` with its bytes; the locks of publishing are no content."""
    files = (file for file in sorted(root.rglob("*")) if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(root)): file.read_bytes() for file in files}
