# SPDX-License-Identifier: Apache-2.0
"""What the driver has the workers do: prove the model, measure the raw speed, score."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from airflow_onnx_provider.runtime.copies import within_limits
from airflow_onnx_provider.runtime.guard import survive
from airflow_onnx_provider.runtime.parquet import read_pieces
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.raw_speed import Sample, measure_in_child
from airflow_onnx_provider.runtime.session import load_model
from airflow_onnx_provider.runtime.task import ScoringTask
from airflow_onnx_provider.spark.settings import MODEL_ARCHIVE, JobSettings
from airflow_onnx_provider.spark.shares import Share

log = logging.getLogger("airflow_onnx_provider")


def model_folder(settings: JobSettings) -> Path:
    """Where the model version lies on whichever machine asks: on a shared path, or where ``--archives`` unpacked it."""
    if settings.model_folder is not None:
        return Path(settings.model_folder)
    from pyspark import SparkFiles

    return Path(SparkFiles.get(MODEL_ARCHIVE))


def driver_model_folder(settings: JobSettings) -> Path:
    """The model version as the driver sees it; what is shipped lies there too, or at least its manifest.

    On YARN the driver has no ``SparkFiles`` of the archives: they, or the manifest, lie beside the application.
    """
    shipped = model_folder(settings)
    return shipped if shipped.is_dir() else Path(sys.argv[0]).resolve().parent / MODEL_ARCHIVE


def prove_model(spark: Any, settings: JobSettings) -> None:
    """Let a worker in each slot load the model and prove it by its golden rows, before any picture is read.

    The workers stay alive and keep the model, so no picture waits for it.

    :raises GoldenMismatchError: from a worker
    """

    def prove(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = load_model(model_folder(settings), settings.model["digest"], _profile_here(settings))
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"golden_difference": [model.golden_difference] * batch.num_rows})

    slots = spark.range(0, settings.slots, 1, settings.slots)
    proofs = slots.mapInArrow(prove, "golden_difference double").collect()
    log.info("the model is proved in %d workers, golden rows differ by at most %.2g", len(proofs), max(proofs)[0])


def measure_raw_speed(spark: Any, settings: JobSettings, samples: Sequence[Sample]) -> float:
    """Pictures a second of plain processes, one per slot, all at once, each on its sample of the day.

    Each is a child of a Spark task, so it runs on the machines and beside the neighbours of the real work.
    """

    def measure(mine: Iterable[Sample]) -> Iterator[float]:
        for sample in mine:
            yield measure_in_child(sample, model_folder(settings), settings.model["digest"], _profile_here(settings))

    # An RDD of as many elements as slots has one in each partition; a repartitioned frame may put two into one.
    return float(spark.sparkContext.parallelize(samples, len(samples)).mapPartitions(measure).sum())


def score_shares(
    spark: Any, settings: JobSettings, task: ScoringTask, shares: Sequence[Share], columns: Mapping[str, str]
) -> Any:
    """Score a day: one Spark task a share, which reads its rows itself, so that none goes through the JVM.

    The first attempt of a Spark task scores in the worker. If that process dies, by a picture that crashes a decoder
    for example, Spark tries the task again, and that attempt scores in a child process, which may die as well.

    :param task: what each share's rows go through
    :param columns: the columns of the shares' pieces: name in the task to name in the files
    :return: a frame of ``task.schema``
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    pieces = spark.sparkContext.broadcast([share.pieces for share in shares])
    row_address = "" if "address" in columns else _free_name("address", columns.values())

    def score(numbers: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        retried = context is not None and context.attemptNumber() > 0
        for number in (number for batch in numbers for number in batch.column(0).to_pylist()):
            here = replace(task, folder=str(model_folder(settings)), profile=_profile_here(settings), number=number)
            found = read_pieces(pieces.value[number], list(columns.values()), row_address=row_address)
            rows = (_renamed(batch, {"address": row_address, **columns}) for batch in found)
            yield from within_limits(survive(here, rows)) if retried else here(rows)

    numbers = spark.range(0, len(shares), 1, len(shares))
    return numbers.mapInArrow(score, from_arrow_schema(task.schema))


def _renamed(batch: pa.RecordBatch, columns: Mapping[str, str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: batch.column(column) for name, column in columns.items()})


def _free_name(name: str, taken: Iterable[str]) -> str:
    """A name for a further column beside those that the user's files have."""
    used = set(taken)
    while name in used:
        name = f"_{name}"
    return name


def _profile_here(settings: JobSettings) -> ExecutionProfile:
    """The profile on the GPU that Spark gave to this task, if it gave one."""
    from pyspark import TaskContext

    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context is not None else None
    return settings.execution.on_device(gpus.addresses[0]) if gpus else settings.execution
