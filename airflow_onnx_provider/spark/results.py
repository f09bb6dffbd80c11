# SPDX-License-Identifier: Apache-2.0
"""From outcomes to what readers shall see, with the books counted on the files that were written."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.copies import COPY, SIZE
from airflow_onnx_provider.runtime.fetch import CARRIED
from airflow_onnx_provider.runtime.known import CONTENT
from airflow_onnx_provider.runtime.metrics import TaskMetrics, combine
from airflow_onnx_provider.runtime.outcomes import PREDICTED, QUARANTINED
from airflow_onnx_provider.runtime.task import METRICS, metrics_of
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.shares import Share

SLOWEST = 20
"""Of so many tasks the manifest tells what each of them did."""

SPARKS_ROW_GROUP_BYTES = 128 << 20
ROW_GROUP_BYTES = 32 << 20
"""Of the quarantine: its writer holds a row group in the JVM's heap, and copies of inputs could fill one of Spark's."""


def gather_metrics(
    outcomes: Any, shares: Sequence[Share]
) -> tuple[TaskMetrics, dict[str, Any], tuple[dict[str, Any], ...]]:
    """What all tasks measured together, how even they were, and the slowest of them."""
    told = [metrics_of(row.metrics) for row in outcomes.where(outcomes.outcome == METRICS).select(METRICS).collect()]
    seconds: defaultdict[int, float] = defaultdict(float)
    for number, metrics in told:
        seconds[number] += metrics.wall_seconds
    even = {
        "count": len(shares),
        "rows": _middle_and_most([share.rows for share in shares]),
        "bytes": _middle_and_most([share.bytes for share in shares]),
        "seconds": _middle_and_most([round(value, 3) for value in seconds.values()]),
    }
    slowest = sorted(seconds, key=lambda number: -seconds[number])[:SLOWEST]
    return (
        combine(metrics for _, metrics in told),
        even,
        tuple(
            {
                "task": number,
                "rows": shares[number].rows,
                "bytes": shares[number].bytes,
                "seconds": round(seconds[number], 3),
            }
            for number in slowest
        ),
    )


def _middle_and_most(values: Iterable[float]) -> dict[str, float]:
    found = list(values)
    return {"median": statistics.median(found), "largest": max(found)}


def prediction_columns(answers: Answers, *, contents: bool) -> list[str]:
    """Names of the columns that readers shall see.

    :param answers: which columns a scored row gets
    :param contents: whether each row's content is kept, by which a later day finds it again
    """
    provenance = ["model_digest", "runtime_version", "execution_provider"]
    return ["key", *(each.name for each in answers.fields), *provenance, *([CONTENT] if contents else [])]


def stage_predictions(outcomes: Any, settings: JobSettings, answers: Answers, target: Path) -> Any:
    """Rewrite the small scored rows as the columns and the few files that readers shall see.

    :param target: folder; files that lie there already are rows of the run too
    :return: all that lies there now
    """
    from pyspark.sql.functions import lit

    predicted = outcomes.where(outcomes.outcome.isin(PREDICTED, CARRIED))
    columns = prediction_columns(answers, contents=CONTENT in outcomes.columns)
    shown = predicted.withColumn("model_digest", lit(settings.model["digest"])).select(*columns)
    return _written(shown.coalesce(settings.slots), target)


def stage_quarantine(outcomes: Any, target: Path) -> Any:
    """Rewrite the rows that could not be scored; give what was written."""
    columns = ["key", "stage", "reason", "error", "address", SIZE, COPY]
    quarantined = outcomes.where(outcomes.outcome == QUARANTINED).select(*columns)
    return _written(quarantined.coalesce(1), target, ROW_GROUP_BYTES)


def _written(frame: Any, target: Path, row_group_bytes: int = SPARKS_ROW_GROUP_BYTES) -> Any:
    """Write a frame and give what lies in the folder then, as read back from the files."""
    frame.write.mode("append").option("parquet.block.size", row_group_bytes).parquet(str(target))
    return frame.sparkSession.read.schema(frame.schema).parquet(str(target))


def count(outcomes: Any, predictions: Any, quarantine: Any) -> dict[str, Any]:
    """The books, counted on the staged files themselves."""
    from pyspark.sql import functions as f

    unusable = f.col("key").isNull() | f.col("label").isNull() | f.col("score").isNull() | f.isnan("score")
    last_bin = f.lit(SCORE_BINS - 1)
    cells = (
        predictions.withColumn("unusable", unusable)
        .withColumn("bin", f.least(f.greatest(f.floor(f.col("score") * SCORE_BINS), f.lit(0)), last_bin))
        .groupBy("label", "bin", "unusable", "runtime_version", "execution_provider")
        .agg(f.count("*").alias("rows"), f.sum("score").alias("score"))
        .collect()
    )
    reasons = quarantine.groupBy("reason").count().collect()
    labels: Counter[str] = Counter()
    histogram = [0] * SCORE_BINS
    for cell in cells:
        if not cell.unusable:
            labels[cell.label] += cell.rows
            histogram[cell.bin] += cell.rows
    usable = sum(histogram)
    mean = sum(cell.score for cell in cells if not cell.unusable) / usable if usable else None
    return {
        "predicted": sum(cell.rows for cell in cells),
        "carried": outcomes.where(outcomes.outcome == CARRIED).count() if CONTENT in outcomes.columns else 0,
        "quarantined": {row.reason: row["count"] for row in sorted(reasons)},
        "labels": dict(sorted(labels.items())),
        "score_histogram": tuple(histogram),
        "mean_score": mean,
        "null_rows": sum(cell.rows for cell in cells if cell.unusable),
        "runtimes": sorted({f"onnxruntime {cell.runtime_version}, {cell.execution_provider}" for cell in cells}),
    }
