# SPDX-License-Identifier: Apache-2.0
"""The books of one task: every row that came in leaves once, in its order, as predicted or quarantined."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.copies import INPUT_FIELDS, Copies

PREDICTED = "predicted"
QUARANTINED = "quarantined"

FAULT_FIELDS = [pa.field("stage", pa.string()), pa.field("reason", pa.string()), pa.field("error", pa.string())]

MAX_ERROR_LENGTH = 500


def outcome_schema(kept: Sequence[pa.Field], answers: Answers, inputs: Sequence[pa.Field] = ()) -> pa.Schema:
    """Columns of a scored row: what was kept of the input, ``outcome``, the answers, a fault's stage, reason, error.

    :param inputs: further columns, which tell of a quarantined row's input
    :raises BadInputError: if two of them would have one name
    """
    fields = [*kept, pa.field("outcome", pa.string(), nullable=False), *answers.fields, *FAULT_FIELDS, *inputs]
    if twice := sorted(name for name, count in Counter(each.name for each in fields).items() if count > 1):
        raise BadInputError(f"a scored row would have two columns {', '.join(twice)}; rename the key or the raw output")
    return pa.schema(fields)


@dataclass
class _Arrived:
    """An Arrow batch whose rows are on their way."""

    first: int
    kept: list[pa.Array]
    size: int
    open: int
    answers: dict[str, NDArray[Any]] = field(default_factory=dict)
    faults: dict[int, RowError] = field(default_factory=dict)
    inputs: dict[int, tuple[int, bytes | None]] = field(default_factory=dict)


class Outcomes:
    """Collects answers and faults by row number, and gives an Arrow batch back when each of its rows has an outcome.

    :param kept: columns of the input that leave with the row
    :param answers: which columns a scored row gets
    :param copies: makes copies of the inputs of quarantined rows; None: batches have no columns for them
    """

    def __init__(self, kept: Sequence[pa.Field], answers: Answers, copies: Copies | None = None) -> None:
        self._kept = [each.name for each in kept]
        self._answers = answers
        self._copies = copies
        self._input_fields = [] if copies is None else INPUT_FIELDS
        self._schema = outcome_schema(kept, answers, self._input_fields)
        self._arrived: deque[_Arrived] = deque()
        self._next_row = 0

    def arrive(self, batch: pa.RecordBatch) -> None:
        """Enter an Arrow batch; its rows have the next numbers."""
        columns = [batch.column(name) for name in self._kept]
        self._arrived.append(_Arrived(self._next_row, columns, batch.num_rows, batch.num_rows))
        self._next_row += batch.num_rows

    def predict(self, rows: NDArray[np.int64], outputs: Sequence[NDArray[Any]]) -> None:
        """Enter one model batch.

        :param rows: row numbers
        :param outputs: the tensors of :attr:`Answers.outputs`; what is longer than ``rows`` is padding
        """
        reduced = self._answers.reduced(outputs, len(rows))
        for arrived in self._arrived:
            last = arrived.first + arrived.size
            mine = (rows >= arrived.first) & (rows < last)
            count = int(np.count_nonzero(mine))
            if count:
                places = rows[mine] - arrived.first
                for name, values in reduced.items():
                    if name not in arrived.answers:
                        arrived.answers[name] = _blank(values, arrived.size)
                    arrived.answers[name][places] = values[mine]
                arrived.open -= count

    def quarantine(self, row: int, error: RowError, data: bytes | memoryview | None = None) -> None:
        """Enter a row that cannot be scored.

        :param data: its encoded input, if that was read
        """
        arrived = next(arrived for arrived in self._arrived if row < arrived.first + arrived.size)
        arrived.faults[row - arrived.first] = error
        if self._copies is not None and data is not None:
            arrived.inputs[row - arrived.first] = len(data), self._copies.of(data)
        arrived.open -= 1

    def finished(self) -> Iterator[pa.RecordBatch]:
        """The Arrow batches at the head whose rows all have an outcome, in the order in which they came."""
        while self._arrived and not self._arrived[0].open:
            arrived = self._arrived.popleft()
            if arrived.size:
                yield self._batch(arrived)

    def _batch(self, arrived: _Arrived) -> pa.RecordBatch:
        size, faults = arrived.size, arrived.faults
        if not faults:
            answers = self._answers.columns(arrived.answers, None)
            outcome = pa.repeat(PREDICTED, size)
        else:
            missing = np.zeros(size, np.bool_)
            missing[list(faults)] = True
            answers = (
                self._answers.columns(arrived.answers, missing)
                if arrived.answers
                else [pa.nulls(size, each.type) for each in self._answers.fields]
            )
            outcome = pa.array(np.where(missing, QUARANTINED, PREDICTED), pa.string())
        told = {row: (one.stage, one.reason, str(one)[:MAX_ERROR_LENGTH]) for row, one in faults.items()}
        notes = _columns(told, FAULT_FIELDS, size)
        inputs = _columns(arrived.inputs, self._input_fields, size)
        return pa.RecordBatch.from_arrays([*arrived.kept, outcome, *answers, *notes, *inputs], schema=self._schema)


def _blank(values: NDArray[Any], size: int) -> NDArray[Any]:
    shape = (size, *values.shape[1:])
    return np.full(shape, "", object) if values.dtype == object else np.zeros(shape, values.dtype)


def _columns(told: Mapping[int, tuple[Any, ...]], fields: Sequence[pa.Field], size: int) -> list[pa.Array]:
    """One column for each field; rows of which nothing was told have nulls."""
    if not told:
        return [pa.nulls(size, each.type) for each in fields]
    columns: list[list[Any]] = [[None] * size for _ in fields]
    for row, values in told.items():
        for column, value in zip(columns, values, strict=True):
            column[row] = value
    return [pa.array(column, each.type) for column, each in zip(columns, fields, strict=True)]
