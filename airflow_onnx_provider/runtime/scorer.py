# SPDX-License-Identifier: Apache-2.0
"""The scorer: Arrow batches of rows in, Arrow batches of outcomes out, exactly one outcome a row."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import TypeVar

import numpy as np
import pyarrow as pa

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.batching import Batch, Fault
from airflow_onnx_provider.runtime.copies import Copies
from airflow_onnx_provider.runtime.feed import InputColumns, feed
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.outcomes import Outcomes
from airflow_onnx_provider.runtime.overlap import ahead
from airflow_onnx_provider.runtime.session import LoadedModel

Item = TypeVar("Item")


def score_rows(
    batches: Iterable[pa.RecordBatch],
    model: LoadedModel,
    *,
    columns: InputColumns,
    kept: Sequence[pa.Field],
    answers: Answers,
    metrics: TaskMetrics,
    copies: Copies | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read, decode and score the rows of one task.

    Rows leave in the order in which they came. A row that cannot be read, decoded or scored leaves as ``quarantined``
    with its reason; only a fault of the model itself ends the task.

    :param columns: which columns feed which input, see :func:`~airflow_onnx_provider.runtime.feed.input_columns`
    :param kept: columns that leave with the row, such as its key
    :param answers: which columns a scored row gets
    :param metrics: counters to add to; whole once the last batch was given
    :param copies: makes copies of the inputs of quarantined rows; None: nothing is told of inputs
    :return: batches of :func:`~airflow_onnx_provider.runtime.outcomes.outcome_schema`, one for each that came
    """
    started = time.perf_counter()
    outcomes = Outcomes(kept, answers, copies)
    events = feed(batches, model.manifest, columns, model.profile, metrics)
    with closing(ahead(events) if model.profile.decode_threads else events) as coming:
        for event in _timed(coming, metrics):
            match event:
                case Batch():
                    _score(event, model, outcomes, answers, metrics)
                case Fault():
                    outcomes.quarantine(event.row, event.error, event.data)
                case _:
                    outcomes.arrive(event)
            yield from outcomes.finished()
    if not model.profile.decode_threads:  # the wait was for this thread's own work; files are read by several
        metrics.wait_seconds = max(0.0, metrics.wait_seconds - metrics.read_seconds - metrics.decode_seconds)
    metrics.wall_seconds += time.perf_counter() - started
    metrics.peak_memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _timed(events: Iterator[Item], metrics: TaskMetrics) -> Iterator[Item]:
    while True:
        before = time.perf_counter()
        event = next(events, None)
        metrics.wait_seconds += time.perf_counter() - before
        if event is None:
            return
        yield event


def _score(batch: Batch, model: LoadedModel, outcomes: Outcomes, answers: Answers, metrics: TaskMetrics) -> None:
    before = time.perf_counter()
    try:
        outputs = model.answer(batch.feeds, answers.outputs)
    except Exception:  # ONNX Runtime's exceptions have no common public class
        _score_one_by_one(batch, model, outcomes, answers, metrics)
        return
    metrics.record_batch(len(batch.rows), time.perf_counter() - before)
    outcomes.predict(batch.rows, outputs)


def _score_one_by_one(
    batch: Batch, model: LoadedModel, outcomes: Outcomes, answers: Answers, metrics: TaskMetrics
) -> None:
    """Find the rows that the model cannot take, such as an id that an embedding does not have."""
    for place, row in enumerate(batch.rows):
        before = time.perf_counter()
        feeds = {name: values[place : place + 1] for name, values in batch.feeds.items()}
        try:
            outputs = model.answer(feeds, answers.outputs)
        except Exception as error:
            model.prove()  # if not even the golden rows pass any more, it is no fault of the row
            outcomes.quarantine(int(row), RowError("inference", "model_error", f"{type(error).__name__}: {error}"))
        else:
            metrics.record_batch(1, time.perf_counter() - before)
            outcomes.predict(np.array([row]), outputs)
