# SPDX-License-Identifier: Apache-2.0
"""Real Keras and TensorFlow models through the real converter; the only tests that import TensorFlow."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, DigestMismatchError, OnnxProviderError
from airflow_onnx_provider.model.convert import convert, convert_in_child
from airflow_onnx_provider.model.evidence.parity import ParityLimits
from airflow_onnx_provider.model.evidence.samples import load_samples
from airflow_onnx_provider.model.graph import describe
from airflow_onnx_provider.model.quantize import QuantizeLimits, quantize
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.model.validate import validate
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, TensorSpec
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.session import load_model, open_session
from tests.runtime.tiny import LABELS

SIZE = 8


class ThisProcess:
    """Runs the converter where the test runs: TensorFlow is loaded once, not once a test."""

    def run(self, name: str, settings: Mapping[str, Any], memory_mb: int | None = None) -> dict[str, Any]:
        assert name == "convert"
        return convert_in_child(settings)


@dataclass
class Models:
    """Model files that a user could have."""

    folder: Path
    canary: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    import keras
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("sources")
    canary = folder / "canary"
    keras.utils.set_random_seed(0)

    def network(*first: Any) -> Any:
        return keras.Sequential(
            [
                keras.Input((SIZE, SIZE, 3)),
                *first,
                keras.layers.Conv2D(16, 3, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )

    classifier = network(keras.layers.Rescaling(1 / 255))
    classifier.save(folder / "classifier.keras")
    classifier.save(folder / "classifier.h5")
    classifier.export(folder / "classifier", verbose=False)

    normalization = keras.layers.Normalization(mean=[100.0, 110.0, 120.0], variance=[50.0, 60.0, 70.0])
    network(normalization).save(folder / "normalization.keras")

    command = f"touch {canary}"
    layer = keras.layers.Lambda(lambda x: (__import__("os").system(command), x)[1], output_shape=(SIZE, SIZE, 3))
    sneaky = network(layer)
    sneaky.save(folder / "lambda.keras")
    sneaky.save(folder / "lambda.h5")
    canary.unlink(missing_ok=True)  # building the model ran it

    two = keras.Input((SIZE, SIZE, 3)), keras.Input((SIZE, SIZE, 3))
    joined = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()(two))
    keras.Model(two, joined).save(folder / "two-inputs.keras")
    keras.Sequential([keras.Input((20,)), keras.layers.Dense(3)]).save(folder / "tabular.keras")
    keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()]).save(folder / "open.keras")

    class Svd(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image")])
        def serve(self, image: Any) -> Any:
            return {"scores": tf.linalg.svd(tf.reduce_mean(image, axis=3), compute_uv=False)[:, :3]}

    svd = Svd()
    tf.saved_model.save(svd, str(folder / "svd"), signatures={"serving_default": svd.serve})

    (folder / "text.keras").write_text("this is no model")
    (folder / "empty").mkdir()
    (folder / "weights.pt").write_bytes(b"PK")
    return Models(folder, canary)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def converted(store: ModelStore, path: Path, stage: Any = None, **changes: Any) -> dict[str, Any]:
    trusted, preprocessing = changes.pop("trusted", False), changes.pop("preprocessing", {})
    source = SourceModel(str(path), changes.pop("framework", "tensorflow"), preprocessing, trusted=trusted)
    given = {"name": "classifier", "labels": LABELS, "opset": 18, **changes}
    return convert(source, store=store, stage=stage or ThisProcess(), **given)


def test_the_same_network_from_another_file_is_the_same_version_with_the_new_origin(
    models: Models, store: ModelStore, stage: Stage, tmp_path: Path
) -> None:
    # In processes of their own, as in production: within one process Keras counts its names on.
    first = converted(store, models["classifier.keras"], stage)
    saved_again = tmp_path / "again.keras"
    with zipfile.ZipFile(models["classifier.keras"]) as old, zipfile.ZipFile(saved_again, "w") as new:
        for name in reversed(old.namelist()):
            new.writestr(name, old.read(name))

    again = converted(store, saved_again, stage)

    assert (again["model"], again["from_store"]) == (first["model"], False)
    assert store.manifest(again["model"]).origin["source"] == str(saved_again)


def test_a_keras_model_is_converted_validated_and_quantised_in_processes_of_their_own(
    models: Models, store: ModelStore, stage: Stage, pictures: Path, lines: list[str]
) -> None:
    made = converted(store, models["classifier.keras"], stage, memory_mb=4096)
    assert converted(store, models["classifier.keras"], stage) == {**made, "from_store": True}

    limits = ParityLimits(inputs=6)
    checked = validate(made["model"], inputs=pictures, limits=limits, store=store, stage=stage, memory_mb=8192)
    assert (checked["model"], checked["from_store"]) == (made["model"], False)
    assert checked["checks"]["rows"] == 6
    assert checked["checks"]["batch_6"]["max_difference"] <= 1e-4
    assert validate(made["model"], inputs=pictures, limits=limits, store=store, stage=stage, memory_mb=8192)[
        "from_store"
    ]

    anyway = QuantizeLimits(mode="static", min_speedup=0.0, max_accuracy_drop=1.0, calibration_rows=6)
    small = quantize(made["model"], calibration=pictures, labelled=pictures, limits=anyway, store=store, stage=stage)
    assert small["accepted"] is True
    manifest = store.manifest(small["model"])
    assert manifest.origin["parent"] == made["version"]
    assert manifest.origin["framework"] == "tensorflow"
    with store.local(small["model"]) as folder:
        assert load_model(folder, small["digest"]).golden_difference <= 0.02
    assert not [line for line in lines if "Fatal Python error" in line]


@pytest.mark.parametrize(
    ("name", "trusted"), [("classifier.keras", False), ("classifier.h5", False), ("classifier", True)]
)
def test_each_format_gives_the_same_graph_and_the_sources_answers(
    models: Models, store: ModelStore, pictures: Path, name: str, trusted: bool
) -> None:
    made = converted(store, models[name], trusted=trusted)
    manifest = store.manifest(made["model"])

    assert (made["from_store"], made["version"]) == (False, manifest.version)
    assert manifest.inputs == (TensorSpec("image", "uint8", ("batch", SIZE, SIZE, 3)),)
    assert manifest.outputs == (TensorSpec("scores", "float", ("batch", 3)),)
    assert (manifest.opset, manifest.labels) == (18, LABELS)
    assert manifest.origin["framework"] == "tensorflow"
    assert manifest.origin["converter"] == "tf2onnx"
    assert manifest.origin["trusted"] is trusted

    source = SourceModel(str(models[name]), "tensorflow", trusted=trusted)
    inputs = load_samples(pictures, 5, manifest, "test").inputs
    session = open_session(Path(made["model"]) / MODEL_NAME)
    (scores,) = session.run(["scores"], dict(inputs))
    assert scores == pytest.approx(source.module().open_predictor(source)(inputs)["scores"], abs=1e-5)


def test_scale_mean_and_std_are_folded_into_the_graph(models: Models, store: ModelStore, pictures: Path) -> None:
    preprocessing = {"scale": 0.5, "mean": [10, 20, 30], "std": [2, 3, 4]}
    made = converted(store, models["classifier.keras"], preprocessing=preprocessing)

    assert store.manifest(made["model"]).preprocessing == ImagePreprocessing(
        SIZE, SIZE, "stretch", 0.5, (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    )
    inputs = load_samples(pictures, 5, store.manifest(made["model"]), "test").inputs["image"]
    (scores,) = open_session(Path(made["model"]) / MODEL_NAME).run(None, {"image": inputs})
    import keras

    by_hand = (inputs * 0.5 - np.array([10, 20, 30])) / np.array([2, 3, 4])
    expected = keras.models.load_model(models["classifier.keras"], compile=False)(by_hand.astype(np.float32))
    assert scores == pytest.approx(np.asarray(expected), abs=1e-5)


def test_a_model_that_leaves_its_size_open_takes_the_given_one(models: Models, store: ModelStore) -> None:
    with pytest.raises(BadInputError, match="the model leaves its height open; give it in preprocessing"):
        converted(store, models["open.keras"])

    made = converted(store, models["open.keras"], preprocessing={"height": 6, "width": 9})
    assert describe(Path(made["model"]) / MODEL_NAME).inputs[0].shape == ("batch", 6, 9, 3)


def test_what_decides_the_result_is_asked_before_the_store_answers(models: Models, store: ModelStore) -> None:
    made = converted(store, models["classifier.keras"])
    again = converted(store, models["classifier.keras"])
    relabelled = converted(store, models["classifier.keras"], labels=("a", "b", "c"))

    assert (made["from_store"], again["from_store"], relabelled["from_store"]) == (False, True, False)
    assert again["model"] == made["model"] != relabelled["model"]


def test_a_source_that_changed_since_cannot_be_validated(
    models: Models, store: ModelStore, stage: Stage, pictures: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.keras"
    copy.write_bytes(models["classifier.keras"].read_bytes())
    made = converted(store, copy)
    copy.write_bytes(models["normalization.keras"].read_bytes())

    with pytest.raises(DigestMismatchError, match="changed since it was converted; run the convert task again"):
        validate(made["model"], inputs=pictures, limits=ParityLimits(), store=store, stage=stage, memory_mb=8192)


def test_the_constants_of_a_normalization_layer_become_constants_of_the_graph(
    models: Models, store: ModelStore, pictures: Path
) -> None:
    """Such a layer keeps them outside the weights, and tf2onnx alone would make inputs of them."""
    made = converted(store, models["normalization.keras"])
    manifest = store.manifest(made["model"])
    assert manifest.inputs == (TensorSpec("image", "uint8", ("batch", SIZE, SIZE, 3)),)

    source = SourceModel.from_origin(manifest)
    inputs = load_samples(pictures, 5, manifest, "test").inputs
    (scores,) = open_session(Path(made["model"]) / MODEL_NAME).run(None, dict(inputs))
    assert scores == pytest.approx(source.module().open_predictor(source)(inputs)["scores"], abs=1e-5)


def test_a_conversion_that_needs_more_memory_than_it_may_have(models: Models, store: ModelStore, stage: Stage) -> None:
    """TensorFlow reserves more address space than it ever uses: the limit is on what a process can write to."""
    with pytest.raises(OnnxProviderError, match="300 MiB of memory"):
        converted(store, models["classifier.keras"], stage, memory_mb=300)
    assert not (Path(str(store.root)) / "classifier").exists()


def test_an_operator_that_onnx_does_not_have_is_named(models: Models, store: ModelStore) -> None:
    with pytest.raises(ConversionError, match=r"svd cannot be converted: .*ONNX opset 18 has no operator .*Svd"):
        converted(store, models["svd"], trusted=True)
    assert not (Path(str(store.root)) / "classifier").exists()


def test_a_saved_model_needs_trust(models: Models, store: ModelStore) -> None:
    with pytest.raises(BadInputError, match=r"a SavedModel is code .* say so with trusted_source=True"):
        converted(store, models["classifier"])


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_code_inside_a_keras_file_is_refused_and_does_not_run(models: Models, store: ModelStore, name: str) -> None:
    with pytest.raises(BadInputError, match=rf"{name} is not a Keras model that opens safely"):
        converted(store, models[name])
    assert not models.canary.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.keras", r"the model .*missing\.keras does not exist"),
        ("text.keras", r"text\.keras is not a Keras model that opens safely"),
        ("empty", r"the folder is no SavedModel \(it has no saved_model\.pb\)"),
        ("weights.pt", r"TensorFlow models end in \.keras or \.h5, or are SavedModel folders"),
    ],
)
def test_a_source_that_is_no_classifier_of_pictures(models: Models, store: ModelStore, name: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        converted(store, models[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("red", "green")}, r"the model has 3 classes, but 2 labels were given"),
        ({"preprocessing": {"height": 9, "width": 8}}, r"preprocessing says height 9, the model takes 8"),
        ({"preprocessing": {"depth": 3}}, r"preprocessing: needs height and width and knows .* got \['depth', "),
        ({"framework": "caffe"}, r"framework 'caffe' is not supported; there is: tensorflow"),
    ],
)
def test_settings_that_do_not_fit_the_model(
    models: Models, store: ModelStore, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        converted(store, models["classifier.keras"], **changes)
    assert not (Path(str(store.root)) / "classifier").exists()


def test_a_name_that_cannot_be_a_folder_is_refused_before_anything_is_converted(
    models: Models, store: ModelStore, stage: Stage
) -> None:
    stage.python = "/nowhere/python"

    with pytest.raises(BadInputError, match="'a/b' cannot name a model"):
        converted(store, models["classifier.keras"], stage, name="a/b")
