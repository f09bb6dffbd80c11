# SPDX-License-Identifier: Apache-2.0
"""ONNX itself as a source: a file of unknown making, checked before it is copied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.frameworks.pictures import agreed, other_preprocessing, takes_pictures
from airflow_onnx_provider.model.graph import GraphFacts, describe, require_sound
from airflow_onnx_provider.model.source import Predictor, SourceModel
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import import_onnxruntime, open_session


def to_onnx(source: SourceModel, path: Path, opset: int | None) -> dict[str, Any]:
    """Copy ``source`` with its external data, brought to ``opset`` if it is given and another than the file has.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` as said (or None)
    :raises ValidationError: if the file is not sound
    :raises ConversionError: if it cannot be brought to ``opset``
    """
    import onnx

    require_sound(source.path)  # before its external data are touched
    facts = describe(source.path)
    preprocessing = _pictures(source, facts)
    model = onnx.load(str(source.path))
    if opset is not None and opset != facts.opset:
        try:
            model = onnx.version_converter.convert_version(model, opset)
        except Exception as error:  # it raises RuntimeError for all that it cannot do
            raise ConversionError(
                f"{source.location} has opset {facts.opset} and cannot be brought to {opset}: {error}. "
                "Leave opset out to keep it as it is."
            ) from error
    large = model.ByteSize() > _ONE_FILE
    onnx.save(model, str(path), save_as_external_data=large, location=f"{path.name}.data" if large else None)
    return {
        "converter": "onnx",
        "converter_version": onnx.__version__,
        "framework_version": onnx.__version__,
        "preprocessing": preprocessing.to_dict() if preprocessing else other_preprocessing(source),
    }


_ONE_FILE = 2_000_000_000


def open_predictor(source: SourceModel) -> Predictor:
    """The original file in ONNX Runtime as a plain function of named arrays."""
    import_onnxruntime()
    require_sound(source.path)
    session = open_session(source.path)
    outputs = [value.name for value in session.get_outputs()]

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(outputs, map(np.asarray, session.run(outputs, dict(inputs))), strict=True))

    return predict


def _pictures(source: SourceModel, facts: GraphFacts) -> ImagePreprocessing | None:
    shapes = [list(spec.shape) for spec in facts.inputs]
    as_bytes = [spec.type for spec in facts.inputs] == ["uint8"]
    if not takes_pictures(source, shapes) or not (source.preprocessing or as_bytes):
        return None
    if not as_bytes or len(shapes[0]) != 4 or shapes[0][3] != 3:
        found = ", ".join(f"{spec.name}: {spec.type} {list(spec.shape)}" for spec in facts.inputs)
        raise BadInputError(
            f"{source.location}: for pictures, one input uint8 [batch, height, width, 3] is expected, found {found}. "
            "Leave preprocessing out, and fold it into the graph with OnnxOptimizeOperator."
        )
    return agreed(source, shapes[0][1], shapes[0][2])
