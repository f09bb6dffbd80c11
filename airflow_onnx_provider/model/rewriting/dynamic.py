# SPDX-License-Identifier: Apache-2.0
"""What a converted graph has to be before it is believed: one batch axis, named axes, and answers at any batch size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import ConversionError, MissingExtraError
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.session import open_session

BATCH = "batch"

SIZES = (1, 2, 5)
"""Batch sizes that a graph must run at: one row is a case of its own in many exporters."""

AXIS_SIZES = (8, 32, 1, 224)
"""Sizes that are tried for the other axes that vary; what a graph takes cannot be read from it."""

_COUNTED = re.compile(r"unk__\d+|s\d+|u\d+|[Dd]im_?\d+|\d*")
"""Names that converters invent anew each time; they would make a new version of the same model."""


def settle_axes(path: Path, given: Mapping[str, Mapping[str, Any]]) -> None:
    """Call the first axis of every input and output ``batch``, and each other axis that varies by a lasting name.

    :param path: an ONNX file, changed in place
    :param given: input name to its ``shape``, whose names are taken over
    :raises ConversionError: if a first axis is fixed, or there is none
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    renamed: dict[str, str] = {}
    for value in inputs:
        shape = given.get(value.name, {}).get("shape", ())
        for index, axis in enumerate(_axes(path, value)):
            said = shape[index] if index < len(shape) else None
            _name(renamed, axis, said if isinstance(said, str) else "", f"{value.name}_{index}", first=index == 0)
    for value in (*inputs, *model.graph.value_info, *model.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in renamed:
                axis.dim_param = renamed[axis.dim_param]
    for value in model.graph.output:
        for index, axis in enumerate(_axes(path, value)):
            if index == 0 and axis.dim_param != BATCH:
                axis.dim_param = BATCH
    onnx.save(model, str(path))


def _axes(path: Path, value: Any) -> Sequence[Any]:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise ConversionError(
            f"{path.name}: {value.name} is a {str(kind).removesuffix('_type')}, not a tensor (a ZipMap at the end does "
            "that: convert the source with zipmap off)"
        )
    if not value.type.tensor_type.HasField("shape"):
        return ()
    axes: Sequence[Any] = value.type.tensor_type.shape.dim
    if not axes:
        raise ConversionError(f"{path.name}: {value.name} is one number for a whole batch, not one a row")
    if axes[0].HasField("dim_value"):
        raise ConversionError(
            f"{path.name}: {value.name} has the fixed batch size {axes[0].dim_value}. Export the model with a batch "
            "axis that varies."
        )
    return axes


def _name(renamed: dict[str, str], axis: Any, said: str, fallback: str, *, first: bool) -> None:
    if axis.HasField("dim_value"):
        return
    old = axis.dim_param
    new = BATCH if first else said or (fallback if _COUNTED.fullmatch(old) else old)
    if old:
        new = renamed.setdefault(old, new)
    axis.dim_param = new


def require_runs(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, list[int | str]]:
    """Run the graph on made-up inputs at batch sizes 1, 2 and 5.

    :return: output name to its shape as seen: sizes that never changed, ``batch``, and a name for each other axis
    :raises ConversionError: if it does not load, does not run at one of them, or answers with another number of rows
    """
    try:
        session = open_session(path)
    except MissingExtraError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise ConversionError(f"ONNX Runtime cannot load the converted graph: {error}") from error
    names = [spec.name for spec in outputs]
    varying = any(isinstance(axis, str) for spec in inputs for axis in spec.shape[1:])
    failure = ""
    for axis in AXIS_SIZES if varying else AXIS_SIZES[:1]:
        seen: list[list[tuple[int, ...]]] = []
        try:
            for rows in SIZES:
                answers = session.run(names, made_up(inputs, rows, axis))
                seen.append([np.shape(answer) for answer in answers])
        except Exception as error:
            size = f"batch size {SIZES[len(seen)]}" + (f" (other axes: {axis})" if varying else "")
            failure = failure or f"the converted graph does not run at {size}: {error}"
            continue
        return dict(_shapes(names, seen, varying))
    raise ConversionError(failure)


def _shapes(
    names: Sequence[str], seen: Sequence[Sequence[tuple[int, ...]]], varying: bool
) -> Iterator[tuple[str, list[int | str]]]:
    for index, name in enumerate(names):
        shapes = [shapes[index] for shapes in seen]
        if [shape[:1] for shape in shapes] != [(rows,) for rows in SIZES]:
            raise ConversionError(
                f"the output {name} of the converted graph has the shapes {shapes} at the batch sizes {list(SIZES)}; "
                "its first axis must be the batch"
            )
        rest: list[int | str] = []
        for axis, sizes in enumerate(zip(*(shape[1:] for shape in shapes), strict=False), 1):
            rest.append(f"{name}_{axis}" if varying or len(set(sizes)) > 1 else sizes[0])
        yield name, [BATCH, *rest]


def made_up(inputs: Sequence[TensorSpec], rows: int, axis: int) -> dict[str, NDArray[Any]]:
    """Inputs that any model should take: numbers around 0, the whole numbers 0 and 1, one-letter texts.

    :param axis: size of each axis but the first that varies
    :raises ConversionError: for an element type that numpy does not have
    """
    rng = np.random.default_rng(0)
    made: dict[str, NDArray[Any]] = {}
    for spec in inputs:
        shape = (rows, *(axis if isinstance(size, str) else size for size in spec.shape[1:]))
        if spec.type == "string":
            made[spec.name] = np.full(shape, "a", dtype=object)
        elif spec.type == "uint8":
            made[spec.name] = rng.integers(0, 256, shape, dtype=np.uint8)
        elif re.fullmatch(r"u?int\d+|bool", spec.type):
            made[spec.name] = rng.integers(0, 2, shape).astype(spec.type)
        elif spec.type in _FLOATS:
            made[spec.name] = rng.normal(size=shape).astype(_FLOATS[spec.type])
        else:
            raise ConversionError(f"the input {spec.name} has the type {spec.type}, which no array can hold")
    return made


_FLOATS = {"float16": np.float16, "float": np.float32, "double": np.float64}


def settle_shapes(path: Path, shapes: Mapping[str, Sequence[int | str]]) -> None:
    """Declare the outputs' shapes as they were seen, where the converter left an axis open."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for value in model.graph.output:
        tensor = value.type.tensor_type
        declared = list(tensor.shape.dim) if tensor.HasField("shape") else [None] * len(shapes[value.name])
        lasting = []
        for axis, seen in zip(declared, shapes[value.name], strict=True):
            if axis is not None and axis.HasField("dim_value"):
                lasting.append(axis.dim_value)
            elif axis is not None and not _COUNTED.fullmatch(axis.dim_param):
                lasting.append(axis.dim_param)
            else:
                lasting.append(seen)
        value.type.CopyFrom(onnx.helper.make_tensor_type_proto(tensor.elem_type, lasting))
    onnx.save(model, str(path))
