"""The scorer: addresses of pictures in, exactly one outcome a row out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.batching import BatchBuffer
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.session import LoadedModel

PREDICTED = "predicted"
QUARANTINED = "quarantined"
METRICS = "metrics"

OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("outcome", pa.string(), nullable=False),
        ("key", pa.string()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("runtime_version", pa.string()),
        ("execution_provider", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("address", pa.string()),
        ("metrics", pa.string()),
    ]
)
"""One row per input row (``predicted`` or ``quarantined``) and one ``metrics`` row per task.

Metrics travel as rows of the same committed output, so that a retried or speculative task cannot count twice.
"""

ROWS_PER_OUTPUT_BATCH = 1000
MAX_ERROR_LENGTH = 500


def score_pictures(
    batches: Iterable[pa.RecordBatch], model: LoadedModel, batch_size: int, metrics: TaskMetrics
) -> Iterator[pa.RecordBatch]:
    """Read, decode and score pictures.

    Rows leave in no particular order. A row that cannot be read or decoded leaves as ``quarantined`` with its reason;
    only a fault of the model itself ends the task.

    :param batches: with the columns ``key`` and ``address`` (a path on this machine), both strings
    :param model: a loaded classifier, ``uint8 [rows, height, width, 3]`` to ``float32 [rows, classes]``
    :param batch_size: rows a ``session.run`` gets
    :param metrics: counters to add to; their row is the last one given
    :return: batches of :data:`OUTCOME_SCHEMA`
    """
    preprocessing = model.preprocessing
    started = time.perf_counter()
    buffer = BatchBuffer(batch_size, preprocessing.shape, np.uint8)
    outcomes: list[dict[str, Any]] = []
    for batch in batches:
        for key, address in zip(batch.column("key").to_pylist(), batch.column("address").to_pylist(), strict=True):
            try:
                data = _timed_read(address, metrics)
                before = time.perf_counter()
                try:
                    buffer.add(key, decode_image(data, preprocessing))
                finally:
                    metrics.decode_seconds += time.perf_counter() - before
            except RowError as error:
                outcomes.append(_quarantined(key, address, error))
            if buffer.full:
                outcomes.extend(_score(buffer, model, metrics))
            if len(outcomes) >= ROWS_PER_OUTPUT_BATCH:
                yield pa.RecordBatch.from_pylist(outcomes, schema=OUTCOME_SCHEMA)
                outcomes = []
    if buffer.rows:
        outcomes.extend(_score(buffer, model, metrics))
    metrics.wall_seconds += time.perf_counter() - started
    outcomes.append({"outcome": METRICS, "metrics": json.dumps(metrics.to_dict())})
    yield pa.RecordBatch.from_pylist(outcomes, schema=OUTCOME_SCHEMA)


def read_picture(address: str) -> bytes:
    """The file's bytes.

    :raises RowError: ``unreadable`` with the operating system's words
    """
    path = Path(address)
    try:
        if not path.is_file() and path.exists():  # who opens a pipe waits for its writer, perhaps for ever
            raise RowError("read", "unreadable", f"{address} is no regular file")
        return path.read_bytes()
    except OSError as error:
        raise RowError("read", "unreadable", str(error)) from error


def _timed_read(address: str, metrics: TaskMetrics) -> bytes:
    before = time.perf_counter()
    try:
        return read_picture(address)
    finally:
        metrics.read_seconds += time.perf_counter() - before


def _score(buffer: BatchBuffer, model: LoadedModel, metrics: TaskMetrics) -> list[dict[str, Any]]:
    before = time.perf_counter()
    answers = model.run(buffer.tensor)
    metrics.record_batch(buffer.rows, time.perf_counter() - before)
    keys = buffer.take_keys()
    labels, scores = top_label(answers[: len(keys)], model.manifest.labels)
    provenance = {"runtime_version": model.runtime_version, "execution_provider": model.provider}
    return [
        {"outcome": PREDICTED, "key": key, "label": label, "score": score, **provenance}
        for key, label, score in zip(keys, labels, scores, strict=True)
    ]


def top_label(answers: NDArray[np.float32], labels: tuple[str, ...]) -> tuple[list[str], list[float]]:
    """The best class of each row and its score.

    :param answers: ``[rows, classes]``
    :param labels: class names in output order; without them a class is called by its number
    """
    best = answers.argmax(axis=1)
    scores = answers[np.arange(len(answers)), best]
    return [labels[index] if labels else str(index) for index in best], scores.tolist()


def _quarantined(key: str, address: str, error: RowError) -> dict[str, Any]:
    return {
        "outcome": QUARANTINED,
        "key": key,
        "stage": error.stage,
        "reason": error.reason,
        "error": str(error)[:MAX_ERROR_LENGTH],
        "address": address,
    }
