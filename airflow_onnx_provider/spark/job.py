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

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError, from_traceback
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.manifest import ModelManifest, require_scorable
from airflow_onnx_provider.runtime.metrics import TaskMetrics, combine, latency_percentiles
from airflow_onnx_provider.runtime.outcomes import PREDICTED, QUARANTINED, outcome_schema
from airflow_onnx_provider.runtime.raw_speed import measure_in_child
from airflow_onnx_provider.runtime.scorer import score_rows
from airflow_onnx_provider.runtime.session import load_model
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest, write_failure
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings
from airflow_onnx_provider.spark.sources import Listing, list_partition

log = logging.getLogger("airflow_onnx_provider")

METRICS = "metrics"
"""Outcome of the one row that each task adds to tell what it measured of itself.

Metrics travel as rows of the same committed output, so that a retried or speculative task cannot count twice.
"""

KEPT = [pa.field("key", pa.string()), pa.field("address", pa.string())]
TASK_FIELDS = [
    pa.field("runtime_version", pa.string()),
    pa.field("execution_provider", pa.string()),
    pa.field("metrics", pa.string()),
]

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
    spent = {name: manifest.seconds[name] for name in ("read", "decode", "inference", "wait")}
    log.info(
        "seconds over all tasks: %s; latency of a batch in ms: %s; most memory of a worker: %.0f MiB",
        ", ".join(f"{name} {value:.2f}" for name, value in spent.items()),
        ", ".join(f"{name.upper()} {value:.2f}" for name, value in manifest.latency_ms.items()) or "no batch",
        manifest.peak_memory_mb,
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
        answers = Answers.of(model, settings.top_k, settings.raw)
        if answers.scores is None:
            raise BadInputError(f"model {model.name}: its raw outputs leave no label; convert it with labels")
        staging = layout.staging(settings.run)
        shutil.rmtree(staging, ignore_errors=True)  # what an earlier driver of this very run left
        log.info("%d files, %.1f MB in %s", len(listing.keys), listing.bytes / 1e6, listing.folder)
        _prove_model(spark, settings)
        raw = _measure_raw_speed(spark, settings, listing)
        log.info("raw ONNX Runtime speed here: %.1f images/s over %d slots", raw, settings.slots)
        before = time.perf_counter()
        with _progress(spark, settings.partitions):
            _write_outcomes(spark, settings, listing, answers, staging / "outcomes")
        scoring_seconds = time.perf_counter() - before
        outcomes = spark.read.schema(_spark_schema(_job_schema(answers))).parquet(str(staging / "outcomes"))
        total = combine(TaskMetrics.from_dict(json.loads(row.metrics)) for row in _of(outcomes, METRICS).collect())
        predictions = _stage_predictions(outcomes, settings, answers, staging / "predictions")
        quarantine = _stage_quarantine(outcomes, staging / "quarantine")
        shutil.rmtree(staging / "outcomes")
        rate = len(listing.keys) / scoring_seconds
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
                "wait": round(total.wait_seconds, 3),
                "scoring": round(scoring_seconds, 3),
                "job": round(time.perf_counter() - started, 3),
            },
            images_per_second=round(rate, 1),
            raw_images_per_second=round(raw, 1),
            raw_share=round(rate / raw, 4),
            golden_difference=total.golden_difference,
            peak_memory_mb=round(total.peak_memory_mb, 1),
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
    digest, profile = settings.model["digest"], settings.execution

    def prove(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(_model_folder(), digest, profile)
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
    digest, profile = settings.model["digest"], settings.execution

    def measure(mine: Iterable[list[str]]) -> Iterator[float]:
        for addresses in mine:
            yield measure_in_child(addresses, _model_folder(), digest, profile)

    # An RDD of as many elements as slots has one in each partition; a repartitioned frame may put two into one.
    return float(spark.sparkContext.parallelize(shares, slots).mapPartitions(measure).sum())


def _write_outcomes(spark: Any, settings: JobSettings, listing: Listing, answers: Answers, target: Path) -> None:
    """The one pass over the pictures. Only keys and addresses are shuffled, never a picture's bytes."""
    digest, profile, schema = settings.model["digest"], settings.execution, _job_schema(answers)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        before = time.perf_counter()
        model = load_model(_model_folder(), digest, profile)
        metrics = TaskMetrics(load_seconds=time.perf_counter() - before, golden_difference=model.golden_difference)
        columns = {model.input_name: ("address",)}
        for batch in score_rows(batches, model, columns=columns, kept=KEPT, answers=answers, metrics=metrics):
            runtime = [pa.repeat(model.runtime_version, batch.num_rows), pa.repeat(model.provider, batch.num_rows)]
            arrays = [*batch.columns, *runtime, pa.nulls(batch.num_rows, pa.string())]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        row = {"outcome": METRICS, "metrics": json.dumps(metrics.to_dict())}
        yield pa.RecordBatch.from_pylist([row], schema=schema)

    rows = spark.createDataFrame(listing.table()).repartition(settings.partitions)
    rows.mapInArrow(score, _spark_schema(schema)).write.parquet(str(target))


def _job_schema(answers: Answers) -> pa.Schema:
    return pa.schema([*outcome_schema(KEPT, answers), *TASK_FIELDS])


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


def _stage_predictions(outcomes: Any, settings: JobSettings, answers: Answers, target: Path) -> Any:
    """Rewrite the small scored rows as the columns and the few files that readers shall see; give what was written."""
    from pyspark.sql.functions import lit

    columns = ["key", *(each.name for each in answers.fields), lit(settings.model["digest"]).alias("model_digest")]
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
