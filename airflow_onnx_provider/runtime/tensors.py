# SPDX-License-Identifier: Apache-2.0
"""Columns of Arrow batches as the tensors that a model takes, and a model's tensors as Arrow columns.

One table, ``_ELEMENTS``, decides which column may feed which tensor. No value changes unnoticed:

* The exact type always fits.
* Floating point feeds any width and rounds to the nearest. A finite number that would become infinite is a fault.
* Whole numbers feed any other width, ``boolean`` feeds them as 0 and 1. Spark has no unsigned types, so narrowing is
  normal. A number that the tensor cannot hold is a fault.
* Whole numbers feed floating point only from types whose every value is exact there.
* ``binary`` feeds any numeric tensor: the raw little-endian bytes of one row.
* Anything else is refused before a row is read. Cast it in Spark, where the loss can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.manifest import TensorSpec


class _Element(NamedTuple):
    dtype: np.dtype[Any]
    output: pa.DataType  # of the column that such an output becomes
    takes: tuple[pa.DataType, ...]  # the columns that may feed such an input


_TEXT = (pa.string(), pa.large_string())
_REAL = (pa.float32(), pa.float64(), pa.float16())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_NEVER_FROM_SPARK = (*_UNSIGNED, pa.float16())
_WHOLE = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.bool_(), *_UNSIGNED)

_ELEMENTS = {
    "float16": _Element(np.dtype(np.float16), pa.float32(), (*_REAL, pa.int8())),
    "float": _Element(np.dtype(np.float32), pa.float32(), (*_REAL, pa.int8(), pa.int16())),
    "double": _Element(np.dtype(np.float64), pa.float64(), (*_REAL, pa.int8(), pa.int16(), pa.int32())),
    "int8": _Element(np.dtype(np.int8), pa.int8(), _WHOLE),
    "int16": _Element(np.dtype(np.int16), pa.int16(), _WHOLE),
    "int32": _Element(np.dtype(np.int32), pa.int32(), _WHOLE),
    "int64": _Element(np.dtype(np.int64), pa.int64(), _WHOLE),
    "uint8": _Element(np.dtype(np.uint8), pa.int16(), _WHOLE),
    "uint16": _Element(np.dtype(np.uint16), pa.int32(), _WHOLE),
    "uint32": _Element(np.dtype(np.uint32), pa.int64(), _WHOLE),
    "uint64": _Element(np.dtype(np.uint64), pa.decimal128(20, 0), _WHOLE),
    "bool": _Element(np.dtype(np.bool_), pa.bool_(), (pa.bool_(),)),
    "string": _Element(np.dtype(np.object_), pa.string(), _TEXT),
}

NUMPY_TYPES: Mapping[str, np.dtype[Any]] = {name: element.dtype for name, element in _ELEMENTS.items()}
"""The ONNX element types that columns can feed, each with numpy's type for it."""

_SPARK_NAMES = {
    "bool": "boolean",
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "large_string": "string",
    "large_binary": "binary",
    "date32[day]": "date",
    "null": "void",
}


def output_type(spec: TensorSpec) -> pa.DataType:
    """The type of the column that an output becomes: one list for each axis after the batch.

    :raises BadInputError: if Spark has no such type, or the output has no batch axis
    """
    _require_known(spec, "output")
    kind = _ELEMENTS[spec.type].output
    for _ in spec.shape[1:]:
        kind = pa.list_(kind)
    return kind


def to_arrow(values: NDArray[Any], spec: TensorSpec) -> pa.Array:
    """An output ``[rows, …]`` as a column of :func:`output_type`, in the same memory if no value has to be widened.

    :raises BadInputError: if it has not as many axes as the model declares
    """
    if values.ndim != len(spec.shape):
        raise BadInputError(f"the output {_words(spec)} came with the shape {list(values.shape)}")
    column = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(_ELEMENTS[spec.type].output)
    for axis in range(values.ndim - 1, 0, -1):
        offsets = np.arange(math.prod(values.shape[:axis]) + 1) * values.shape[axis]
        column = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), column)
    return column


