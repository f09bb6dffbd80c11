# SPDX-License-Identifier: Apache-2.0
"""Real architectures and estimators of every framework: converted, sound, run at 1, 2 and N rows, with stated parity.

Each framework's models are built and converted together, so that its import is paid for once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from airflow_onnx_provider.model.convert import convert, convert_in_child
from airflow_onnx_provider.model.evidence.parity import ParityLimits, require_parity
from airflow_onnx_provider.model.graph import require_sound
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import open_session

ROWS = 16
RNG = np.random.default_rng(3)


class ThisProcess:
    """Runs the converter where the test runs: a framework is loaded once, not once a test."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "convert"
        return convert_in_child(settings)


@dataclass(frozen=True)
class Case:
    """One model that a user could have, and what its graph must be.

    :param inputs: real rows; the graph's inputs must be these, with the batch first
    :param outputs: the graph's outputs
    :param limits: how far its answers may be from the source's
    """

    source: SourceModel
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, tuple[str, tuple[int | str, ...]]]
    limits: ParityLimits = field(default_factory=lambda: ParityLimits(max_difference=1e-5))
    opset: int | None = None


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(size=(ROWS, *shape)).astype(np.float32)


def pictures(size: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (ROWS, size, size, 3), dtype=np.uint8)


def check(case: Case, folder: Path) -> ModelManifest:
    """Convert, then compare with the source at three batch sizes."""
    store = ModelStore(folder / "store")
    made = convert(case.source, name="model", store=store, stage=ThisProcess(), opset=case.opset)  # type: ignore[arg-type]
    manifest = store.manifest(made["model"])
    assert manifest.opset == made["opset"] == (case.opset or 18)
    assert {spec.name: (spec.type, spec.shape) for spec in manifest.outputs} == dict(case.outputs)
    assert {spec.name: spec.shape[0] for spec in manifest.inputs} == dict.fromkeys(case.inputs, "batch")

    path = Path(made["model"]) / MODEL_NAME
    require_sound(path)
    source = SourceModel.from_origin(manifest)
    source.require_digest(manifest.origin["sha256"])
    expected = source.module().open_predictor(source)(case.inputs)
    session = open_session(path)
    names = [spec.name for spec in manifest.outputs]
    assert set(expected) == set(names)
    for size in (1, 2, ROWS):
        pieces = [
            session.run(names, {name: values[start : start + size] for name, values in case.inputs.items()})
            for start in range(0, ROWS, size)
        ]
        answers = {name: np.concatenate(parts) for name, parts in zip(names, zip(*pieces, strict=True), strict=True)}
        parity = require_parity(answers, expected, case.limits, f"batch size {size}")
    print(f"| {folder.name} | {parity.max_difference:.2g} | {parity.label_agreement:.0%} |")
    return manifest


@pytest.fixture(scope="module")
def keras_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    import keras

    folder = tmp_path_factory.mktemp("keras")
    keras.utils.set_random_seed(1)
    layers = keras.layers

    def saved(name: str, model: Any) -> SourceModel:
        model.save(folder / f"{name}.keras")
        return SourceModel(str(folder / f"{name}.keras"), "tensorflow")

    picture = keras.Input((12, 12, 3), name="picture")
    stem = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(picture))
    block = layers.BatchNormalization()(layers.SeparableConv2D(8, 3, padding="same")(stem))
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([stem, block]))
    residual = keras.Model(picture, layers.Dense(5, activation="softmax")(pooled))

    rows = [keras.Input((6,), name="rows"), layers.Dense(16, activation="gelu"), layers.Dropout(0.5)]
    normalization = layers.Normalization()
    normalization.adapt(floats(6) * 7 + 3)

    steps = keras.Input((9, 4), name="steps")
    memory = layers.LSTM(6)(layers.Bidirectional(layers.LSTM(5, return_sequences=True))(steps))
    series = keras.Input((None, 8), name="series")
    attended = layers.MultiHeadAttention(num_heads=2, key_dim=4)(series, series)
    attention = layers.LayerNormalization()(layers.Add()([series, attended]))
    mean = layers.Dense(2, name="mean")(layers.GlobalAveragePooling1D()(attention))

    numbers, codes = keras.Input((4,), name="numbers"), keras.Input((1,), dtype="int32", name="codes")
    embedded = layers.Flatten()(layers.Embedding(5, 3)(codes))
    joined = layers.Concatenate()([numbers, embedded])
    price = layers.Dense(1, name="price")(joined)
    kind = layers.Dense(3, activation="softmax", name="kind")(joined)

    return {
        "functional": Case(saved("functional", residual), {"image": pictures(12)}, {"scores": ("float", ("batch", 5))}),
        "sequential": Case(
            saved("sequential", keras.Sequential([*rows, layers.Dense(3, name="scores", activation="softmax")])),
            {"rows": floats(6)},
            {"scores": ("float", ("batch", 3))},
        ),
        "normalization": Case(
            saved("normalization", keras.Sequential([rows[0], normalization, layers.Dense(2, name="out")])),
            {"rows": floats(6) * 7 + 3},
            {"out": ("float", ("batch", 2))},
        ),
        "lstm": Case(
            saved("lstm", keras.Model(steps, layers.Dense(1, name="next")(memory))),
            {"steps": floats(9, 4)},
            {"next": ("float", ("batch", 1))},
        ),
        "attention": Case(
            saved("attention", keras.Model(series, mean)),
            {"series": floats(7, 8)},
            {"mean": ("float", ("batch", 2))},
            opset=17,
        ),
        "multi-input": Case(
            saved("multi", keras.Model({"numbers": numbers, "codes": codes}, {"price": price, "kind": kind})),
            {"numbers": floats(4), "codes": RNG.integers(0, 5, (ROWS, 1)).astype(np.int32)},
            {"price": ("float", ("batch", 1)), "kind": ("float", ("batch", 3))},
        ),
    }


