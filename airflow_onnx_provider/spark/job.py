"""The driver's main: list, score in one pass, stage, count what was staged, sign it with a run manifest."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.exceptions import OnnxProviderError, from_traceback
from airflow_onnx_provider.runtime.manifest import ModelManifest, require_scorable
from airflow_onnx_provider.runtime.metrics import TaskMetrics, combine, latency_percentiles
from airflow_onnx_provider.runtime.raw_speed import measure_in_child
from airflow_onnx_provider.runtime.scorer import (
    METRICS,
    OUTCOME_SCHEMA,
    PREDICTED,
    QUARANTINED,
    score_pictures,
)
from airflow_onnx_provider.runtime.session import load_model
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest, write_failure
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings
from airflow_onnx_provider.spark.sources import Listing, list_partition

log = logging.getLogger("airflow_onnx_provider")

RAW_SAMPLE_ROWS = 1024
"""Pictures per slot that the raw speed is measured on."""

PROGRESS_SECONDS = 10.0


def main() -> None:
    """Run one job; its settings are the only argument. On failure the reason is left in the run manifest's place."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("py4j").setLevel(logging.WARNING)
    settings = JobSettings(**json.loads(sys.argv[1]))
    layout = OutputLayout(Path(settings.output_path))
    try:
        manifest = run(settings, layout)
    except Exception as error:
        known = error if isinstance(error, OnnxProviderError) else from_traceback(str(error)) or error
        log.error("%s: %s", type(known).__name__, known)
        write_failure(layout.run_manifest(settings.run), known)
        shutil.rmtree(layout.staging(settings.run), ignore_errors=True)
        if isinstance(known, OnnxProviderError):
            sys.exit(1)  # its words say everything; a traceback would bury them
        raise
    log.info(
        "%d rows in, %d predicted, %d quarantined; %.1f images/s, %.0f %% of the raw ONNX Runtime speed",
        manifest.rows_in,
        manifest.predicted,
        manifest.quarantined_rows,
        manifest.images_per_second,
        100 * manifest.raw_share,
    )
    manifest.write(layout.run_manifest(settings.run))


def run(settings: JobSettings, layout: OutputLayout) -> RunManifest:
    """Score one partition into the run's staging folder.

    :return: the manifest, not yet written
    :raises BadInputError: if the day is missing or empty, or the model cannot score pictures
    """
    from pyspark.sql import SparkSession

    started = time.perf_counter()
    listing = list_partition(Path(settings.input_path), settings.partition)
    spark = SparkSession.builder.getOrCreate()
    try:
        model = ModelManifest.read(_model_folder())
        require_scorable(model)
        staging = layout.staging(settings.run)
        shutil.rmtree(staging, ignore_errors=True)  # what an earlier driver of this very run left
        log.info("%d files, %.1f MB in %s", len(listing.keys), listing.bytes / 1e6, listing.folder)
        _prove_model(spark, settings)
        raw = _measure_raw_speed(spark, settings, listing)
        log.info("raw ONNX Runtime speed here: %.1f images/s over %d slots", raw, settings.slots)
        before = time.perf_counter()
        with _progress(spark, settings.partitions):
            _write_outcomes(spark, settings, listing, staging / "outcomes")
        scoring_seconds = time.perf_counter() - before
        outcomes = spark.read.schema(_spark_schema(OUTCOME_SCHEMA)).parquet(str(staging / "outcomes"))
        total = combine(TaskMetrics.from_dict(json.loads(row.metrics)) for row in _of(outcomes, METRICS).collect())
        predictions = _stage_predictions(outcomes, settings, staging / "predictions")
        quarantine = _stage_quarantine(outcomes, staging / "quarantine")
        shutil.rmtree(staging / "outcomes")
        rate = len(listing.keys) / scoring_seconds
        busy = total.read_seconds + total.decode_seconds + total.inference_seconds
        return RunManifest(
            run=settings.run,
            partition=settings.partition,
            output_path=settings.output_path,
            model={**settings.model, "labels": list(model.labels)},
            plan=settings.plan,
            rows_in=len(listing.keys),
            latency_ms=latency_percentiles(total.latency),
            seconds={
                "load": round(total.load_seconds, 3),
                "read": round(total.read_seconds, 3),
                "decode": round(total.decode_seconds, 3),
                "inference": round(total.inference_seconds, 3),
                "wait": round(max(0.0, total.wall_seconds - busy), 3),
                "scoring": round(scoring_seconds, 3),
                "job": round(time.perf_counter() - started, 3),
            },
            images_per_second=round(rate, 1),
            raw_images_per_second=round(raw, 1),
            raw_share=round(rate / raw, 4),
            golden_difference=total.golden_difference,
            provenance={
                "python": sys.version.split()[0],
                "spark": spark.version,
                "application": spark.sparkContext.applicationId,
                "master": spark.sparkContext.master,
            },
            files=tuple(str(path.relative_to(staging)) for path in sorted(staging.rglob("*.parquet"))),
            **_count(predictions, quarantine),
        )
    finally:
        spark.stop()