def require_feedable(spec: TensorSpec, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse, before anything runs, columns that :func:`read_tensor` cannot make this input from.

    :param columns: name to type; several are the features of an input ``[batch, features]``, in this order
    :raises BadInputError: naming column, input, both types, and a way out
    """
    _require_known(spec, "input")
    for axis in spec.shape[1:]:
        if isinstance(axis, str):
            raise BadInputError(
                f"the input {_words(spec)} cannot be fed from columns: its axis {axis} has no fixed size. Export the "
                "model with a number there."
            )
    alone = len(columns) == 1
    if not alone and spec.shape[1:] != (len(columns),):
        raise BadInputError(
            f"{len(columns)} columns are a tensor [batch, {len(columns)}], but the input is {_words(spec)}. Give one "
            "column a feature, or one array column."
        )
    for name, kind in columns.items():
        _require_fits(spec, name, kind, alone)


def read_tensor(spec: TensorSpec, columns: Mapping[str, pa.Array]) -> tuple[NDArray[Any], dict[int, RowError]]:
    """An input's tensor, from one column or from several that are its features.

    One column of the tensor's own type and without faults is not copied; the tensor is then read-only.

    :param columns: as :func:`require_feedable` accepted them, all of one length
    :return: values ``[rows, …]``, and what is wrong with which row. The values of such a row are zeros (or empty
        strings), so that all rows can be fed at once.
    """
    if len(columns) == 1:
        ((name, column),) = columns.items()
        return _read_column(spec, name, column, spec.shape[1:])
    parts = [_read_column(spec, name, column, ()) for name, column in columns.items()]
    # 100 columns of 10,000 rows take two to three milliseconds in all. Filling [rows, features] column by column is a
    # little slower, filling [features, rows] and copying its transpose two to three times.
    values = np.column_stack([part for part, _ in parts])
    faults = {row: fault for _, wrong in reversed(parts) for row, fault in wrong.items()}  # of a row's first bad column
    values[list(faults)] = _blank(values.dtype)
    return values, faults


class _Remaining:
    """The rows of a column that have no fault yet, and the faults of the others."""

    def __init__(self, rows: int) -> None:
        self.rows = np.arange(rows)
        self.faults: dict[int, RowError] = {}

    def without(self, bad: NDArray[np.bool_], fault: Callable[[int], RowError], values: Any) -> Any:
        """Take out each row with anything bad, and return the values of those that stay.

        :param bad: one entry a value, equally many a row
        :param fault: the error for the index of a row's first bad value
        :param values: an Arrow or numpy array
        """
        if not bad.any():
            return values
        table = bad.reshape(len(self.rows), -1)
        wrong, width = table.any(axis=1), table.shape[1]
        for row in np.flatnonzero(wrong):
            self.faults[int(self.rows[row])] = fault(row * width + table[row].argmax())
        self.rows = self.rows[~wrong]
        staying = np.repeat(~wrong, width)
        return values[staying] if isinstance(values, np.ndarray) else values.filter(pa.array(staying))


def _read_column(
    spec: TensorSpec, name: str, column: pa.Array, row: tuple[int | str, ...]
) -> tuple[NDArray[Any], dict[int, RowError]]:
    """Peel list after list off. Rows that are wrong at one level leave before the next, so what is left is dense."""
    shape, dtype = tuple(map(int, row)), NUMPY_TYPES[spec.type]
    remaining, rows = _Remaining(len(column)), len(column)
    binary, depth = _is_binary(column.type), _unwrapped(column.type)[1]
    sizes = list(shape) if depth == len(shape) else [math.prod(shape)] * depth
    if binary:
        column, sizes = _as_byte_lists(column), [math.prod(shape) * dtype.itemsize]
    place = f"the column {name}, for the input {_words(spec)}"

    def null(_: int) -> RowError:
        return RowError("read", "null_input", f"{'a null inside' if peeled else 'null in'} {place}")

    def misfit(index: int) -> RowError:
        if found[index] < 0:
            return null(index)
        unit = "bytes" if binary else "values"
        return RowError("read", "wrong_shape", f"{found[index]} {unit} where {size} are expected in {place}")

    def outside(index: int) -> RowError:
        return RowError("read", "out_of_range", f"{values[index]} is out of range in {place}")

    peeled = False
    for size in sizes:
        found = pc.list_value_length(column).fill_null(-1).to_numpy()
        column = remaining.without(found != size, misfit, column).flatten()
        peeled = True
    if column.null_count:
        column = remaining.without(column.is_null().to_numpy(zero_copy_only=False), null, column)

    values = column.to_numpy(zero_copy_only=False)
    if binary:
        values = np.require(values.view(dtype.newbyteorder("<")), dtype, "A")
    with np.errstate(over="ignore"):
        tensor = values.astype(dtype, copy=False)
    if not np.can_cast(values.dtype, dtype):
        lost = np.isinf(tensor) != np.isinf(values) if dtype.kind == "f" else tensor != values
        tensor = remaining.without(lost, outside, tensor)
    tensor = tensor.reshape(len(remaining.rows), *shape)
    if not remaining.faults:
        return tensor, {}
    whole = np.full((rows, *shape), _blank(dtype), dtype)
    whole[remaining.rows] = tensor
    return whole, remaining.faults


def _as_byte_lists(column: pa.Array) -> pa.Array:
    """A binary column as lists of bytes, in the same memory."""
    kind = pa.large_list(pa.uint8()) if pa.types.is_large_binary(column.type) else pa.list_(pa.uint8())
    validity, offsets, data = column.buffers()
    content = pa.Array.from_buffers(pa.uint8(), data.size if data else 0, [None, data])
    return pa.Array.from_buffers(kind, len(column), [validity, offsets], offset=column.offset, children=[content])


def _blank(dtype: np.dtype[Any]) -> Any:
    return "" if dtype == np.object_ else dtype.type(0)


def _require_known(spec: TensorSpec, role: str) -> None:
    if spec.type not in _ELEMENTS:
        raise BadInputError(
            f"the {role} {_words(spec)} cannot be a column: Spark has no type for {spec.type}. Give the model a Cast "
            f"that makes this {role} one of {', '.join(_ELEMENTS)}."
        )
    if not spec.shape:
        raise BadInputError(f"the {role} {_words(spec)} cannot be a column: it has no batch axis")


def _require_fits(spec: TensorSpec, name: str, kind: pa.DataType, alone: bool) -> None:
    element, shape, (leaf, depth) = _ELEMENTS[spec.type], spec.shape[1:], _unwrapped(kind)
    size = math.prod(map(int, shape))
    if alone and _is_binary(kind) and element.dtype.kind in "iuf":
        return
    problem = f"the column {name} is {_spark_name(kind)}, but the input {_words(spec)} takes"
    if leaf not in element.takes:
        takes = dict.fromkeys(_spark_name(one) for one in element.takes if one not in _NEVER_FROM_SPARK)
        target = element.output if element.output in element.takes else pa.int64()  # nothing in Spark is like uint64
        wanted = "array<" * depth + _spark_name(target) + ">" * depth
        column = name if name.isidentifier() else f"`{name}`"
        raise BadInputError(
            f"{problem} {', '.join(takes)}. Make it one of these in Spark, for example CAST({column} AS {wanted})."
        )
    if not alone and depth:
        raise BadInputError(
            f"{problem} one value from each of several columns. Give single values, or one array alone."
        )
    if alone and depth not in {1, len(shape)} and (depth or size != 1):
        ways = f"{size} columns" if len(shape) == 1 else "arrays nested as its axes"
        raise BadInputError(f"{problem} {size} values a row. Give one array of them, or {ways}.")


def _unwrapped(kind: pa.DataType) -> tuple[pa.DataType, int]:
    """The type inside of all lists, and how many lists there are."""
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    return kind, depth


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _words(spec: TensorSpec) -> str:
    return f"{spec.name}: {spec.type} [{', '.join(map(str, spec.shape))}]"


def _spark_name(kind: pa.DataType) -> str:
    if _unwrapped(kind)[1]:
        return f"array<{_spark_name(kind.value_type)}>"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if pa.types.is_map(kind):
        return f"map<{_spark_name(kind.key_type)},{_spark_name(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{field.name}:{_spark_name(field.type)}' for field in kind)}>"
    return _SPARK_NAMES.get(str(kind), str(kind))
