# SPDX-License-Identifier: Apache-2.0
"""Gate: each weight has exactly the bytes that its type and shape ask for, and holds numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.model.gates.limits import Limits, readable
from airflow_onnx_provider.model.gates.reading import OnnxFile, read_file, scopes, sparse_tensors, tensors

KEPT_ELEMENTS = 1024
"""Weights up to this size may be shapes, axes and repeats, which decide how large other tensors are."""

BITS = {
    "float": 32, "double": 64, "float16": 16, "bfloat16": 16, "complex64": 64, "complex128": 128,
    "int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64, "bool": 8,
    "int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2,
    "float8e4m3fn": 8, "float8e4m3fnuz": 8, "float8e5m2": 8, "float8e5m2fnuz": 8, "float8e8m0": 8,
}  # fmt: skip
"""Bits of one element in memory and in a file, by ONNX type in lower case."""

_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")

_FLOATS: dict[str, type[np.floating[Any]]] = {"float": np.float32, "double": np.float64, "float16": np.float16}


def require_weights(file: OnnxFile, limits: Limits) -> None:
    """Sizes of all weights against their types and shapes, and of all together against the budget.

    :raises ValidationError: naming the weight
    """
    total = 0
    for tensor in tensors(file.model):
        count = _elements(file, tensor.name, tensor.dims)
        kind = type_name(tensor.data_type)
        if kind == "string":
            size = count
        elif kind in BITS:
            size = (count * BITS[kind] + 7) // 8
        else:
            raise file.refuse(f"the weight {tensor.name!r} has the element type {tensor.data_type}, which is none")
        total += size
        if not is_external(tensor):
            _require_data(file, tensor, kind, count, size)
    for sparse in sparse_tensors(file.model):
        # ONNX Runtime fills up the zeros when it loads the model.
        count = _elements(file, sparse.values.name, sparse.dims)
        total += count * BITS.get(type_name(sparse.values.data_type), 8) // 8
    if total > limits.weight_bytes:
        raise file.refuse(
            f"its weights need {readable(total)} of memory (limit {readable(limits.weight_bytes)}); raise memory_mb if "
            "the model is yours and this large"
        )


def keep_small(file: OnnxFile) -> None:
    """Drop the values of large weights from memory, and read small external ones, whose files passed their gate.

    The gates after this one look at types and shapes, and at the few values that decide shapes.
    """
    for tensor in tensors(file.model):
        small = math.prod(tensor.dims) <= KEPT_ELEMENTS
        if small and is_external(tensor):
            where = _where(tensor)
            with (file.path.parent / where["location"]).open("rb") as data:
                data.seek(int(where.get("offset", 0)))
                tensor.raw_data = data.read(size_of(tensor))
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
        elif not small and not is_external(tensor):
            tensor.ClearField("raw_data")
            for field in _FIELDS:
                tensor.ClearField(field)
            tensor.data_location = 1  # external: types and shapes still count, no value is looked for
            tensor.external_data.add(key="location", value="dropped")


def require_numbers(path: Path) -> None:
    """No weight of several elements holds NaN; a single NaN may be a constant that marks missing values.

    :param path: a file that has passed the other gates
    :raises ValidationError: naming the weight
    """
    file = read_file(path)
    for name, values in _float_weights(file):
        flat = values.reshape(-1)
        for start in range(0, flat.size, 1 << 24):  # external weights are mapped, never read as a whole
            if np.isnan(flat[start : start + (1 << 24)]).any():
                raise file.refuse(
                    f"the weight {name!r} holds NaN, so every answer that it takes part in is NaN; the training "
                    "diverged, or the file was damaged"
                )


def is_external(tensor: Any) -> bool:
    """Whether the values lie in another file."""
    return bool(tensor.data_location == 1)


def type_name(number: int) -> str:
    """An element type as manifests call it, ``undefined`` if there is no such type."""
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(number)).lower()
    except ValueError:
        return "undefined"


def size_of(tensor: Any) -> int:
    """Bytes of a tensor's values in memory, by its type and shape; 8 bits for what has no such size."""
    return (int(math.prod(tensor.dims)) * BITS.get(type_name(tensor.data_type), 8) + 7) // 8


def _where(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _elements(file: OnnxFile, name: str, dims: Any) -> int:
    if any(size < 0 for size in dims):
        raise file.refuse(f"the weight {name!r} has a negative size: {list(dims)}")
    return math.prod(dims)


def _require_data(file: OnnxFile, tensor: Any, kind: str, count: int, size: int) -> None:
    fields = {field: len(getattr(tensor, field)) for field in _FIELDS if len(getattr(tensor, field))}
    if len(fields) + tensor.HasField("raw_data") > 1:
        raise file.refuse(f"the weight {tensor.name!r} holds its values twice")
    if tensor.HasField("raw_data"):
        found, expected, unit = len(tensor.raw_data), size, "bytes"
    else:
        found, expected, unit = sum(fields.values()), _listed(kind, count), "values"
    if found != expected:
        raise file.refuse(
            f"the weight {tensor.name!r} says {kind} {list(tensor.dims)}, which is {expected:,} {unit}, but the file "
            f"holds {found:,}"
        )


def _listed(kind: str, count: int) -> int:
    """How many numbers a protobuf field holds for so many elements: complex ones are two, small ones share one."""
    if kind.startswith("complex"):
        return 2 * count
    return (count * BITS[kind] + 7) // 8 if BITS.get(kind, 8) < 8 else count


def _float_weights(file: OnnxFile) -> Iterator[tuple[str, NDArray[Any]]]:
    for scope, _ in scopes(file.model):
        for tensor in getattr(scope, "initializer", ()):
            dtype = _FLOATS.get(type_name(tensor.data_type))
            count = math.prod(tensor.dims)
            if dtype is None or count < 2:
                continue
            if is_external(tensor):
                where = _where(tensor)
                offset = int(where.get("offset", 0))
                yield tensor.name, np.memmap(file.path.parent / where["location"], dtype, "r", offset, (count,))
            elif tensor.HasField("raw_data"):
                yield tensor.name, np.frombuffer(tensor.raw_data, dtype)
            elif dtype is not np.float16:  # whose listed values are bit patterns
                yield tensor.name, np.asarray(tensor.float_data or tensor.double_data, dtype)
