# SPDX-License-Identifier: Apache-2.0
"""Runs to report on: facts with measured-looking numbers, and whole output folders with real rows and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from airflow_onnx_provider.quality.reports.facts import Before, RunFacts
from airflow_onnx_provider.quality.verdict import Accuracy, CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from tests.conftest import COLOURS
from tests.spark.staging import a_manifest

NEW: dict[str, Any] = {
    "tasks": {
        "count": 8,
        "rows": {"median": 150, "largest": 160},
        "bytes": {"median": 10_000_000, "largest": 11_000_000},
        "seconds": {"median": 20.0, "largest": 22.0},
    },
    "scoring": {"provider": "CPUExecutionProvider", "decoder": "full", "top_k": 0, "raw": []},
    "source": {"folder": "/data/ds=2026-01-02", "key": None, "input": None, "root": None, "newest": "2026-01-02T03"},
    "latency_buckets": ((0.0021, 80), (0.0025, 40), (0.0063, 5)),
    "slowest": ({"task": 3, "rows": 150, "bytes": 9_000_000, "seconds": 22.0},),
    "started": "2026-01-02T04:00:00+00:00",
    "finished": "2026-01-02T04:02:00+00:00",
}
"""The fields that the first manifests did not have."""

FIGURES: dict[str, Any] = {
    "partition": "2026-01-02",
    "model": {"model": "/models/colours/0123", "name": "colours", "version": "0123", "digest": "0123", "labels": []},
    "plan": {
        "decisions": [
            {"name": "task_cpus", "value": 1, "reason": "one core a task"},
            {"name": "slots", "value": 4, "reason": "4 free cores"},
            {"name": "executor_cores", "value": 2, "reason": "of the worker"},
            {"name": "executor_memory_overhead_mb", "value": 1000, "reason": "2 tasks"},
        ],
        "estimate_seconds": None,
    },
    "rows_in": 1200,
    "predicted": 1188,
    "quarantined": {"not_an_image": 9, "empty_file": 3},
    "labels": {"red": 600, "blue": 400, "green": 188},
    "score_histogram": (0,) * 8 + (30, 10, 20, 20, 30, 50, 60, 80, 90, 100, 198, 500),
    "mean_score": 0.91,
    "latency_ms": {"p50": 2.0, "p90": 2.5, "p99": 6.3},
    "seconds": {"read": 2.0, "decode": 61.0, "inference": 37.0, "wait": 50.0, "scoring": 80.0, "job": 100.0},
    "images_per_second": 15.0,
    "raw_images_per_second": 16.0,
    "raw_share": 0.9,
    "peak_memory_mb": 250.0,
}
BEFORE = Before(
    rule="the previous published partition",
    partitions=("2026-01-01",),
    labels={"red": 500, "blue": 400, "green": 100},
    score_histogram=(0,) * 8 + (10,) * 12,
    digests=frozenset({"0123"}),
)
ACCURACY = Accuracy(
    rows=100,
    missing=2,
    correct=90,
    low=0.826,
    high=0.945,
    recall={"red": (50, 50), "blue": (35, 40), "green": (5, 10)},
    confusion=(
        ("red", "red", 50),
        ("blue", "blue", 35),
        ("green", "green", 5),
        ("blue", "red", 5),
        ("green", "blue", 4),
        ("green", "red", 1),
    ),
)


def a_result(name: str = "row_books", **fields: Any) -> CheckResult:
    return CheckResult(
        **{"name": name, "severity": "error", "passed": True, "expected": "at most 5 %", "actual": "1 %", **fields}
    )


def a_record(*results: CheckResult, accuracy: Accuracy | None = ACCURACY) -> CheckRecord:
    return CheckRecord(
        run="one",
        partition="2026-01-02",
        judged="2026-01-02T05:00:00+00:00",
        baseline="the previous published partition",
        baseline_partitions=("2026-01-01",),
        results=results or (a_result(), a_result("label_drift")),
        accuracy=accuracy,
    )


def a_run(**fields: Any) -> RunManifest:
    """A day of 1,200 rows with every figure."""
    given = {"run": "one", **FIGURES, **NEW, **fields}
    return a_manifest(given.pop("run"), OutputLayout(Path("/data/out")), **given)


def some_facts(
    record: CheckRecord | None = None, before: Before = BEFORE, place: Any = "staged", **fields: Any
) -> RunFacts:
    """What is known of a run; without a record it is one that passed its checks."""
    return RunFacts(a_run(**fields), record or a_record(), before, place)


def unjudged(facts: RunFacts) -> RunFacts:
    return replace(facts, record=None)


def a_published_day(tmp_path: Path, partition: str = "2026-01-01", **fields: Any) -> OutputLayout:
    """An output folder with one earlier day, of which only the figures are there."""
    layout = OutputLayout(tmp_path / "out")
    manifest = a_manifest(f"run-{partition}", layout, partition=partition, **fields)
    manifest.write(layout.published(partition) / RUN_FILE)
    return layout


def stage_rows(
    layout: OutputLayout, run: str, rows: list[tuple[Any, str, float]], refused: list[dict[str, Any]], **fields: Any
) -> RunManifest:
    """Leave a run in staging: key, label and score of the predicted rows, columns of those in quarantine."""
    staging = layout.staging(run)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(("key", "label", "score"))}
    for folder, table in (("predictions", pa.table(columns)), ("quarantine", pa.Table.from_pylist(refused))):
        (staging / folder).mkdir(parents=True)
        pq.write_table(table, staging / folder / "part-0.parquet")
    labels: dict[str, int] = {}
    for _, label, _ in rows:
        labels[label] = labels.get(label, 0) + 1
    reasons: dict[str, int] = {}
    for one in refused:
        reasons[one["reason"]] = reasons.get(one["reason"], 0) + 1
    manifest = a_manifest(
        run,
        layout,
        **{
            "rows_in": len(rows) + len(refused),
            "predicted": len(rows),
            "quarantined": reasons,
            "labels": labels,
            **fields,
        },
    )
    manifest.write(layout.run_manifest(run))
    return manifest


def draw(folder: Path, names: list[str]) -> None:
    """Plain pictures of 64 × 48 pixels, their colours in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (64, 48), list(COLOURS.values())[number % 4]).save(folder / name)
