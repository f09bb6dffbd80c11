# SPDX-License-Identifier: Apache-2.0
"""How fast a run was, and where its time and memory went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.pages.table import Table
from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.reports.measures import Memory, TimeSpent, number
from airflow_onnx_provider.quality.reports.plots import Plot, latency_plot, time_plot

SHOWN_TASKS = 10


@dataclass(frozen=True)
class SpeedView:
    """Time, latency, tasks, memory."""

    time: Plot | None
    latency: Plot | None
    figures: Table
    tasks: Table | None


def speed_of(facts: RunFacts) -> SpeedView:
    """Time, latency, tasks and memory of a run."""
    manifest, spent = facts.manifest, TimeSpent.of(facts.manifest)
    percentiles = [
        (name.upper(), value)
        for name in ("p50", "p90", "p99")
        if (value := number(manifest.latency_ms.get(name))) is not None and value > 0
    ]
    rows: list[tuple[str, ...]] = [
        ("Images a second", words.rate(manifest.images_per_second)),
        (
            "Raw ONNX Runtime speed, all slots together",
            words.rate(manifest.raw_images_per_second or None),
        ),
        ("Share of raw speed", words.percent(manifest.raw_share if manifest.raw_images_per_second else None)),
        *((f"Latency of a batch, {name}", words.seconds(value / 1000)) for name, value in percentiles),
        *((f"{title}, all tasks", words.seconds(value)) for title, value in (
            ("Reading", spent.read), ("Decoding", spent.decode), ("Inference", spent.inference),
            ("Waiting for a full batch", spent.wait)) if value is not None),
        ("Scoring on the clock", words.seconds(spent.scoring)),
        ("Job on the clock", words.seconds(spent.job)),
        ("Most memory of a Python worker", f"{manifest.peak_memory_mb:,.0f} MiB"),
    ]  # fmt: skip
    if used := Memory.of(manifest):
        rows.append(
            (f"Of {words.count(used.workers, 'such worker')}, beside the heap",
             f"{words.percent(used.needed / used.given)} of {used.given:,.0f} MiB")
        )  # fmt: skip
    buckets = [(bound, count) for bound, count in manifest.latency_buckets if count and number(bound)]
    return SpeedView(
        time_plot(spent) if spent.work else None,
        latency_plot(buckets, percentiles) if buckets else None,
        Table("Speed and memory", ("What", "Value"), tuple(rows), numbers=(1,)),
        _tasks(facts),
    )


def _tasks(facts: RunFacts) -> Table | None:
    manifest = facts.manifest
    if not manifest.slowest:
        return None
    rows = tuple(
        (
            words.clean(one.get("task", "?")),
            words.seconds(number(one.get("seconds"))),
            words.count(number(one.get("rows")) or 0),
            words.size(number(one.get("bytes"))),
            words.rate((number(one.get("rows")) or 0) / seconds if (seconds := number(one.get("seconds"))) else None),
        )
        for one in manifest.slowest[:SHOWN_TASKS]
    )
    count = number(manifest.tasks.get("count"))
    of = f" of {words.count(count)}" if count else ""
    spread: Any = manifest.tasks.get("seconds")
    middle = number(spread.get("median")) if isinstance(spread, dict) else None
    beside = f"; the median took {words.seconds(middle)}" if middle else ""
    return Table(
        f"Slowest Spark tasks: {len(rows)}{of}{beside}",
        ("Task", "Time", "Rows", "Input", "Rows a second"),
        rows,
        numbers=(1, 2, 3, 4),
    )
