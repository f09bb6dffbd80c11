# SPDX-License-Identifier: Apache-2.0
"""What turns a picture's bytes into a network's numbers, at the beginning of the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.rewriting.files import read, write
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

Layout = Literal["NCHW", "NHWC"]

FLOATS = {"float": np.float32, "float16": np.float16, "double": np.float64}


def layout_of(spec: TensorSpec, layout: str | None = None) -> Layout:
    """Where an input of pictures has its three channels.

    :param layout: what to take it for, or None: by its shape
    :raises ValidationError: if it cannot be an input of pictures
    :raises BadInputError: for an unknown layout, or a shape that fits both
    """
    if layout is not None and layout not in get_args(Layout):
        raise BadInputError(f"preprocessing: layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    fitting = [one for one, axis in (("NCHW", 1), ("NHWC", 3)) if len(spec.shape) == 4 and _fits(spec.shape[axis])]
    if spec.type not in FLOATS or not fitting or (layout and layout not in fitting):
        raise ValidationError(
            f"its input {spec.name}: {spec.type} {list(spec.shape)} is no float picture of three channels"
            + (f" in the layout {layout}" if layout else "")
        )
    if layout is None and len(fitting) > 1:
        raise BadInputError(f"preprocessing: {list(spec.shape)} may be NCHW or NHWC; give the layout")
    return "NCHW" if (layout or fitting[0]) == "NCHW" else "NHWC"


def normalised(pixels: NDArray[np.uint8], preprocessing: ImagePreprocessing, layout: Layout, kind: str) -> NDArray[Any]:
    """Pictures as the network takes them without a preprocessing of its own.

    :param pixels: ``uint8 [rows, height, width, 3]``
    :param kind: the input's ONNX type, a key of :data:`FLOATS`
    """
    mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    values = (pixels.astype(np.float32) * np.float32(preprocessing.scale) - mean) / std
    planes = values.transpose(0, 3, 1, 2) if layout == "NCHW" else values
    return np.ascontiguousarray(planes, dtype=FLOATS[kind])


def fold_preprocessing(source: Path, target: Path, preprocessing: ImagePreprocessing, layout: Layout) -> str:
    """Put cast, scale, mean, std and transposition before the graph's one input.

    :param preprocessing: its height and width become the new input's
    :return: name of the new input ``uint8 [batch, height, width, 3]``
    :raises ValidationError: if the graph has several inputs
    """
    import onnx

    model = read(source)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ValidationError(f"it has {len(inputs)} inputs: {', '.join(value.name for value in inputs)}")
    old = inputs[0]
    taken = weights | {name for node in model.graph.node for name in (*node.input, *node.output)}
    image = next(name for name in ("image", "pixels", f"{old.name}_pixels") if name not in {*taken, old.name})
    batch = old.type.tensor_type.shape.dim[0]
    factor = preprocessing.scale / np.array(preprocessing.std)
    offset = -np.array(preprocessing.mean) / np.array(preprocessing.std)

    steps: list[tuple[str, dict[str, Any], NDArray[np.float32] | None]] = [("Cast", {"to": 1}, None)]
    if (factor != 1).any():
        steps.append(("Mul", {}, factor.astype(np.float32)))
    if (offset != 0).any():
        steps.append(("Add", {}, offset.astype(np.float32)))
    if layout == "NCHW":
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}, None))
    if old.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        steps.append(("Cast", {"to": old.type.tensor_type.elem_type}, None))
    nodes, last = [], image
    for number, (operator, attributes, constant) in enumerate(steps):
        names = [last]
        if constant is not None:
            names.append(f"preprocessing/{operator.lower()}_by")
            model.graph.initializer.append(onnx.numpy_helper.from_array(constant, names[-1]))
        last = old.name if number == len(steps) - 1 else f"preprocessing/{operator.lower()}_{number}"
        nodes.append(onnx.helper.make_node(operator, names, [last], f"preprocessing/{operator}_{number}", **attributes))
    others = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *others])
    shape = [batch.dim_value or batch.dim_param or "batch", preprocessing.height, preprocessing.width, 3]
    old.CopyFrom(onnx.helper.make_tensor_value_info(image, onnx.TensorProto.UINT8, shape))
    write(model, target, like=source)
    return image


def _fits(axis: int | str) -> bool:
    return axis == 3