def _prove_model(spark: Any, settings: JobSettings) -> None:
    """Let a worker in each slot load the model and prove it by its golden rows, before any picture is read.

    The workers stay alive and keep the model, so no picture waits for it.

    :raises GoldenMismatchError: from a worker
    """
    digest, threads = settings.model["digest"], settings.threads

    def prove(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(_model_folder(), digest, threads)
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"golden_difference": [model.golden_difference] * batch.num_rows})

    slots = spark.range(0, settings.slots, 1, settings.slots)
    proofs = slots.mapInArrow(prove, "golden_difference double").collect()
    log.info("the model is proved in %d workers, golden rows differ by at most %.2g", len(proofs), max(proofs)[0])


def _measure_raw_speed(spark: Any, settings: JobSettings, listing: Listing) -> float:
    """Pictures a second of plain processes, one per slot, all at once, on an even sample of the day's files.

    Each is a child of a Spark task, so it runs on the machines and beside the neighbours of the real work.
    """
    slots = settings.slots
    step = max(1, len(listing.keys) // (RAW_SAMPLE_ROWS * slots))
    sample = [str(listing.folder / key) for key in listing.keys[::step]]
    shares = [sample[slot::slots] for slot in range(slots)]
    digest, threads, batch_size = settings.model["digest"], settings.threads, settings.batch_size

    def measure(mine: Iterable[list[str]]) -> Iterator[float]:
        for addresses in mine:
            yield measure_in_child(addresses, _model_folder(), digest, threads, batch_size)

    # An RDD of as many elements as slots has one in each partition; a repartitioned frame may put two into one.
    return float(spark.sparkContext.parallelize(shares, slots).mapPartitions(measure).sum())


def _write_outcomes(spark: Any, settings: JobSettings, listing: Listing, target: Path) -> None:
    """The one pass over the pictures. Only keys and addresses are shuffled, never a picture's bytes."""
    digest, threads, batch_size = settings.model["digest"], settings.threads, settings.batch_size

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        before = time.perf_counter()
        model = load_model(_model_folder(), digest, threads)
        metrics = TaskMetrics(load_seconds=time.perf_counter() - before, golden_difference=model.golden_difference)
        yield from score_pictures(batches, model, batch_size, metrics)

    rows = spark.createDataFrame(listing.table()).repartition(settings.partitions)
    rows.mapInArrow(score, _spark_schema(OUTCOME_SCHEMA)).write.parquet(str(target))


@contextmanager
def _progress(spark: Any, tasks: int) -> Iterator[None]:
    """Say every few seconds how many of the scoring tasks are done."""
    done = threading.Event()
    tracker = spark.sparkContext.statusTracker()
    started = time.perf_counter()

    def report() -> None:
        while not done.wait(PROGRESS_SECONDS):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            finished = max(
                (stage.numCompletedTasks for stage in stages if stage and stage.numTasks == tasks), default=0
            )
            log.info("scoring: %d of %d tasks done after %.0f s", finished, tasks, time.perf_counter() - started)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        done.set()
        reporter.join()


def _model_folder() -> Path:
    """Where ``--archives`` unpacked the model version, on whichever machine asks."""
    from pyspark import SparkFiles

    return Path(SparkFiles.get(MODEL_ARCHIVE))


def _spark_schema(schema: pa.Schema) -> Any:
    from pyspark.sql.pandas.types import from_arrow_schema

    return from_arrow_schema(schema)


def _of(outcomes: Any, outcome: str) -> Any:
    return outcomes.where(outcomes.outcome == outcome)


def _stage_predictions(outcomes: Any, settings: JobSettings, target: Path) -> Any:
    """Rewrite the small scored rows as the columns and the few files that readers shall see; give what was written."""
    from pyspark.sql.functions import lit

    columns = ["key", "label", "score", lit(settings.model["digest"]).alias("model_digest")]
    provenance = ["runtime_version", "execution_provider"]
    return _written(_of(outcomes, PREDICTED).select(*columns, *provenance).coalesce(settings.slots), target)


def _stage_quarantine(outcomes: Any, target: Path) -> Any:
    columns = ["key", "stage", "reason", "error", "address"]
    return _written(_of(outcomes, QUARANTINED).select(*columns).coalesce(1), target)


def _written(frame: Any, target: Path) -> Any:
    """Write a frame and give it as read back from its files."""
    frame.write.parquet(str(target))
    return frame.sparkSession.read.schema(frame.schema).parquet(str(target))


def _count(predictions: Any, quarantine: Any) -> dict[str, Any]:
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
        "quarantined": {row.reason: row["count"] for row in sorted(reasons)},
        "labels": dict(sorted(labels.items())),
        "score_histogram": tuple(histogram),
        "mean_score": mean,
        "null_rows": sum(cell.rows for cell in cells if cell.unusable),
        "runtimes": sorted({f"onnxruntime {cell.runtime_version}, {cell.execution_provider}" for cell in cells}),
    }
