# SPDX-License-Identifier: Apache-2.0
"""scikit-learn as a source: ``.skops`` files, and pickles (``.joblib``, ``.pkl``) by explicit trust."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, needs_extra
from airflow_onnx_provider.model.frameworks.columns import (
    FEATURES,
    LABEL,
    PREDICTION,
    PROBABILITIES,
    Columns,
    given_columns,
    name_outputs,
    require_no_preprocessing,
)
from airflow_onnx_provider.model.source import OTHER_PYTHON, Predictor, SourceModel

PICKLES = (".joblib", ".pkl", ".pickle")


def to_onnx(source: SourceModel, path: Path, opset: int) -> dict[str, Any]:
    """Write ``source`` as ONNX.

    A model of several typed columns takes one input ``[batch, 1]`` a column, any other ``features: float [batch, n]``.
    A classifier gives ``label`` and ``probabilities``, a regressor ``prediction``, a transformer ``transformed``,
    anything else that predicts ``label``.

    :return: ``converter`` and ``converter_version``, ``framework_version``, ``preprocessing`` (None), ``labels`` (the
        classes of a classifier that were trained by name, else none)
    :raises BadInputError: if the source cannot be opened safely, or does not say what it takes
    :raises ConversionError: if skl2onnx gives up, with every estimator that it lacks
    """
    require_no_preprocessing(source)
    estimator = _open(source)
    import onnx

    with needs_extra("sklearn", "converting a scikit-learn model", OTHER_PYTHON):
        import skl2onnx
        import sklearn

    columns = _columns(source, estimator)
    _register_boosters()
    try:
        model = skl2onnx.convert_sklearn(
            estimator,
            initial_types=[(name, _tensor_type(name, kind, width)) for name, (kind, width) in columns.items()],
            options={"zipmap": False} if hasattr(estimator, "predict_proba") else None,
            target_opset={"": opset, "ai.onnx.ml": 3},
        )
    except Exception as error:  # skl2onnx raises anything; the name of the model must come first
        lacking = _unsupported(estimator)
        reason = f"there is no converter for {', '.join(lacking)}" if lacking else f"{type(error).__name__}: {error}"
        raise ConversionError(f"{source.location}: skl2onnx could not convert it: {reason}") from error
    name_outputs(model, _outputs(source, estimator))
    onnx.save(model, str(path))
    return {
        "converter": "skl2onnx",
        "converter_version": skl2onnx.__version__,
        "framework_version": sklearn.__version__,
        "preprocessing": None,
        "labels": _class_names(estimator),
    }


def _class_names(estimator: Any) -> list[str]:
    classes = [*getattr(estimator, "classes_", ())]
    return [str(name) for name in classes] if all(isinstance(name, str) for name in classes) else []


def open_predictor(source: SourceModel) -> Predictor:
    """The source model as a plain function of named arrays."""
    estimator = _open(source)
    columns = _columns(source, estimator)
    outputs = _outputs(source, estimator)

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = _table(estimator, {name: np.asarray(inputs[name]) for name in columns})
        return {name: _ANSWERS[name](estimator, rows) for name in outputs}

    return predict


def _predict(estimator: Any, rows: Any) -> NDArray[Any]:
    answers = np.asarray(estimator.predict(rows))
    return answers.astype(np.int64) if answers.dtype.kind in "bi" else answers


def _column(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(-1, 1) if values.ndim == 1 else values


_ANSWERS: Mapping[str, Callable[[Any, Any], NDArray[Any]]] = {
    LABEL: _predict,
    PROBABILITIES: lambda estimator, rows: np.asarray(estimator.predict_proba(rows)),
    PREDICTION: lambda estimator, rows: _column(np.asarray(estimator.predict(rows))),
    "transformed": lambda estimator, rows: np.asarray(estimator.transform(rows)),
}


def _outputs(source: SourceModel, estimator: Any) -> list[str]:
    from sklearn.base import is_classifier, is_regressor

    if is_classifier(estimator):
        return [LABEL, PROBABILITIES] if hasattr(estimator, "predict_proba") else [LABEL]
    if is_regressor(estimator):
        return [PREDICTION]
    if hasattr(estimator, "predict"):
        return [LABEL]
    if hasattr(estimator, "transform"):
        return ["transformed"]
    raise BadInputError(f"{source.location} holds a {type(estimator).__name__}, which neither predicts nor transforms")


def _open(source: SourceModel) -> Any:
    with needs_extra("sklearn", "a scikit-learn model", OTHER_PYTHON):
        import sklearn  # noqa: F401
    if source.path.suffix == ".skops":
        return _open_skops(source)
    if source.path.suffix not in PICKLES:
        raise BadInputError(f"{source.location}: scikit-learn models end in .skops, {', '.join(PICKLES)}")
    if not source.trusted:
        raise BadInputError(
            f"{source.location}: a pickle runs code when it is opened. If you made it or trust its author, say so with "
            "trusted_source=True; a .skops file (skops.io.dump) needs no such trust."
        )
    import joblib

    try:
        return joblib.load(source.path)
    except Exception as error:
        raise BadInputError(f"{source.location} does not open: {type(error).__name__}: {error}") from error


def _open_skops(source: SourceModel) -> Any:
    with needs_extra("sklearn", "a .skops file", OTHER_PYTHON):
        from skops import io
    try:
        unknown = io.get_untrusted_types(file=source.path)
    except Exception as error:
        raise BadInputError(f"{source.location} is not a skops file: {type(error).__name__}: {error}") from error
    if unknown and not source.trusted:
        raise BadInputError(
            f"{source.location} holds types that skops does not trust: {', '.join(sorted(unknown))}. If you made it or "
            "trust its author, say so with trusted_source=True."
        )
    try:
        return io.load(source.path, trusted=unknown)
    except Exception as error:
        raise BadInputError(f"{source.location} does not open: {type(error).__name__}: {error}") from error


def _columns(source: SourceModel, estimator: Any) -> Columns:
    if given := given_columns(source):
        if len(given) > 1 and any(width != 1 for _, width in given.values()):
            raise BadInputError(f"{source.location}: each of several inputs must be one column, got {given}")
        return given
    width = getattr(estimator, "n_features_in_", None)
    if width is None:
        raise BadInputError(
            f"{source.location}: the {type(estimator).__name__} does not say what it takes; give inputs, such as "
            '{"text": {"type": "string", "shape": ["batch", 1]}}'
        )
    names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
    texts = _texts(_first(estimator), names)
    if names and _is_column_transformer(_first(estimator)):
        return {name: ("string" if name in texts else "float", 1) for name in names}
    if texts and len(texts) < width:
        raise BadInputError(
            f"{source.location} takes texts and numbers without column names; fit it on a DataFrame, or give inputs"
        )
    return {FEATURES: ("string" if texts else "float", int(width))}


def _first(estimator: Any) -> Any:
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[0][1]
    return estimator


def _is_column_transformer(estimator: Any) -> bool:
    return hasattr(estimator, "transformers_")


def _texts(estimator: Any, names: list[str]) -> set[Any]:
    """The columns, by name or position, that the first step treats as texts."""
    if not _is_column_transformer(estimator):
        kinds = [np.asarray(values).dtype.kind for values in getattr(estimator, "categories_", ())]
        return {index for index, kind in enumerate(kinds) if kind in "OUS"}
    found: set[Any] = set()
    for _, step, chosen in estimator.transformers_:
        columns = [chosen] if isinstance(chosen, (str, int)) else list(chosen)
        columns = [names[column] if names and isinstance(column, (int, np.integer)) else column for column in columns]
        first = _first(step)
        if hasattr(first, "categories_"):
            found |= {columns[index] for index in _texts(first, [])}
        elif hasattr(first, "vocabulary_"):  # of a vectorizer of texts
            found |= set(columns)
    return found


def _table(estimator: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    names = getattr(estimator, "feature_names_in_", None)
    if len(arrays) > 1:
        import pandas as pd

        return pd.DataFrame({name: values[:, 0] for name, values in arrays.items()})
    (values,) = arrays.values()
    if names is not None:
        import pandas as pd

        return pd.DataFrame(values, columns=list(names))
    alone = values.dtype.kind in "OUS" and values.shape[1] == 1 and not hasattr(estimator, "n_features_in_")
    return values[:, 0] if alone else values  # a vectorizer takes texts, not rows of them


def _tensor_type(name: str, kind: str, width: int) -> Any:
    from skl2onnx.common import data_types

    known = {
        "float": data_types.FloatTensorType,
        "double": data_types.DoubleTensorType,
        "int64": data_types.Int64TensorType,
        "string": data_types.StringTensorType,
        "bool": data_types.BooleanTensorType,
    }
    if kind not in known:
        raise BadInputError(f"inputs: {name} has the type {kind!r}; scikit-learn models take {', '.join(known)}")
    return known[kind]([None, width])


def _unsupported(estimator: Any) -> list[str]:
    from skl2onnx import supported_converters
    from skl2onnx.helpers import enumerate_pipeline_models

    known = set(supported_converters(from_sklearn=True))
    kinds = {type(model) for _, model, _ in enumerate_pipeline_models(estimator)}
    return sorted(
        f"{kind.__module__.split('.')[0]}.{kind.__name__}"
        for kind in kinds
        if kind.__name__ not in known
        and not kind.__module__.startswith(("sklearn.pipeline", "sklearn.compose", "builtins"))
    )


def _register_boosters() -> None:
    """Let pipelines hold boosters, which skl2onnx knows only through onnxmltools; a model brought its library along."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    if "xgboost" in sys.modules:
        with needs_extra("boosting", "converting a pipeline with XGBoost", OTHER_PYTHON):
            from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
            from xgboost import XGBClassifier, XGBRegressor

        boosters = [("Xgb", XGBClassifier, XGBRegressor, convert_xgboost)]
    else:
        boosters = []
    if "lightgbm" in sys.modules:
        with needs_extra("boosting", "converting a pipeline with LightGBM", OTHER_PYTHON):
            from lightgbm import LGBMClassifier, LGBMRegressor
            from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        boosters.append(("LightGbm", LGBMClassifier, LGBMRegressor, convert_lightgbm))
    for name, classifier, regressor, convert in boosters:
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
        update_registered_converter(
            classifier, f"{name}Classifier", calculate_linear_classifier_output_shapes, convert, options=options
        )
        update_registered_converter(regressor, f"{name}Regressor", calculate_linear_regressor_output_shapes, convert)