@pytest.mark.parametrize("name", ["functional", "sequential", "normalization", "lstm", "attention", "multi-input"])
def test_keras(keras_models: dict[str, Case], tmp_path: Path, name: str) -> None:
    check(keras_models[name], tmp_path)


def test_a_saved_model_by_the_signature_that_is_chosen(tmp_path: Path) -> None:
    import tensorflow as tf

    class Scorer(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(tf.ones((4, 2)))

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": x @ self.weights}

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def twice(self, x: Any) -> Any:
            return {"b": x @ self.weights * 2, "a": x}

    scorer = Scorer()
    signatures = {"serving_default": scorer.serve, "twice": scorer.twice}
    tf.saved_model.save(scorer, str(tmp_path / "saved"), signatures=signatures)
    source = SourceModel(str(tmp_path / "saved"), "tensorflow", signature="twice", trusted=True)
    check(Case(source, {"x": floats(4)}, {"a": ("float", ("batch", 4)), "b": ("float", ("batch", 2))}), tmp_path)


@pytest.fixture(scope="module")
def torch_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    import torch

    from tests.model.networks import Cnn, Encoder, Gate

    folder = tmp_path_factory.mktemp("torch")
    torch.manual_seed(1)
    cnn, encoder, gate = Cnn().eval(), Encoder().eval(), Gate().eval()
    torch.save(cnn.state_dict(), folder / "cnn.pt")
    torch.save({"state_dict": encoder.state_dict()}, folder / "encoder.pt")
    torch.jit.script(gate).save(str(folder / "gate.pt"))
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(cnn, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=(batch,))
    torch.export.save(program, folder / "cnn.pt2")

    tokens = {"type": "int64", "shape": ["batch", "tokens"]}
    scaled = {"height": 8, "width": 8, "scale": 1 / 255, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.2]}
    ids = RNG.integers(1, 50, (ROWS, 11))
    mask = (np.arange(11) < RNG.integers(1, 12, (ROWS, 1))).astype(np.int64)
    return {
        "cnn": Case(
            SourceModel(str(folder / "cnn.pt"), "torch", scaled, factory="tests.model.networks:cnn"),
            {"image": pictures(8)},
            {"scores": ("float", ("batch", 3))},
        ),
        "transformer": Case(
            SourceModel(
                str(folder / "encoder.pt"),
                "torch",
                {"kind": "tokens", "input_ids": "input_ids", "attention_mask": "attention_mask"},
                {"input_ids": tokens, "attention_mask": tokens},
                factory="tests.model.networks:encoder",
            ),
            {"input_ids": ids, "attention_mask": mask},
            {"logits": ("float", ("batch", 4)), "hidden": ("float", ("batch", "tokens", 16))},
        ),
        "torchscript": Case(
            SourceModel(
                str(folder / "gate.pt"), "torch", inputs={"x": {"type": "float", "shape": ["batch", 6]}}, trusted=True
            ),
            {"x": floats(6)},
            {"output": ("float", ("batch", 6))},
            opset=17,
        ),
        "exported": Case(
            SourceModel(str(folder / "cnn.pt2"), "torch", trusted=True),
            {"pixels": floats(3, 8, 8)},
            {"output": ("float", ("batch", 3))},
        ),
    }


