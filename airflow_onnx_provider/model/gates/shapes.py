# SPDX-License-Identifier: Apache-2.0
"""Gate: types and shapes agree, the outputs are what they are declared to be, and no tensor is a bomb."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from airflow_onnx_provider.model.gates.limits import Limits, readable
from airflow_onnx_provider.model.gates.reading import OnnxFile, nodes, scopes
from airflow_onnx_provider.model.gates.weights import BITS, type_name

UNINFERABLE = {"MeanVarianceNormalization"}
"""Operators whose own definition onnx 1.23 refuses in strict mode."""

POINTER_BITS = 64
"""A text in a tensor takes at least so much."""


def require_shapes(file: OnnxFile, limits: Limits) -> None:
    """Infer every type and shape, and compare with what is declared and with what memory there is.

    Only shapes are computed, never values: following values, onnx 1.23 writes out a ``Range`` of any length.

    :param file: its large weights may be gone already
    :raises ValidationError: naming the operator's or the output's fault
    """
    import onnx

    declared = [type(value).FromString(value.SerializeToString()) for value in file.model.graph.output]
    for value in file.model.graph.output:
        value.ClearField("type")  # what it is comes from the graph alone
    try:
        strict = not any(node.op_type in UNINFERABLE for node in nodes(file.model))
        inferred = onnx.shape_inference.infer_shapes(file.model, check_type=True, strict_mode=strict)
    except Exception as error:  # InferenceError, and RuntimeError or MemoryError from the C++ side
        raise file.refuse(f"types or shapes do not fit: {error}") from error
    for said, found in zip(declared, inferred.graph.output, strict=True):
        if reason := _contradiction(said, found):
            raise file.refuse(f"its output {said.name!r} is declared as {reason}")
    made_by = {name: node for scope, _ in scopes(inferred) for node in scope.node for name in node.output}
    for name, kind, shape in _tensors(inferred):
        size = math.prod(shape) * BITS.get(kind, POINTER_BITS) // 8
        if size > limits.tensor_bytes:
            raise file.refuse(
                f"the tensor {name!r} of {_maker(made_by, name)} takes {readable(size)} for one row: {kind} {shape} "
                f"(limit {readable(limits.tensor_bytes)})"
            )


def _contradiction(said: Any, found: Any) -> str | None:
    """How a declared output and the inferred one exclude each other, or None; what is not known excludes nothing."""
    if said.type.WhichOneof("value") != "tensor_type" or found.type.WhichOneof("value") != "tensor_type":
        return None
    ours, theirs = said.type.tensor_type, found.type.tensor_type
    shapes = [_axes(one) for one in (ours, theirs)]
    text = [f"{type_name(one.elem_type)} {shape}" for one, shape in zip((ours, theirs), shapes, strict=True)]
    message = f"{text[0]}, but the graph makes {text[1]}"
    if theirs.elem_type and ours.elem_type != theirs.elem_type:
        return message
    if not (ours.HasField("shape") and theirs.HasField("shape")):
        return None
    if len(shapes[0]) != len(shapes[1]):
        return message
    fixed = [pair for pair in zip(*shapes, strict=True) if all(isinstance(axis, int) for axis in pair)]
    return message if any(mine != its for mine, its in fixed) else None


def _axes(tensor: Any) -> list[int | str]:
    return [int(axis.dim_value) if axis.HasField("dim_value") else axis.dim_param or "?" for axis in tensor.shape.dim]


def _tensors(model: Any) -> Iterator[tuple[str, str, list[int]]]:
    """Name, type and shape of each tensor whose shape is known; open axes count as one row."""
    for scope, _ in scopes(model):
        for value in (*getattr(scope, "value_info", ()), *(one for one in scope.output if not isinstance(one, str))):
            if value.type.WhichOneof("value") == "tensor_type":
                tensor = value.type.tensor_type
                # A negative size is onnx's guess about a branch that is not taken.
                shape = [max(1, int(axis.dim_value)) if axis.HasField("dim_value") else 1 for axis in tensor.shape.dim]
                yield value.name, type_name(tensor.elem_type), shape


def _maker(made_by: dict[str, Any], name: str) -> str:
    node = made_by.get(name)
    return f"a {node.op_type}" if node is not None else "the graph"
