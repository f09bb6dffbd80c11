# SPDX-License-Identifier: Apache-2.0
"""What the frameworks of tables share: their inputs, and the names of what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.source import SourceModel

FEATURES = "features"
"""The one input ``[batch, features]`` of a model that was not trained on named columns of several types."""

LABEL = "label"
PROBABILITIES = "probabilities"
PREDICTION = "prediction"

Columns = Mapping[str, tuple[str, int]]
"""Input name to its ONNX element type and its width: all inputs are ``[batch, width]``."""


def given_columns(source: SourceModel) -> dict[str, tuple[str, int]]:
    """The inputs as the source says them; empty if it does not.

    :raises BadInputError: for a shape other than ``["batch", width]``
    """
    found: dict[str, tuple[str, int]] = {}
    for name, spec in source.inputs.items():
        shape = spec.get("shape")
        if not isinstance(shape, (list, tuple)) or len(shape) != 2 or not isinstance(shape[1], int):
            raise BadInputError(f'inputs: {name} needs a shape ["batch", width], got {dict(spec)}')
        found[name] = (str(spec.get("type", "float")), shape[1])
    return found


def features_of(source: SourceModel, width: int, kinds: Sequence[str] = ("float",)) -> tuple[str, str]:
    """Name and type of the one input of a model of ``width`` features.

    :param kinds: element types that the converter takes, the default first
    :raises BadInputError: if the source says other inputs
    """
    columns = given_columns(source) or {FEATURES: (kinds[0], width)}
    ((name, (kind, given)),) = list(columns.items())[:1]
    if len(columns) != 1 or given != width or kind not in kinds:
        raise BadInputError(
            f"{source.location}: the model takes one input of {width} features in {' or '.join(kinds)}, "
            f"inputs says {columns}"
        )
    return name, kind


def require_no_preprocessing(source: SourceModel) -> None:
    """Refuse preprocessing of pictures or tokens, which a model of a table has no use for.

    :raises BadInputError: if there is any
    """
    if source.preprocessing and source.preprocessing.get("kind") != "columns":
        raise BadInputError(f"{source.location}: a {source.framework} model takes columns; leave preprocessing out")


def name_outputs(model: Any, names: Sequence[str]) -> None:
    """Give the graph's first outputs these names, and drop the others; their first axis is the batch.

    onnxmltools declares it as 1 for the labels of some models. That it is the batch shows when the graph runs.

    :param model: an ``onnx.ModelProto``, changed in place
    :raises ConversionError: if it has fewer
    """
    graph = model.graph
    if len(graph.output) < len(names):
        raise ConversionError(f"the converter wrote {len(graph.output)} outputs, expected {', '.join(names)}")
    del graph.output[len(names) :]
    renamed = {value.name: name for value, name in zip(graph.output, names, strict=True)}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = renamed[value.name]
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"


def answers_of_classes(probabilities: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What a booster's class probabilities ``[rows, classes]`` say, with the classes numbered from 0."""
    return {LABEL: probabilities.argmax(axis=1).astype(np.int64), PROBABILITIES: probabilities}


def write_booster(
    source: SourceModel, path: Path, convert: Callable[[], Any], outputs: Sequence[str], framework_version: str
) -> dict[str, Any]:
    """Write what onnxmltools makes of a booster.

    :param convert: gives the graph
    :param outputs: the names that its outputs shall have
    :return: what a framework's ``to_onnx`` returns
    :raises ConversionError: if onnxmltools gives up
    """
    import onnx
    import onnxmltools

    try:
        graph = convert()
    except Exception as error:  # it raises anything
        raise ConversionError(
            f"{source.location}: onnxmltools could not convert it: {type(error).__name__}: {error}"
        ) from error
    name_outputs(graph, list(outputs))
    onnx.save(graph, str(path))
    return {
        "converter": "onnxmltools",
        "converter_version": onnxmltools.__version__,
        "framework_version": framework_version,
        "preprocessing": None,
    }