@pytest.mark.parametrize("name", ["cnn", "transformer", "torchscript", "exported"])
def test_torch(torch_models: dict[str, Case], tmp_path: Path, name: str) -> None:
    check(torch_models[name], tmp_path)


@pytest.fixture(scope="module")
def table_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    import joblib
    import lightgbm
    import pandas as pd
    import xgboost
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
    from skops import io

    folder = tmp_path_factory.mktemp("tables")
    rows = RNG.normal(size=(400, 5)).astype(np.float32)
    binary, three = (rows[:, 0] > rows[:, 1]).astype(int), np.digitize(rows[:, 2], [-0.5, 0.5])
    colours = np.array(["red", "green", "blue"])[three]
    frame = pd.DataFrame({"colour": colours, "size": rows[:, 0], "age": rows[:, 1]})
    names = np.array(["no", "yes"])[binary]
    columns = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), ["colour"]), ("numbers", StandardScaler(), ["size", "age"])]
    )
    strings = make_pipeline(columns, LogisticRegression()).fit(frame, names)
    io.dump(strings, folder / "strings.skops")
    io.dump(RandomForestClassifier(10, random_state=0).fit(rows, three), folder / "forest.skops")
    joblib.dump(HistGradientBoostingRegressor(max_iter=10).fit(rows, rows.sum(axis=1)), folder / "histogram.joblib")
    boosted = make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(n_estimators=5, verbose=-1)).fit(rows, binary)
    joblib.dump(boosted, folder / "boosted.pkl")
    xgboost.XGBClassifier(n_estimators=8).fit(rows, binary).save_model(folder / "binary.json")
    xgboost.XGBRegressor(n_estimators=8).fit(frame[["size", "age"]], rows.sum(axis=1)).save_model(folder / "line.ubj")
    lightgbm.LGBMClassifier(n_estimators=8, verbose=-1).fit(rows, three).booster_.save_model(folder / "three.txt")
    lightgbm.LGBMRegressor(n_estimators=8, verbose=-1).fit(rows, rows[:, 0]).booster_.save_model(folder / "line.txt")

    classes: dict[int, dict[str, Any]] = {
        count: {"label": ("int64", ("batch",)), "probabilities": ("float", ("batch", count))} for count in (2, 3)
    }
    number = {"prediction": ("float", ("batch", 1))}

    def case(file: str, framework: str, outputs: dict[str, Any], width: int = 5, *, trusted: bool = False) -> Case:
        source = SourceModel(str(folder / file), framework, trusted=trusted)
        return Case(source, {"features": rows[:ROWS, :width]}, outputs)

    return {
        "strings": Case(
            SourceModel(str(folder / "strings.skops"), "sklearn"),
            {
                "colour": colours[:ROWS, None].astype(object),
                "size": rows[:ROWS, :1],
                "age": rows[:ROWS, 1:2],
            },
            {"label": ("string", ("batch",)), "probabilities": ("float", ("batch", 2))},
        ),
        "forest": case("forest.skops", "sklearn", classes[3], trusted=True),
        "histogram": case("histogram.joblib", "sklearn", number, trusted=True),
        "boosted pipeline": case("boosted.pkl", "sklearn", classes[2], trusted=True),
        "xgboost": case("binary.json", "xgboost", classes[2]),
        "xgboost regressor": case("line.ubj", "xgboost", number, 2),
        "lightgbm": case("three.txt", "lightgbm", classes[3]),
        "lightgbm regressor": case("line.txt", "lightgbm", number),
    }


@pytest.mark.parametrize(
    "name",
    [
        "strings",
        "forest",
        "histogram",
        "boosted pipeline",
        "xgboost",
        "xgboost regressor",
        "lightgbm",
        "lightgbm regressor",
    ],
)
def test_tables(table_models: dict[str, Case], tmp_path: Path, name: str) -> None:
    check(table_models[name], tmp_path)


@pytest.mark.parametrize("opset", [None, 15])
def test_an_imported_onnx_file(tmp_path: Path, opset: int | None) -> None:
    from tests.runtime.tiny import CLASSIFIER, write_onnx

    write_onnx(tmp_path / "own.onnx", CLASSIFIER)
    source = SourceModel(str(tmp_path / "own.onnx"), "onnx")
    manifest = check(Case(source, {"image": pictures(4)}, {"scores": ("float", ("batch", 3))}, opset=opset), tmp_path)
    assert manifest.preprocessing is not None
