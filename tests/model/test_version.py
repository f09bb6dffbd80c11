# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError, GoldenMismatchError, ValidationError
from airflow_onnx_provider.model.version import golden_rows, write_version
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.session import load_model
from tests.runtime.tiny import CLASSIFIER, LABELS, OFFERS, PREPROCESSING, TEXTS, TOKENS, plain_picture, write_onnx

pytestmark = pytest.mark.usefixtures("fresh_worker")

PICTURES = tuple(plain_picture(colour, (40, 30)) for colour in [(250, 10, 10), (10, 250, 10), (10, 10, 250)])
PIXELS = np.stack([decode_image(picture, PREPROCESSING) for picture in PICTURES])


@pytest.mark.parametrize(
    ("text", "golden", "fields"),
    [
        (CLASSIFIER, {"image": PIXELS}, {"preprocessing": PREPROCESSING, "labels": LABELS, "pictures": PICTURES}),
        (OFFERS, {"price": np.ones((2, 2), np.float32), "shop": np.array(["north", "Ä"], object)}, {}),
        (TEXTS, {"ids": np.array([[1, 2, 3]]), "mask": np.array([[1, 1, 0]])}, {"preprocessing": TOKENS}),
    ],
    ids=["pictures", "several inputs", "tokens"],
)
def test_any_onnx_file_becomes_a_version_that_a_worker_loads(
    tmp_path: Path, text: str, golden: dict[str, Any], fields: dict[str, Any]
) -> None:
    source = write_onnx(tmp_path / "a.onnx", text)
    manifest = write_version(source, tmp_path / "version", name="tiny", golden=golden, **fields)
    model = load_model(tmp_path / "version", manifest.digest)

    assert model.manifest == manifest == ModelManifest.read(tmp_path / "version")
    assert model.golden_difference == 0
    assert (tmp_path / "version" / MODEL_NAME).read_bytes() == source.read_bytes()
    assert set(model.golden.inputs) == {spec.name for spec in manifest.inputs}
    assert model.golden.pictures == fields.get("pictures", ())


def test_the_manifest_says_what_the_graph_is(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx", OFFERS)
    golden = {"price": np.ones((1, 2), np.float32), "shop": np.array(["north"], object)}
    manifest = write_version(source, tmp_path / "version", name="tiny", golden=golden, tolerance=0.25)

    assert manifest.inputs == (TensorSpec("price", "float", ("batch", 2)), TensorSpec("shop", "string", ("batch",)))
    assert [spec.name for spec in manifest.outputs] == ["scores", "said"]
    assert (manifest.opset, manifest.domains) == (18, ("", "ai.onnx.ml"))
    assert manifest.golden is not None
    assert manifest.golden.tolerance == 0.25


def test_external_data_belongs_to_the_version(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_onnx(tmp_path / "source" / "a.onnx"))
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights"]
    # Only raw bytes can lie outside.
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights), "weights"))
    onnx.save(
        model,
        tmp_path / "source" / "a.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        convert_attribute=False,
    )
    manifest = write_version(
        tmp_path / "source" / "a.onnx",
        tmp_path / "version",
        name="tiny",
        golden={"image": PIXELS},
        preprocessing=PREPROCESSING,
    )

    assert set(manifest.files) == {"model.onnx", "weights.bin"}
    assert load_model(tmp_path / "version", manifest.digest).golden_difference == 0
    (tmp_path / "version" / "weights.bin").write_bytes(b"\0" * 100)
    with pytest.raises(DigestMismatchError, match="weights.bin is not the file that was recorded"):
        manifest.verify_files(tmp_path / "version")


def test_the_same_content_has_the_same_version(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx")
    one, other = (
        write_version(source, tmp_path / name, name="tiny", golden={"image": PIXELS}, preprocessing=PREPROCESSING)
        for name in ("one", "other")
    )

    assert one == other


def test_a_decoder_proves_itself_on_the_golden_pictures(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx")
    fields: dict[str, Any] = {"name": "tiny", "golden": {"image": PIXELS}, "preprocessing": PREPROCESSING}
    scaled = ExecutionProfile(decoder="scaled")

    manifest = write_version(source, tmp_path / "without", **fields)
    with pytest.raises(BadInputError, match="must prove itself on golden pictures, but tiny .* has none"):
        load_model(tmp_path / "without", manifest.digest, scaled)

    write_version(source, tmp_path / "other", pictures=PICTURES[::-1], **fields)
    with pytest.raises(GoldenMismatchError, match="the decoder 'scaled' changes the golden answers of tiny"):
        load_model(tmp_path / "other", manifest.digest, scaled)

    write_version(source, tmp_path / "with", pictures=PICTURES, **fields)
    assert load_model(tmp_path / "with", manifest.digest, scaled).profile == scaled


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (CLASSIFIER.replace("Softmax <axis = -1>", "NoSuchOperator"), ValidationError, "no operator NoSuchOperator"),
        (
            CLASSIFIER.replace("Softmax <axis = -1>", "Softmax <axis = 9>"),
            ValidationError,
            "types or shapes do not fit",
        ),
        (
            CLASSIFIER.replace('"" : 18', '"" : 18, "my.own" : 1').replace("Softmax <axis = -1>", "my.own.Softmax"),
            ValidationError,
            r"operators of the domains \['my.own'\]",
        ),
    ],
    ids=["operator", "checker", "domain"],
)
def test_an_unsound_file_is_refused_and_leaves_nothing(
    tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    source = write_onnx(tmp_path / "a.onnx", text)

    with pytest.raises(error, match=message):
        write_version(source, tmp_path / "version", name="tiny", golden={"image": PIXELS})
    assert not (tmp_path / "version").exists()


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")

    with pytest.raises(BadInputError, match="is not an ONNX model"):
        write_version(tmp_path / "a.onnx", tmp_path / "version", name="tiny", golden={"image": PIXELS})


def test_golden_rows_that_the_model_cannot_take_leave_no_version(tmp_path: Path) -> None:
    source = write_onnx(tmp_path / "a.onnx")

    with pytest.raises(Exception, match="Unexpected input data type"):
        write_version(source, tmp_path / "version", name="tiny", golden={"image": PIXELS.astype(np.float32)})
    assert not (tmp_path / "version" / MANIFEST_NAME).exists()


def test_each_golden_row_is_scored_alone(tmp_path: Path) -> None:
    """Batch size 1 is what every model version supports."""
    fixed = write_onnx(tmp_path / "a.onnx", CLASSIFIER.replace("[batch,", "[1,"))
    manifest = write_version(fixed, tmp_path / "v", name="tiny", golden={"image": PIXELS}, preprocessing=PREPROCESSING)
    model = load_model(tmp_path / "v", manifest.digest)

    assert golden_rows(model, {"image": PIXELS}).answers["scores"].argmax(axis=1).tolist() == [0, 1, 2]
