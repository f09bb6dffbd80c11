# SPDX-License-Identifier: Apache-2.0
"""The best classes, picked inside the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.rewriting.files import read, write

LABELS, SCORES, BEST = "top_labels", "top_scores", "best"


def add_top_k(source: Path, target: Path, scores: str, k: int, *, keep_scores: bool) -> None:
    """Add the outputs ``top_labels: int64 [batch, k]`` and ``top_scores: float [batch, k]``, best first.

    Of equal scores the class with the smaller number comes first.

    :param scores: the output ``float [batch, classes]``
    :param keep_scores: whether it stays an output
    :raises BadInputError: if there are fewer than ``k`` classes
    :raises ValidationError: if the graph uses one of the new names already
    """
    import onnx

    model = read(source)
    output = _output(model, scores, (LABELS, SCORES))
    classes = output.type.tensor_type.shape.dim[1]
    if classes.HasField("dim_value") and not 0 < k <= classes.dim_value:
        raise BadInputError(f"top_k: k must lie between 1 and the model's {classes.dim_value} classes, got {k}")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([k], np.int64), f"{LABELS}_k"))
    model.graph.node.append(
        onnx.helper.make_node("TopK", [scores, f"{LABELS}_k"], [SCORES, LABELS], LABELS, axis=-1, largest=1, sorted=1)
    )
    batch, kind = _batch(output), output.type.tensor_type.elem_type
    if not keep_scores:
        model.graph.output.remove(output)
    make = onnx.helper.make_tensor_value_info
    model.graph.output.extend([make(LABELS, onnx.TensorProto.INT64, [batch, k]), make(SCORES, kind, [batch, k])])
    write(model, target, like=source)


def add_argmax(source: Path, target: Path, scores: str) -> None:
    """Add the output ``best: int64 [batch]``, the class with the largest score.

    :raises ValidationError: if the graph uses this name already
    """
    import onnx

    model = read(source)
    output = _output(model, scores, (BEST,))
    model.graph.node.append(onnx.helper.make_node("ArgMax", [scores], [BEST], BEST, axis=-1, keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info(BEST, onnx.TensorProto.INT64, [_batch(output)]))
    write(model, target, like=source)


def _output(model: Any, name: str, new: tuple[str, ...]) -> Any:
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    if used := taken & set(new):
        raise ValidationError(f"it has a tensor {', '.join(sorted(used))} already")
    return next(value for value in model.graph.output if value.name == name)


def _batch(output: Any) -> int | str:
    axis = output.type.tensor_type.shape.dim[0]
    return axis.dim_value or axis.dim_param or "batch"
