# SPDX-License-Identifier: Apache-2.0
"""The driver's main: list, score in one pass, stage, count what was staged, sign it with a run manifest."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError, SparkJobError, from_traceback
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.manifest import ModelManifest, require_scorable
from airflow_onnx_provider.runtime.metrics import latency_bounds, latency_percentiles
from airflow_onnx_provider.runtime.task import ScoringTask
from airflow_onnx_provider.spark.carried import gather, scoring_of
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.preflight import preflight
from airflow_onnx_provider.spark.publish import base_run
from airflow_onnx_provider.spark.quarantine_log import write_log
from airflow_onnx_provider.spark.replay import Base
from airflow_onnx_provider.spark.results import (
    count,
    gather_metrics,
    prediction_columns,
    stage_predictions,
    stage_quarantine,
)
from airflow_onnx_provider.spark.run_manifest import RunManifest, write_failure
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.shares import Share
from airflow_onnx_provider.spark.sources import Listing
from airflow_onnx_provider.spark.workers import driver_model_folder, measure_raw_speed, prove_model, score_shares

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
        manifest.write(layout.run_manifest(settings.run))
    except Exception as error:
        known = error if isinstance(error, OnnxProviderError) else _in_our_words(str(error)) or error
        log.error("%s: %s", type(known).__name__, known)
        shutil.rmtree(layout.staging(settings.run), ignore_errors=True)  # first, as the disk may be full of it
        with suppress(OSError):  # the log has it
            write_failure(layout.run_manifest(settings.run), settings.partition, known)
        if isinstance(known, OnnxProviderError):
            sys.exit(1)  # its words say everything; a traceback would bury them
        raise
    log.info(
        "%d rows in, %d predicted%s, %d quarantined; %.1f images/s%s",
        manifest.rows_in,
        manifest.predicted,
        f" ({manifest.carried} of them carried over)" if manifest.carried else "",
        manifest.quarantined_rows,
        manifest.images_per_second,
        f", {manifest.raw_share:.0%} of the raw ONNX Runtime speed" if manifest.raw_images_per_second else "",
    )
    spent = {name: manifest.seconds[name] for name in ("read", "decode", "inference", "wait")}
    log.info(
        "seconds over all tasks: %s; latency of a batch in ms: %s; most memory of a worker: %.0f MiB",
        ", ".join(f"{name} {value:.2f}" for name, value in spent.items()),
        ", ".join(f"{name.upper()} {value:.2f}" for name, value in manifest.latency_ms.items()) or "no batch",
        manifest.peak_memory_mb,
    )
    log.info(
        "%d tasks, seconds of the median one %.1f, of the slowest %.1f",
        manifest.tasks["count"],
        manifest.tasks["seconds"]["median"],
        manifest.tasks["seconds"]["largest"],
    )


def run(settings: JobSettings, layout: OutputLayout) -> RunManifest:
    """Score one partition, or the quarantine of a published one, into the run's staging folder.

    :return: the manifest, not yet written
    :raises BadInputError: if the day is missing or empty, an executor lacks something, or the model cannot score
        pictures
    :raises PublishConflictError: if the day whose quarantine is to be scored is not published any more
    """
    from pyspark.sql import SparkSession

    started, started_at = time.perf_counter(), _now()
    replaces = base_run(layout, settings.partition)
    layout.run_manifest(settings.run).unlink(missing_ok=True)  # a run with a manifest counts as ended
    base = Base.unchanged(layout, settings.partition, settings.replays) if settings.replays else None
    source = base.source(settings.where, settings.repaired) if base else settings.where
    listing = source.list_partition(Path(settings.input_path), settings.partition)
    spark = SparkSession.builder.getOrCreate()
    try:
        log.info("Spark application %s at %s", spark.sparkContext.applicationId, spark.sparkContext.uiWebUrl or "-")
        model, answers = _model_and_answers(settings)
        if base:
            base.require_same(settings.model, scoring_of(settings))
            base.require_columns(prediction_columns(answers, contents=settings.incremental))
        staging = layout.staging(settings.run)
        shutil.rmtree(staging, ignore_errors=True)  # what an earlier driver of this very run left
        executors = _prove_executors(spark, settings, layout, listing)
        raw = 0.0 if base else _raw_speed(spark, settings, listing)
        known = staging / "known" if settings.incremental else None
        if known and not base:  # to look so few rows up would cost more than to score them
            gather(spark, layout, settings, answers, known)
        scored = _score(spark, settings, listing, staging, known)
        if base:
            base.take_over(staging / "predictions")
        books = {"rows_in": listing.rows, **_stage(scored, settings, answers, staging)}
        total, tasks, slowest = gather_metrics(scored.outcomes, scored.shares)
        for folder in ("outcomes", "work", "known"):
            shutil.rmtree(staging / folder, ignore_errors=True)
        return RunManifest(
            run=settings.run,
            partition=settings.partition,
            output_path=settings.output_path,
            model={**settings.model, "labels": list(model.labels)},
            plan=settings.plan,
            latency_ms=latency_percentiles(total.latency),
            seconds={
                "load": round(total.load_seconds, 3),
                "read": round(total.read_seconds, 3),
                "decode": round(total.decode_seconds, 3),
                "inference": round(total.inference_seconds, 3),
                "wait": round(total.wait_seconds, 3),
                "scoring": round(scored.seconds, 3),
                "job": round(time.perf_counter() - started, 3),
            },
            images_per_second=round(listing.rows / scored.seconds, 1),
            raw_images_per_second=round(raw, 1),
            raw_share=round((listing.rows - books["carried"]) / scored.seconds / raw, 4) if raw else 0.0,
            golden_difference=total.golden_difference,
            peak_memory_mb=round(total.peak_memory_mb, 1),
            provenance={
                "python": sys.version.split()[0],
                "spark": spark.version,
                "application": spark.sparkContext.applicationId,
                "master": spark.sparkContext.master,
                "executors": [one["host"] for one in executors],
            },
            files=tuple(str(path.relative_to(staging)) for path in sorted(staging.rglob("*.parquet"))),
            tasks=tasks,
            scoring=scoring_of(settings),
            replaces=replaces,
            source={
                "folder": str(listing.folder),
                **settings.source,
                "newest": _iso(base.newest(listing.newest) if base else listing.newest),
            },
            latency_buckets=tuple(latency_bounds(total.latency)),
            slowest=slowest,
            started=started_at,
            finished=_now(),
            replays=settings.replays,
            **(base.whole(books) if base else books),
        )
    finally:
        spark.stop()


def _model_and_answers(settings: JobSettings) -> tuple[ModelManifest, Answers]:
    model = ModelManifest.read(driver_model_folder(settings))
    require_scorable(model)
    answers = Answers.of(model, settings.top_k, settings.raw)
    if answers.scores is None:
        raise BadInputError(f"model {model.name}: its raw outputs leave no label; convert it with labels")
    return model, answers


def _prove_executors(spark: Any, settings: JobSettings, layout: OutputLayout, listing: Listing) -> list[dict[str, Any]]:
    """Look at what they have and see, and prove the model on them."""
    log.info("%d rows in %d files, %.1f MB, in %s", listing.rows, listing.files, listing.bytes / 1e6, listing.folder)
    needed = [*map(str, listing.read_folders), *([settings.model_folder] if settings.model_folder else [])]
    executors = preflight(spark, settings.slots, needed, str(layout.root))
    log.info("executors: %s", "; ".join(f"{one['host']}, {one['python']}" for one in executors))
    prove_model(spark, settings)
    return executors


def _raw_speed(spark: Any, settings: JobSettings, listing: Listing) -> float:
    raw = measure_raw_speed(spark, settings, listing.samples(settings.slots, RAW_SAMPLE_ROWS))
    log.info("raw ONNX Runtime speed here: %.1f images/s over %d slots", raw, settings.slots)
    return raw


@dataclass(frozen=True)
class _Scored:
    """What the scoring pass left.

    :param outcomes: the written frame of rows with their outcomes
    :param shares: what its tasks were given
    :param seconds: that it took, on the clock
    """

    outcomes: Any
    shares: Sequence[Share]
    seconds: float


def _score(spark: Any, settings: JobSettings, listing: Listing, staging: Path, known: Path | None) -> _Scored:
    """The one pass over the rows.

    :param known: folder of answers that are known by content, which need not be there; None: contents do not matter
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    shares = listing.shares(settings.partitions, staging / "work")
    task = ScoringTask(
        folder=str(driver_model_folder(settings)),
        digest=settings.model["digest"],
        profile=settings.execution,
        key_type=listing.key_type,
        from_bytes=listing.from_bytes,
        root=settings.where.root,
        known=None if known is None else str(known),
        top_k=settings.top_k,
        raw=tuple(settings.raw),
        copy_bytes=settings.copy_bytes,
    )
    before = time.perf_counter()
    with _progress(spark, len(shares)):
        score_shares(spark, settings, task, shares, listing.columns).write.parquet(str(staging / "outcomes"))
    seconds = time.perf_counter() - before
    outcomes = spark.read.schema(from_arrow_schema(task.schema)).parquet(str(staging / "outcomes"))
    return _Scored(outcomes, shares, seconds)


def _stage(scored: _Scored, settings: JobSettings, answers: Answers, staging: Path) -> dict[str, Any]:
    """Write what readers shall see, and count it."""
    predictions = stage_predictions(scored.outcomes, settings, answers, staging / "predictions")
    quarantine = stage_quarantine(scored.outcomes, staging / "quarantine")
    books = count(scored.outcomes, predictions, quarantine)
    about = {"at": _now(), "partition": settings.partition, "run": settings.run, "model": settings.model["model"]}
    write_log(staging / "quarantine", about)
    return books


def _now() -> str:
    return _iso(time.time())


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def _in_our_words(said: str) -> OnnxProviderError | None:
    """An error of ours that a worker raised, or one of the system's that a person on call can act on."""
    if "No space left on device" in said:
        return SparkJobError(
            "no space left on the device of the output folder or of Spark's local folders (spark.local.dir). What this "
            "run had staged is removed and the published rows are untouched; free space, then run again"
        )
    return from_traceback(said)


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
