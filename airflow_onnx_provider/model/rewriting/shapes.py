# SPDX-License-Identifier: Apache-2.0
"""Shapes and types of a graph's tensors, inferred without its weights' values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.rewriting.files import nbytes
from airflow_onnx_provider.model.rewriting.nodes import attribute

Shape = tuple[int, ...]
Shapes = Mapping[str, tuple[int, Shape]]
"""Tensor to its ONNX element type and its shape."""

INFERRED_BYTES = 4096
"""Weights larger than this say their shape only: no shape is computed from their values."""


def infer_shapes(model: Any, batch: int, sizes: Mapping[str, int]) -> dict[str, tuple[int, Shape]]:
    """Element type and shape of every tensor whose shape is a row of numbers; weights included.

    :param sizes: sizes of the inputs' further axes, by the axis's name, or as ``input[place]`` where it has none
    :param model: a ``ModelProto``, with or without the weights' values; it stays as it is
    :raises BadInputError: for an input's axis without a size
    """
    skeleton = _without_large_weights(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in skeleton.graph.input:
        if value.name in weights:
            continue
        for index, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.HasField("dim_value"):
                continue
            name = axis.dim_param or f"{value.name}[{index}]"
            size = batch if index == 0 else sizes.get(name)
            if size is None:
                raise BadInputError(f"the axis {name} of the input {value.name} has no size; give one")
            axis.dim_value = size
    given = {value.name for value in skeleton.graph.input}
    made = [value for value in skeleton.graph.output if value.name not in given]
    del skeleton.graph.output[:]  # an input that is an output as well would stop the inference
    skeleton.graph.output.extend(made)
    forget_shapes(skeleton.graph.output)
    del skeleton.graph.value_info[:]
    found = _known_shapes(_inferred(skeleton))
    if _fold_shape_nodes(skeleton.graph, found):
        found = _known_shapes(_inferred(skeleton))
    return found | {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in model.graph.initializer}


def _known_shapes(graph: Any) -> dict[str, tuple[int, Shape]]:
    found = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(axis.HasField("dim_value") for axis in kind.shape.dim):
            found[value.name] = (kind.elem_type, tuple(axis.dim_value for axis in kind.shape.dim))
    return found


def _fold_shape_nodes(graph: Any, shapes: Shapes) -> bool:
    """Make constants of the ``Shape`` nodes, whose ``start`` and ``end`` the inference does not follow."""
    import numpy as np
    import onnx

    known = [node for node in graph.node if node.op_type == "Shape" and node.input[0] in shapes]
    for node in known:
        shape = shapes[node.input[0]][1]
        part = shape[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(part, np.int64), node.output[0]))
        graph.node.remove(node)
    return bool(known)


def value_types(model: Any, *, strict: bool = False) -> dict[str, Any]:
    """Tensor to its ``ValueInfoProto``, as far as it is known or can be inferred; axes may have names for sizes.

    :raises ValidationError: if ``strict`` and shapes contradict each other
    """
    import onnx

    try:
        graph = _inferred(_without_large_weights(model), strict)
    except onnx.shape_inference.InferenceError as error:
        raise ValidationError(f"its shapes contradict each other: {error}") from error
    return {value.name: value for value in [*graph.value_info, *model.graph.input, *graph.output]}


def _inferred(model: Any, strict: bool = False) -> Any:
    import onnx

    return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True).graph


def _without_large_weights(model: Any) -> Any:
    import onnx

    skeleton = onnx.ModelProto(ir_version=model.ir_version)
    skeleton.opset_import.extend(model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    given = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if nbytes(tensor) <= INFERRED_BYTES and tensor.data_location != onnx.TensorProto.EXTERNAL:
            graph.initializer.append(tensor)
        elif tensor.name not in given:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return skeleton


def forget_shapes(values: Iterable[Any]) -> None:
    """Leave the element types and take away the declared shapes."""
    for value in values:
        value.type.tensor_type.ClearField("shape")
