# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    Golden,
    ModelManifest,
    TensorSpec,
    checked_relative,
    digest_of_json,
    require_scorable,
    sha256_of_file,
    write_json,
)
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from tests.runtime.tiny import LABELS, PREPROCESSING, TOKENS, write_version

A_MANIFEST = ModelManifest(
    name="colours",
    files={MODEL_NAME: "ab" * 32, "weights/part.bin": "cd" * 32},
    inputs=(TensorSpec("image", "uint8", ("batch", 4, 4, 3)),),
    outputs=(TensorSpec("scores", "float", ("batch", 3)),),
    opset=18,
    domains=("",),
    preprocessing=PREPROCESSING,
    labels=LABELS,
    origin={"framework": "tensorflow", "sha256": "ef" * 32},
    recipe={"quantize": "static"},
    checks={"parity": {"rows": 32}},
    speed=({"cpu": "x", "threads": 1, "batch": 8, "images_per_second": 100.0},),
    golden=Golden("12" * 32, 1e-4),
)

plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def test_json_there_and_back() -> None:
    assert ModelManifest.from_dict(through_json(A_MANIFEST.to_dict())) == A_MANIFEST


@pytest.mark.parametrize("preprocessing", [TOKENS, None])
def test_models_of_tokens_and_of_plain_columns_there_and_back(preprocessing: Any) -> None:
    manifest = replace(A_MANIFEST, preprocessing=preprocessing)

    assert ModelManifest.from_dict(through_json(manifest.to_dict())) == manifest
    with pytest.raises(BadInputError, match="model colours has no image preprocessing, so it cannot score pictures"):
        _ = manifest.image_preprocessing


def measured(rate: float, cpu: str = "x", threads: int = 1, **more: Any) -> dict[str, Any]:
    return {"cpu": cpu, "threads": threads, "batch": 8, "images_per_second": rate, **more}


@pytest.mark.parametrize(
    ("speed", "best"),
    [
        ([], None),
        ([measured(100, cpu="y")], None),
        ([measured(100), measured(120), measured(110)], 120),
        ([measured(100), measured(180, threads=2)], 100),
        ([measured(500), measured(90, decode_included=True), measured(100, decode_included=True)], 100),
    ],
    ids=["never", "elsewhere", "fastest", "fastest a core", "decoding included"],
)
def test_the_best_speed_of_a_type_of_cpu(speed: list[dict[str, Any]], best: float | None) -> None:
    found = replace(A_MANIFEST, speed=tuple(speed)).best_speed("x")

    assert (found and found["images_per_second"]) == best


def test_a_version_is_called_by_its_content() -> None:
    assert A_MANIFEST.version == A_MANIFEST.digest[:12]
    assert len(A_MANIFEST.digest) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"files": {MODEL_NAME: "00" * 32}},
        {"labels": ("blue", "green", "red")},
        {"preprocessing": replace(PREPROCESSING, resize="crop")},
        {"preprocessing": TOKENS},
        {"preprocessing": None},
    ],
    ids=["files", "labels", "preprocessing", "tokens", "no preprocessing"],
)
def test_what_decides_the_answers_decides_the_digest(change: dict[str, Any]) -> None:
    assert replace(A_MANIFEST, **change).digest != A_MANIFEST.digest


def test_what_was_found_out_since_does_not_change_the_digest() -> None:
    assert replace(A_MANIFEST, golden=None, checks={}, speed=(), origin={}).digest == A_MANIFEST.digest


def test_the_order_of_the_files_does_not_change_the_digest() -> None:
    turned = dict(reversed(A_MANIFEST.files.items()))

    assert list(turned) != list(A_MANIFEST.files)
    assert replace(A_MANIFEST, files=turned).digest == A_MANIFEST.digest


@given(st.dictionaries(st.text(max_size=5), plain_json, max_size=6), st.randoms())
def test_a_digest_of_json_ignores_the_order_of_keys(value: dict[str, Any], random: Any) -> None:
    keys = list(value)
    random.shuffle(keys)

    assert digest_of_json({key: value[key] for key in keys}) == digest_of_json(value)


@given(plain_json, plain_json)
def test_different_json_has_different_digests(one: Any, other: Any) -> None:
    assert (digest_of_json(one) == digest_of_json(other)) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("files", {MODEL_NAME: "00" * 32}), ("labels", ["a", "b", "c"]), ("preprocessing", {"height": 8, "width": 8})],
)
def test_a_changed_manifest_is_found(field: str, value: Any) -> None:
    with pytest.raises(DigestMismatchError, match="manifest.json of colours was changed"):
        ModelManifest.from_dict({**through_json(A_MANIFEST.to_dict()), field: value})


