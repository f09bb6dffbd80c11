# SPDX-License-Identifier: Apache-2.0
"""LightGBM as a source: models saved as text (``booster.save_model``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, needs_extra
from airflow_onnx_provider.model.frameworks.columns import (
    LABEL,
    PREDICTION,
    PROBABILITIES,
    answers_of_classes,
    features_of,
    require_no_preprocessing,
    write_booster,
)
from airflow_onnx_provider.model.frameworks.xgboost import NEWEST_CONVERTER_OPSET
from airflow_onnx_provider.model.source import OTHER_PYTHON, Predictor, SourceModel

CLASSES = ("binary", "multiclass")


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX: ``features: float [batch, n]`` → ``label`` and ``probabilities``, or ``prediction``.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` (None)
    :raises BadInputError: if the source cannot be opened
    :raises ConversionError: if onnxmltools gives up
    """
    require_no_preprocessing(source)
    lightgbm, booster = _open(source)
    with needs_extra("boosting", "converting a LightGBM model", OTHER_PYTHON):
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

    name, _ = features_of(source, booster.num_feature())
    if _objective(booster) == "multiclassova":
        raise ConversionError(
            f"{source.location}: the converter gets the probabilities of the objective multiclassova wrong; train with "
            "multiclass"
        )
    outputs = [LABEL, PROBABILITIES] if _objective(booster) in CLASSES else [PREDICTION]
    convert = partial(
        onnxmltools.convert_lightgbm,
        booster,
        initial_types=[(name, FloatTensorType([None, booster.num_feature()]))],
        target_opset=min(opset, NEWEST_CONVERTER_OPSET),
        zipmap=False,
    )
    return write_booster(source, path, convert, outputs, lightgbm.__version__)


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function of named arrays."""
    _, booster = _open(source)
    name, _ = features_of(source, booster.num_feature())
    objective = _objective(booster)

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        answers = np.asarray(booster.predict(np.asarray(inputs[name], dtype=np.float32)))
        if objective == "binary":
            return answers_of_classes(np.stack([1 - answers, answers], axis=1))
        if objective in CLASSES:
            return answers_of_classes(answers)
        return {PREDICTION: answers.reshape(len(answers), -1)}

    return predict


def _open(source: SourceModel) -> tuple[Any, Any]:
    with needs_extra("boosting", "a LightGBM model", OTHER_PYTHON):
        import lightgbm
    try:
        return lightgbm, lightgbm.Booster(model_file=source.path, params={"verbosity": -1})
    except Exception as error:  # LightGBMError, and UnicodeDecodeError for what is no text
        raise BadInputError(f"{source.location} is not a LightGBM model: {error}") from error


def _objective(booster: Any) -> str:
    """The first word of it; its parameters follow."""
    return str(booster.dump_model(num_iteration=1).get("objective", "")).split(" ")[0]
