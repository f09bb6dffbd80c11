# SPDX-License-Identifier: Apache-2.0
"""scikit-learn, XGBoost and LightGBM as sources: what they refuse, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, ConversionError
from airflow_onnx_provider.model.source import SourceModel

ROWS = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
CLASSES = (ROWS[:, 0] > 0).astype(int)


def to_onnx(path: Path, framework: str, **more: Any) -> Any:
    source = SourceModel(str(path), framework, **more)
    return source.module().to_onnx(source, path.with_name("model.onnx"), 18)


def test_every_estimator_without_a_converter_is_listed(tmp_path: Path) -> None:
    import joblib
    from sklearn.cluster import FeatureAgglomeration
    from sklearn.isotonic import IsotonicRegression
    from sklearn.pipeline import make_pipeline

    rows = ROWS[:, :2]
    made = make_pipeline(FeatureAgglomeration(n_clusters=1), IsotonicRegression()).fit(rows, CLASSES)
    joblib.dump(made, tmp_path / "odd.pkl")

    with pytest.raises(
        ConversionError, match=r"no converter for sklearn\.FeatureAgglomeration, sklearn\.IsotonicRegression"
    ):
        to_onnx(tmp_path / "odd.pkl", "sklearn", trusted=True)


@pytest.mark.parametrize(
    ("classes", "labels"), [(np.array(["stays", "leaves"])[CLASSES], ["leaves", "stays"]), (CLASSES, [])]
)
def test_classes_that_have_names_are_the_labels(tmp_path: Path, classes: Any, labels: list[str]) -> None:
    from sklearn.linear_model import LogisticRegression
    from skops import io

    io.dump(LogisticRegression().fit(ROWS, classes), tmp_path / "churn.skops")
    assert to_onnx(tmp_path / "churn.skops", "sklearn")["labels"] == labels


def test_texts_without_column_names_must_be_said(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from skops import io

    texts = ["red car", "blue car", "red bike", "blue bike"]
    io.dump(make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [0, 1, 0, 1]), tmp_path / "texts.skops")

    with pytest.raises(BadInputError, match=r'does not say what it takes; give inputs, such as {"text": '):
        to_onnx(tmp_path / "texts.skops", "sklearn")
    inputs = {"text": {"type": "string", "shape": ["batch", 1]}}
    to_onnx(tmp_path / "texts.skops", "sklearn", inputs=inputs)
    source = SourceModel(str(tmp_path / "texts.skops"), "sklearn", inputs=inputs)
    answers = source.module().open_predictor(source)({"text": np.array([["red car"], ["blue"]], dtype=object)})
    assert answers["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("name", "framework", "message"),
    [
        ("model.bin", "sklearn", r"scikit-learn models end in \.skops, \.joblib"),
        ("model.skops", "sklearn", r"is not a skops file: BadZipFile"),
        ("model.txt", "xgboost", r"XGBoost models end in \.json or \.ubj"),
        ("model.json", "xgboost", r"is not an XGBoost model: "),
        ("model.txt", "lightgbm", r"is not a LightGBM model: "),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, name: str, framework: str, message: str) -> None:
    (tmp_path / name).write_text("this is no model")

    with pytest.raises(BadInputError, match=message):
        to_onnx(tmp_path / name, framework)


def test_settings_that_do_not_fit_a_booster(tmp_path: Path) -> None:
    import lightgbm
    import xgboost

    xgboost.XGBClassifier(n_estimators=2).fit(ROWS, CLASSES).save_model(tmp_path / "x.json")
    lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(ROWS, CLASSES).booster_.save_model(tmp_path / "l.txt")
    for path, framework in ((tmp_path / "x.json", "xgboost"), (tmp_path / "l.txt", "lightgbm")):
        with pytest.raises(BadInputError, match=r"one input of 4 features in float, inputs says .*3"):
            to_onnx(path, framework, inputs={"x": {"type": "float", "shape": ["batch", 3]}})
        with pytest.raises(BadInputError, match=f"a {framework} model takes columns; leave preprocessing out"):
            to_onnx(path, framework, preprocessing={"height": 4, "width": 4})


@pytest.mark.parametrize(
    "objective",
    ["reg:squarederror", "reg:tweedie", "count:poisson", "reg:gamma", "multi:softmax", "multi:softprob"],
)
def test_each_objective_of_xgboost_that_is_converted_gives_the_same_answers(tmp_path: Path, objective: str) -> None:
    import xgboost

    from airflow_onnx_provider.runtime.session import open_session

    target = np.digitize(ROWS[:, 0], [-0.5, 0.5]) if objective.startswith("multi") else np.abs(ROWS[:, 0]) / 4 + 0.01
    given = {"objective": objective, **({"num_class": 3} if objective.startswith("multi") else {})}
    booster = xgboost.train(given, xgboost.DMatrix(ROWS, target), num_boost_round=4)
    booster.save_model(tmp_path / "m.ubj")
    to_onnx(tmp_path / "m.ubj", "xgboost")

    source = SourceModel(str(tmp_path / "m.ubj"), "xgboost")
    expected = source.module().open_predictor(source)({"features": ROWS})
    session = open_session(tmp_path / "model.onnx")
    names = [value.name for value in session.get_outputs()]
    answers = dict(zip(names, session.run(names, {"features": ROWS}), strict=True))
    for name, values in expected.items():
        assert answers[name] == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize(("objective", "targets"), [("reg:logistic", 1), ("survival:cox", 1), ("reg:squarederror", 2)])
def test_those_that_the_converter_gets_wrong_are_refused(tmp_path: Path, objective: str, targets: int) -> None:
    import xgboost

    target = np.abs(ROWS[:, :targets]) / 5 + 0.01
    booster = xgboost.train({"objective": objective}, xgboost.DMatrix(ROWS, target), num_boost_round=2)
    booster.save_model(tmp_path / "m.ubj")

    with pytest.raises(
        ConversionError, match=rf"does not get {targets} target\(s\) of the objective {objective} right"
    ):
        to_onnx(tmp_path / "m.ubj", "xgboost")
