# SPDX-License-Identifier: Apache-2.0
"""The feed: rows of Arrow batches in, model batches out, whatever a row is: picture, tensor, columns or tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.batching import (
    BUFFERS,
    WINDOW_BATCHES,
    Batch,
    Event,
    Fault,
    Rebatcher,
    TokenRows,
    cut_by_tokens,
)
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.pictures import PictureFeed, is_text
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, TokenPreprocessing
from airflow_onnx_provider.runtime.profile import BYTES_PER_BATCH, ROWS_PER_BATCH, ExecutionProfile
from airflow_onnx_provider.runtime.tensors import NUMPY_TYPES, read_tensor, require_feedable

InputColumns = Mapping[str, tuple[str, ...]]
"""Model input to the columns that feed it."""


def input_columns(
    manifest: ModelManifest, given: str | Sequence[str] | Mapping[str, str | Sequence[str]], schema: pa.Schema
) -> InputColumns:
    """Which columns feed which input, checked before anything runs.

    :param given: a column, or several that are the features of one tensor, or such for each of the model's inputs
    :param schema: of the data
    :raises BadInputError: for a column or an input that is missing, and for types that do not fit, naming both
    """
    pre = manifest.preprocessing
    fed = (pre.input_ids,) if isinstance(pre, TokenPreprocessing) else tuple(spec.name for spec in manifest.inputs)
    if not isinstance(given, Mapping):
        if len(fed) != 1:
            raise BadInputError(
                f"model {manifest.name} has the inputs {', '.join(fed)}; say which columns feed each: "
                f"input={{{fed[0]!r}: …}}"
            )
        given = {fed[0]: given}
    columns = {name: (those,) if isinstance(those, str) else tuple(those) for name, those in given.items()}
    if set(columns) != set(fed):
        raise BadInputError(f"model {manifest.name} has the inputs {sorted(fed)}, but columns for {sorted(columns)}")
    if unfed := sorted(name for name, those in columns.items() if not those):
        raise BadInputError(f"there is no column for the input {', '.join(unfed)}")
    if absent := sorted({column for those in columns.values() for column in those} - set(schema.names)):
        raise BadInputError(f"there is no column {', '.join(absent)}; the data has {', '.join(schema.names)}")
    if isinstance(pre, TokenPreprocessing):
        _require_tokens(manifest, pre)
    for spec in manifest.inputs:
        if spec.name in columns:
            _require_fits(manifest, spec, {name: schema.field(name).type for name in columns[spec.name]}, pre)
    return columns


def _require_tokens(manifest: ModelManifest, pre: TokenPreprocessing) -> None:
    made, found = {pre.input_ids, pre.attention_mask} - {None}, {spec.name for spec in manifest.inputs}
    if made != found:
        raise BadInputError(
            f"model {manifest.name} has the inputs {sorted(found)}, but its preprocessing makes "
            f"{sorted(map(str, made))}"
        )


def _require_fits(manifest: ModelManifest, spec: TensorSpec, columns: Mapping[str, pa.DataType], pre: Any) -> None:
    ((name, kind), *more) = columns.items()
    if isinstance(pre, ImagePreprocessing) and not more and (is_text(kind) or _is_bytes(kind)):
        if len(manifest.inputs) > 1 or (spec.type, spec.shape[1:]) != ("uint8", pre.shape):
            found = ", ".join(f"{one.name}: {one.type} {list(one.shape)}" for one in manifest.inputs)
            raise BadInputError(
                f"model {manifest.name}: pictures become one input uint8 [batch, {', '.join(map(str, pre.shape))}], "
                f"but it has {found}"
            )
        return
    if isinstance(pre, TokenPreprocessing):
        if more or not pa.types.is_list(kind) or not pa.types.is_integer(kind.value_type):
            raise BadInputError(f"column {name} is {kind}, but {spec.name} takes token ids: one column array<int>")
        return
    require_feedable(spec, columns)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def feed(
    batches: Iterable[pa.RecordBatch],
    manifest: ModelManifest,
    columns: InputColumns,
    profile: ExecutionProfile,
    metrics: TaskMetrics,
) -> Generator[Event]:
    """Turn rows into model batches. Every row of an Arrow batch ends up in one model batch or as one fault.

    :param columns: as :func:`input_columns` gave them
    :param metrics: ``read_seconds``, ``decode_seconds`` and ``padding`` are added to
    """
    pre = manifest.preprocessing
    if isinstance(pre, TokenPreprocessing):
        yield from _feed_tokens(
            batches,
            pre=pre,
            manifest=manifest,
            column=columns[pre.input_ids][0],
            profile=profile,
            metrics=metrics,
        )
        return
    for first in (iterator := iter(batches)):
        kind = first.schema.field(next(iter(columns.values()))[0]).type
        every = _chain(first, iterator)
        if isinstance(pre, ImagePreprocessing) and (is_text(kind) or _is_bytes(kind)):
            ((name, (column,)),) = columns.items()
            yield from PictureFeed(name, column, pre, profile, metrics).feed(every)
        else:
            yield from _feed_tensors(every, manifest, columns, profile, metrics)


def _chain(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


def _feed_tensors(
    batches: Iterable[pa.RecordBatch],
    manifest: ModelManifest,
    columns: InputColumns,
    profile: ExecutionProfile,
    metrics: TaskMetrics,
) -> Iterator[Event]:
    shapes = {spec.name: tuple(int(axis) for axis in spec.shape[1:]) for spec in manifest.inputs}
    dtypes = {spec.name: NUMPY_TYPES[spec.type] for spec in manifest.inputs}
    row_bytes = sum(math.prod(shape) * dtypes[name].itemsize for name, shape in shapes.items())
    size = profile.batch_size or max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH // max(1, row_bytes)))
    rebatcher = Rebatcher(size, shapes, dtypes, BUFFERS)
    first = 0
    for batch in batches:
        yield batch
        before = time.perf_counter()
        tensors: dict[str, Any] = {}
        faults: dict[int, RowError] = {}
        for spec in manifest.inputs:
            found = {name: batch.column(name) for name in columns[spec.name]}
            tensors[spec.name], wrong = read_tensor(spec, found)
            faults |= wrong
        metrics.decode_seconds += time.perf_counter() - before
        for row, error in faults.items():
            yield Fault(first + row, error)
        if faults:
            for start, stop in _runs_without(sorted(faults), batch.num_rows):
                yield from rebatcher.add({name: t[start:stop] for name, t in tensors.items()}, first + start)
        elif batch.num_rows:
            yield from rebatcher.add(tensors, first)
        first += batch.num_rows
    yield from rebatcher.rest(constant_shape=profile.constant_shape)


def _runs_without(left_out: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
    """Start and end of each run of rows between those that are left out."""
    start = 0
    for row in (*left_out, rows):
        if start < row:
            yield start, row
        start = row + 1


def _feed_tokens(
    batches: Iterable[pa.RecordBatch],
    *,
    pre: TokenPreprocessing,
    manifest: ModelManifest,
    column: str,
    profile: ExecutionProfile,
    metrics: TaskMetrics,
) -> Iterator[Event]:
    dtypes = {spec.name: NUMPY_TYPES[spec.type] for spec in manifest.inputs}
    window: list[TokenRows] = []
    first = held = 0
    for batch in batches:
        yield batch
        rows, faults = _token_rows(batch.column(column), first, pre, column, dtypes[pre.input_ids])
        for row, error in faults.items():
            yield Fault(row, error)
        first += batch.num_rows
        window.append(rows)
        held += int(rows.lengths.sum())
        if held >= WINDOW_BATCHES * profile.token_budget:
            yield from _token_batches(TokenRows.joined(window), pre, dtypes, profile, metrics)
            window, held = [], 0
    if held:
        yield from _token_batches(TokenRows.joined(window), pre, dtypes, profile, metrics)


def _token_batches(
    window: TokenRows,
    pre: TokenPreprocessing,
    dtypes: Mapping[str, Any],
    profile: ExecutionProfile,
    metrics: TaskMetrics,
) -> Iterator[Batch]:
    for chosen, width in cut_by_tokens(window.lengths, profile.token_budget, pre.max_length):
        before = time.perf_counter()
        ids, real = window.padded(chosen, width, pre.pad_id)
        feeds = {pre.input_ids: ids.astype(dtypes[pre.input_ids], copy=False)}
        if pre.attention_mask is not None:
            feeds[pre.attention_mask] = real.astype(dtypes[pre.attention_mask])
        metrics.decode_seconds += time.perf_counter() - before
        metrics.tokens += int(window.lengths[chosen].sum())
        metrics.padding += ids.size - int(window.lengths[chosen].sum())
        yield Batch(feeds, window.rows[chosen])


def _token_rows(
    column: pa.Array, first: int, pre: TokenPreprocessing, name: str, dtype: Any
) -> tuple[TokenRows, dict[int, RowError]]:
    offsets = column.offsets.to_numpy()
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    values = column.values
    faults: dict[int, RowError] = {}
    if column.null_count:
        faults |= {int(row): RowError("read", "null_input", f"{name} is null") for row in _where(column.is_null())}
    if values.null_count:
        wrong = _rows_with(_where(values.is_null()), offsets) - set(faults)
        faults |= {row: RowError("read", "null_input", f"{name} holds a null") for row in sorted(wrong)}
        values = values.fill_null(0)
    tokens = values.to_numpy(zero_copy_only=False)
    if not np.can_cast(tokens.dtype, dtype):
        wrong = _rows_with(np.flatnonzero(tokens.astype(dtype) != tokens), offsets) - set(faults)
        said = f"{name} holds an id that the model's {np.dtype(dtype)} cannot"
        faults |= {row: RowError("read", "out_of_range", said) for row in sorted(wrong)}
    for row in np.flatnonzero((lengths == 0) | (lengths > pre.max_length)):
        if int(row) not in faults:
            said = f"{name} has {lengths[row]} tokens, the model takes 1 to {pre.max_length}"
            faults[int(row)] = RowError("read", "wrong_length", said)
    good = np.ones(len(lengths), np.bool_)
    good[list(faults)] = False
    rows = np.flatnonzero(good)
    return (
        TokenRows(tokens, starts[rows], lengths[rows], first + rows),
        {first + row: error for row, error in faults.items()},
    )


def _rows_with(places: Any, offsets: Any) -> set[int]:
    """The rows that these places of the values belong to."""
    rows = np.searchsorted(offsets, places, side="right") - 1
    return {int(row) for row in rows if 0 <= row < len(offsets) - 1}


def _where(mask: pa.Array) -> Any:
    return np.flatnonzero(mask.to_numpy(zero_copy_only=False))
