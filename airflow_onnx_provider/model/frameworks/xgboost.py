# SPDX-License-Identifier: Apache-2.0
"""XGBoost as a source: models saved as ``.json`` or ``.ubj``."""

from __future__ import annotations

import json
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
from airflow_onnx_provider.model.source import OTHER_PYTHON, Predictor, SourceModel

NEWEST_CONVERTER_OPSET = 15
"""onnxmltools refuses to be asked for a later one; a tree's operators have not changed since."""

CLASSES = ("binary:logistic", "multi:softprob", "multi:softmax")

NUMBERS = (
    "binary:logitraw",
    "count:poisson",
    "rank:ndcg",
    "rank:pairwise",
    "reg:absoluteerror",
    "reg:gamma",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:tweedie",
)
"""Objectives whose answers onnxmltools 1.16 gets right; for others it leaves out what comes after the trees' sum."""


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX: ``features: float [batch, n]`` → ``label`` and ``probabilities``, or ``prediction``.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` (None)
    :raises BadInputError: if the source cannot be opened
    :raises ConversionError: if onnxmltools gives up
    """
    require_no_preprocessing(source)
    xgboost, booster = _open(source)
    with needs_extra("boosting", "converting an XGBoost model", OTHER_PYTHON):
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

    name, _ = features_of(source, booster.num_features())
    objective = _objective(booster)
    if objective not in (*CLASSES, *NUMBERS) or _targets(booster) > 1:
        raise ConversionError(
            f"{source.location}: the converter does not get {_targets(booster)} target(s) of the objective {objective} "
            f"right; it knows one of {', '.join((*CLASSES, *NUMBERS))}"
        )
    model = xgboost.XGBClassifier() if objective in CLASSES else xgboost.XGBRegressor()
    model.load_model(source.path)
    model.get_booster().feature_names = None  # the converter knows features by number only
    model.get_booster().feature_types = None
    if objective == "multi:softmax":  # the same trees, whose probabilities the converter leaves as raw sums
        model.get_booster().set_param({"objective": "multi:softprob"})
        model.objective = "multi:softprob"
    outputs = [LABEL, PROBABILITIES] if objective in CLASSES else [PREDICTION]
    convert = partial(
        onnxmltools.convert_xgboost,
        model,
        initial_types=[(name, FloatTensorType([None, booster.num_features()]))],
        target_opset=min(opset, NEWEST_CONVERTER_OPSET),
    )
    return write_booster(source, path, convert, outputs, xgboost.__version__)


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function of named arrays."""
    _, booster = _open(source)
    name, _ = features_of(source, booster.num_features())
    objective = _objective(booster)

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = np.asarray(inputs[name], dtype=np.float32)
        if objective == "multi:softmax":  # it answers with the label alone
            margins = booster.inplace_predict(rows, predict_type="margin", validate_features=False)
            powers = np.exp(margins - margins.max(axis=1, keepdims=True))
            return answers_of_classes(powers / powers.sum(axis=1, keepdims=True))
        answers = np.asarray(booster.inplace_predict(rows, validate_features=False))
        if objective == "binary:logistic":
            return answers_of_classes(np.stack([1 - answers, answers], axis=1))
        if objective in CLASSES:
            return answers_of_classes(answers)
        return {PREDICTION: answers.reshape(len(rows), -1)}

    return predict


def _open(source: SourceModel) -> tuple[Any, Any]:
    with needs_extra("boosting", "an XGBoost model", OTHER_PYTHON):
        import xgboost
    if source.path.suffix not in (".json", ".ubj"):
        raise BadInputError(f"{source.location}: XGBoost models end in .json or .ubj (booster.save_model)")
    booster = xgboost.Booster()
    try:
        booster.load_model(source.path)
    except xgboost.core.XGBoostError as error:
        raise BadInputError(f"{source.location} is not an XGBoost model: {str(error).splitlines()[0]}") from error
    if "c" in (booster.feature_types or ()):
        raise ConversionError(f"{source.location} splits on categories, which the converter does not know")
    return xgboost, booster


def _objective(booster: Any) -> str:
    return str(json.loads(booster.save_config())["learner"]["objective"]["name"])


def _targets(booster: Any) -> int:
    return int(json.loads(booster.save_config())["learner"]["learner_model_param"]["num_target"])
