# SPDX-License-Identifier: Apache-2.0
"""Other sizes for a graph's axes: the batch, and the height and width of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.rewriting.files import read, write
from airflow_onnx_provider.model.rewriting.nodes import weights_of
from airflow_onnx_provider.model.rewriting.shapes import forget_shapes, value_types

Size = int | str
"""A number, or a name for an axis that varies."""


def set_batch(source: Path, target: Path, batch: Size) -> None:
    """Give all inputs another first axis.

    ``Reshape`` nodes that hold the old batch size as a constant are told to keep the first axis as it comes.

    :raises ValidationError: if an input has no axes, or this is the batch already
    """
    model = read(source)
    inputs = _own_inputs(model)
    for value in inputs:
        if not value.type.tensor_type.shape.dim:
            raise ValidationError(f"its input {value.name} has no axes, so no batch")
    old = inputs[0].type.tensor_type.shape.dim[0]
    old_size = old.dim_value if old.HasField("dim_value") else None
    if old_size == batch or (old_size is None and isinstance(batch, str)):
        raise ValidationError(f"its batch is {old_size or 'free'} already")
    if old_size is not None:
        _free_reshapes(model, old_size)
    for value in inputs:
        _set(value.type.tensor_type.shape.dim[0], batch)
    _infer_outputs(model)
    write(model, target, like=source)


def set_resolution(source: Path, target: Path, name: str, height: Size, width: Size) -> None:
    """Give an input of pictures, ``[batch, height, width, channels]``, another height and width.

    :param name: of the input
    :raises ValidationError: if the graph's constants do not allow it, with what the shape inference says
    """
    model = read(source)
    value = next(value for value in _own_inputs(model) if value.name == name)
    axes = value.type.tensor_type.shape.dim
    _set(axes[1], height)
    _set(axes[2], width)
    _infer_outputs(model)
    write(model, target, like=source)


def _own_inputs(model: Any) -> list[Any]:
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def _set(axis: Any, size: Size) -> None:
    axis.Clear()
    if isinstance(size, int):
        axis.dim_value = size
    else:
        axis.dim_param = size


def _infer_outputs(model: Any) -> None:
    """Forget what the file says about shapes after its inputs, and infer it anew."""
    declared = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.output}
    del model.graph.value_info[:]
    forget_shapes(model.graph.output)
    types = value_types(model, strict=True)
    for value in model.graph.output:
        found = types[value.name].type.tensor_type.shape
        if len(found.dim) != declared[value.name]:
            found = type(found)(dim=[type(found).Dimension() for _ in range(declared[value.name])])
        value.type.tensor_type.shape.CopyFrom(found)


def _free_reshapes(model: Any, batch: int) -> None:
    import numpy as np
    import onnx

    types, weights = value_types(model), weights_of(model)
    for number, node in enumerate(model.graph.node):
        if node.op_type != "Reshape" or node.input[1] not in weights or node.input[0] not in types:
            continue
        shape = onnx.numpy_helper.to_array(weights[node.input[1]])
        axes = types[node.input[0]].type.tensor_type.shape.dim
        if not (shape.size and shape[0] == batch and axes and axes[0].dim_value == batch):
            continue
        # 0 stands for the size that comes in; the constant may serve other nodes too, so this one gets its own
        name = f"{node.input[1]}_free_{number}"
        freed = np.concatenate([[0], shape[1:]]).astype(np.int64)
        model.graph.initializer.append(onnx.numpy_helper.from_array(freed, name))
        node.input[1] = name