@pytest.mark.parametrize("path", ["../model.onnx", "/etc/passwd", "a/../../b", "", "."])
def test_a_path_that_leaves_the_folder_is_refused(path: str) -> None:
    with pytest.raises(BadInputError, match="would leave its folder"):
        checked_relative(path)
    with pytest.raises(BadInputError, match="would leave its folder"):
        ModelManifest.from_dict({**through_json(A_MANIFEST.to_dict()), "files": {path: "00" * 32}})


@pytest.mark.parametrize("path", ["model.onnx", "weights/part.bin", "weights/..part"])
def test_a_path_inside_the_folder_is_kept(path: str) -> None:
    assert checked_relative(path) == path


@pytest.mark.parametrize("field", ["name", "files", "inputs", "labels", "digest", "golden"])
def test_a_manifest_without_a_field_is_none(field: str) -> None:
    data = through_json(A_MANIFEST.to_dict())
    del data[field]

    with pytest.raises(BadInputError, match=f"is not a model manifest.*{field}"):
        ModelManifest.from_dict(data)


def test_a_manifest_of_a_later_format_is_refused() -> None:
    with pytest.raises(BadInputError, match="has format 99; this version reads 1"):
        ModelManifest.from_dict({**A_MANIFEST.to_dict(), "format": 99})


def test_a_folder_without_a_manifest_is_no_version(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"is no model version: it has no manifest.json. Give the address"):
        ModelManifest.read(tmp_path)


@pytest.mark.parametrize("content", ["{half", "", '"text"', "[1, 2]", "null"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(content)

    with pytest.raises(BadInputError, match=r"manifest.json"):
        ModelManifest.read(tmp_path)


def test_untouched_files_are_verified(version: Path) -> None:
    manifest = ModelManifest.read(version)

    manifest.verify_files(version)

    assert manifest.golden is not None
    assert manifest.golden.sha256 == sha256_of_file(version / manifest.golden.file)


@pytest.mark.parametrize("which", [0, 1], ids=["model", "golden rows"])
def test_one_flipped_bit_is_found(tmp_path: Path, which: int) -> None:
    manifest = write_version(tmp_path)
    name = list(manifest.all_files)[which]
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / name).write_bytes(data)

    with pytest.raises(DigestMismatchError, match=rf"{name} is not the file that was recorded for colours"):
        manifest.verify_files(tmp_path)


@pytest.mark.parametrize("which", [0, 1], ids=["model", "golden rows"])
def test_a_missing_file_is_found(tmp_path: Path, which: int) -> None:
    manifest = write_version(tmp_path)
    name = list(manifest.all_files)[which]
    (tmp_path / name).unlink()

    with pytest.raises(DigestMismatchError, match="no such file"):
        manifest.verify_files(tmp_path)


def test_a_classifier_of_pictures_is_scorable() -> None:
    assert require_scorable(A_MANIFEST) is None
    assert require_scorable(replace(A_MANIFEST, labels=())) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocessing": None}, "no image preprocessing"),
        ({"inputs": (TensorSpec("x", "float", ("batch", 4, 4, 3)),)}, r"expected one input uint8.*x: float"),
        ({"inputs": A_MANIFEST.inputs * 2}, "expected one input"),
        ({"preprocessing": ImagePreprocessing(8, 8)}, r"found image: uint8 \['batch', 4, 4, 3\]"),
        (
            {"outputs": (TensorSpec("boxes", "float", ("batch", 9, 4)),)},
            r"expected the output float \[batch, classes\]",
        ),
        ({"outputs": (TensorSpec("label", "int64", ("batch", 3)),)}, "found label: int64"),
        ({"labels": ("red", "green")}, "3 classes, but 2 labels"),
    ],
)
def test_a_model_that_cannot_be_scored_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        require_scorable(replace(A_MANIFEST, **change))


def test_json_is_written_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})

    assert json.loads(path.read_text()) == {"a": 2}
    assert [file.name for file in path.parent.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_json_that_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    with pytest.raises(TypeError):
        write_json(path, {"a": object()})

    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"value": [0] * 2_000})
    done = threading.Event()

    def write() -> None:
        for number in range(20):
            write_json(path, {"value": [number] * 2_000})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while not done.is_set():
        values = json.loads(path.read_text())["value"]
        assert len(values) == 2_000
        assert len(set(values)) == 1
        reads += 1
    writer.join()
    assert reads > 0
