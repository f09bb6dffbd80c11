# SPDX-License-Identifier: Apache-2.0
"""Days as the Spark job leaves them: real Parquet in staging, and a run manifest with figures counted on the rows."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest
from tests.spark.staging import a_manifest

CLASSES = ("bag", "hat", "shirt", "shoe")
Row = tuple[str | None, str | None, float | None]
"""Key, label, score."""


def ordinary_rows(count: int = 400, score: float = 0.93) -> list[Row]:
    """As many of each class, with scores around ``score``."""
    return [
        (f"p-{number:04d}.jpg", CLASSES[number % len(CLASSES)], score + 0.06 * math.sin(number))
        for number in range(count)
    ]


@dataclass(frozen=True)
class Day:
    """One day's rows.

    :param rows: predicted ones
    :param broken: quarantined keys with their reasons
    :param lost: rows at the end that never reached the files
    :param told: fields of the manifest that are not counted on the rows
    """

    rows: Sequence[Row] = field(default_factory=ordinary_rows)
    broken: Sequence[tuple[str, str]] = (("x-1.jpg", "empty_file"), ("x-2.jpg", "not_an_image"))
    lost: int = 0
    told: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Day:
        return replace(self, **changes)

    def stage(self, layout: OutputLayout, partition: str, run: str | None = None) -> RunManifest:
        """Leave the day in staging, in two files of predictions and one of quarantine."""
        run = run or f"run-{partition}"
        staging = layout.staging(run)
        there = list(self.rows)[: len(self.rows) - self.lost]
        for number, part in enumerate((there[::2], there[1::2])):
            columns = zip(*part, strict=True) if part else ((), (), ())
            write(staging / "predictions" / f"part-{number}.parquet", *columns)
        keys, reasons = zip(*self.broken, strict=True) if self.broken else ((), ())
        quarantine = {"key": pa.array(keys, pa.string()), "reason": pa.array(reasons, pa.string())}
        (staging / "quarantine").mkdir(parents=True)
        pq.write_table(pa.table(quarantine), staging / "quarantine" / "part-0.parquet")
        manifest = self._manifest(layout, partition, run)
        manifest.write(layout.run_manifest(run))
        return manifest

    def publish(self, layout: OutputLayout, partition: str, run: str | None = None) -> RunManifest:
        manifest = self.stage(layout, partition, run)
        publish(layout, partition, manifest.run)
        return manifest

    def _manifest(self, layout: OutputLayout, partition: str, run: str) -> RunManifest:
        usable = [row for row in self.rows if None not in row and not math.isnan(row[2] or 0)]
        scores = np.array([min(score or 0, 1) for _, _, score in usable])
        counted = {
            "partition": partition,
            "model": {"model": "/models/shop/0123", "digest": "0123", "labels": list(CLASSES)},
            "rows_in": len(self.rows) + len(self.broken),
            "predicted": len(self.rows),
            "quarantined": dict(Counter(reason for _, reason in self.broken)),
            "labels": dict(Counter(label for _, label, _ in usable)),
            "score_histogram": tuple(int(rows) for rows in np.histogram(scores, SCORE_BINS, (0, 1))[0]),
            "mean_score": float(scores.mean()) if usable else None,
            "null_rows": len(self.rows) - len(usable),
            "source": {"newest": f"{partition}T06:00:00+00:00"},
            "started": f"{partition}T07:50:00+00:00",
            "finished": f"{partition}T08:00:00+00:00",
        }
        return a_manifest(run, layout, **{**counted, **self.told})


def write(file: Path, keys: Sequence[Any], labels: Sequence[Any], scores: Sequence[Any]) -> None:
    """A Parquet file of predictions; keys may be numbers."""
    columns = {
        "key": pa.array(keys),
        "label": pa.array(labels, pa.string()),
        "score": pa.array(scores, pa.float32()),
    }
    if all(key is None for key in keys):  # nothing else tells the type
        columns["key"] = pa.array(keys, pa.string())
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


def write_labels(path: Path, rows: Sequence[Row], wrong: Sequence[int] = ()) -> Path:
    """A ``labels.csv`` that agrees with the rows, but for those at the places in ``wrong``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("file", "label"))
        for place, (key, label, _) in enumerate(rows):
            other = CLASSES[(CLASSES.index(str(label)) + 1) % len(CLASSES)]
            lines.writerow((key, other if place in wrong else label))
    return path
