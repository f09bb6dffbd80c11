# SPDX-License-Identifier: Apache-2.0
"""Ordinary days through the checks: how large the measures of drift get when nothing is wrong.

    python -m benchmarks.ordinary_days --days 30 --pictures 1200

Draws the demo's days, each with a seed of its own, scores them with the demo's own quantised model in plain processes,
publishes each, and judges it against the one before with the settings of the reference DAG. Prints each day's values,
the largest of them, and the alarms. Needs the model that ``make demo`` leaves in ``.demo/``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.model.store.address import Address
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.quality.checks.settings import LABEL_METRICS, SCORE_METRICS
from airflow_onnx_provider.quality.drift import chance, drift
from airflow_onnx_provider.quality.judge import judge
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.metrics import latency_percentiles
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.task import METRICS, ScoringTask, metrics_of
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest
from demo.catalog import LABELS, day_folder, draw_day
from demo.environment import HOME
from demo.parallel import spread

FIRST = date(2026, 1, 1)
REFERENCE = {"quarantine_rate": {"max": 0.05}, "mean_confidence": {"min": 0.6}, "label_drift": {"max": 0.2}}
"""The limits of the reference DAG; every other check runs with its default."""

ACCURACY = {"accuracy": {"min": 0.8}}


@dataclass(frozen=True)
class Shop:
    """What all days have in common.

    :param root: for catalogue and predictions
    :param model: the version's folder
    :param pictures: files a day
    :param broken: of which broken
    """

    root: Path
    model: Path
    pictures: int
    broken: int

    @property
    def layout(self) -> OutputLayout:
        return OutputLayout(self.root / "predictions")


def stage_day(shop: Shop, number: int) -> RunManifest:
    """Draw a day, score it as a Spark task would, and leave it in staging; the pictures are removed again."""
    day = FIRST + timedelta(days=number)
    catalog = shop.root / "catalog"
    draw_day(catalog, day, pictures=shop.pictures, broken=shop.broken, seed=1000 + number, workers=1)
    folder, partition = day_folder(catalog, day), day.isoformat()
    files = sorted(path for path in folder.iterdir() if path.name[0] != "_")
    labels = shop.root / "labels" / f"{partition}.csv"
    labels.parent.mkdir(exist_ok=True)
    shutil.copyfile(folder / LABELS, labels)
    manifest = _score(shop, partition, files)
    shutil.rmtree(folder)
    return manifest


def _score(shop: Shop, partition: str, files: Sequence[Path]) -> RunManifest:
    model = ModelManifest.read(shop.model)
    task = ScoringTask(str(shop.model), model.digest, ExecutionProfile())
    started = time.perf_counter()
    batch = pa.RecordBatch.from_pydict({"key": [one.name for one in files], "address": [str(one) for one in files]})
    rows = pa.Table.from_batches(list(task([batch])))
    seconds = time.perf_counter() - started
    predicted = rows.filter(pc.equal(rows["outcome"], "predicted")).select(["key", "label", "score"])
    quarantined = rows.filter(pc.equal(rows["outcome"], "quarantined")).select(["key", "stage", "reason", "error"])
    _, metrics = metrics_of(next(one for one in rows[METRICS].to_pylist() if one))
    scores = predicted["score"].to_numpy()
    run = f"{partition}-ordinary"
    staging = shop.layout.staging(run)
    for name, table in (("predictions", predicted), ("quarantine", quarantined)):
        (staging / name).mkdir(parents=True)
        pq.write_table(table, staging / name / "part-0.parquet")
    now = datetime.now(UTC).isoformat()
    manifest = RunManifest(
        run=run,
        partition=partition,
        output_path=str(shop.layout.root),
        model={"model": str(shop.model), "digest": model.digest, "labels": list(model.labels)},
        plan={},
        rows_in=len(files),
        predicted=predicted.num_rows,
        quarantined=dict(Counter(quarantined["reason"].to_pylist())),
        labels=dict(Counter(predicted["label"].to_pylist())),
        score_histogram=tuple(int(rows) for rows in np.histogram(scores, SCORE_BINS, (0, 1))[0]),
        mean_score=float(scores.mean()),
        null_rows=0,
        latency_ms=latency_percentiles(metrics.latency),
        seconds={"scoring": round(seconds, 3)},
        images_per_second=round(len(files) / seconds, 1),
        raw_images_per_second=0.0,
        raw_share=0.0,
        golden_difference=metrics.golden_difference,
        peak_memory_mb=metrics.peak_memory_mb,
        runtimes=(),
        provenance={},
        started=now,
        finished=now,
    )
    manifest.write(shop.layout.run_manifest(run))
    return manifest


def measure(shop: Shop, manifest: RunManifest, before: RunManifest | None) -> dict[str, Any]:
    """Judge a staged day and publish it; give its values."""
    record = judge(shop.layout, manifest, REFERENCE | ACCURACY, labels=str(shop.root / "labels" / "{partition}.csv"))
    publish(shop.layout, manifest.partition, manifest.run)
    values: dict[str, Any] = {"day": manifest.partition}
    if before:
        labels = sorted({*manifest.labels, *before.labels})
        mixes = [[one.labels.get(label, 0) for label in labels] for one in (manifest, before)]
        values |= {f"label {metric}": drift(metric, *mixes) for metric in LABEL_METRICS}
        values["label psi by chance"] = chance("psi", *mixes)
        scores = (manifest.score_histogram, before.score_histogram)
        values |= {f"score {metric}": drift(metric, *scores) for metric in SCORE_METRICS}
        values["score psi by chance"] = chance("psi", *scores)
    values |= {name: record.value(name) for name in ("quarantine_rate", "mean_confidence", "accuracy")}
    return {**values, "grey": [one.name for one in record.grey], "alarms": [one.name for one in record.failed]}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ordinary_days", description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--pictures", type=int, default=1200, help="files a day (%(default)s)")
    parser.add_argument("--broken", type=int, default=12, help="of which broken (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw and score (%(default)s)")
    parser.add_argument("--model", default=f"{HOME / 'models'}/catalog_classifier@production", help="%(default)s")
    parser.add_argument("--out", type=Path, help="keep predictions and values.json here; else they are removed")
    options = parser.parse_args(argv)
    try:
        model = Path(ModelStore(Path(Address.parse(options.model).root)).resolve(options.model))
    except OnnxProviderError as error:
        parser.exit(1, f"{error}\nRun `make demo` first, or give --model.\n")
    with tempfile.TemporaryDirectory(prefix="ordinary-days-") as scratch:
        root = options.out or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        shop = Shop(root, model, options.pictures, options.broken)
        values, before = [], None
        for manifest in spread(partial(stage_day, shop), range(options.days), options.workers):
            values.append(measure(shop, manifest, before))
            before = RunManifest.read(shop.layout.published(manifest.partition) / RUN_FILE)
            print(_line(values[-1]), flush=True)
        (root / "values.json").write_text(json.dumps(values, indent=1) + "\n")
    names = [name for name in values[-1] if isinstance(values[-1][name], float)]
    print("\nlargest and smallest")
    for name in names:
        found = [one[name] for one in values if one.get(name) is not None]
        print(f"  {name:<28} {max(found):8.4f} {min(found):8.4f}")
    alarms = [f"{one['day']}: {', '.join(one['alarms'])}" for one in values if one["alarms"]]
    print(f"\n{len(alarms)} of {len(values)} days with an alarm" + "".join(f"\n  {one}" for one in alarms))
    return 1 if alarms else 0


def _line(values: dict[str, Any]) -> str:
    numbers = (f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))
    return "; ".join([values["day"], *numbers, *(f"ALARM {one}" for one in values["alarms"])])


if __name__ == "__main__":
    sys.exit(main())
