# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.model.source import FRAMEWORKS, SourceModel
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

MANIFEST = ModelManifest("m", {"model.onnx": "0"}, (), (), 18, ("",), None)


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    (tmp_path / "model.keras").write_bytes(b"weights")
    return SourceModel(str(tmp_path / "model.keras"), "tensorflow")


def test_a_source_is_known_by_its_content(source: SourceModel) -> None:
    before = source.sha256
    source.require_digest(before)
    source.path.write_bytes(b"other weights")

    assert source.sha256 != before
    with pytest.raises(DigestMismatchError, match="changed since it was converted; run the convert task again"):
        source.require_digest(before)


def test_a_folder_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "variables" / "data").write_bytes(b"1")
    source = SourceModel(str(tmp_path / "saved"), "tensorflow")
    before = source.sha256
    (tmp_path / "saved" / "variables" / "data").write_bytes(b"2")

    assert source.sha256 != before


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"the model .*missing.keras does not exist"):
        _ = SourceModel(str(tmp_path / "missing.keras"), "tensorflow").sha256


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_framework_has_the_two_functions(framework: str) -> None:
    module = SourceModel("any", framework).module()

    assert callable(module.to_onnx)
    assert callable(module.open_predictor)


def test_an_unknown_framework(source: SourceModel) -> None:
    with pytest.raises(BadInputError, match=r"framework 'caffe' is not supported; there is: tensorflow"):
        SourceModel(source.location, "caffe").module()


def test_what_a_manifest_keeps_gives_the_same_source_back(source: SourceModel, tmp_path: Path) -> None:
    whole = replace(
        source,
        preprocessing={"height": 4, "width": 4},
        inputs={"x": {"type": "float", "shape": ["batch", 3]}},
        factory="package.module:network",
        signature="other",
        trusted=True,
    )
    manifest = replace(MANIFEST, origin={**whole.to_origin(), "sha256": whole.sha256})

    assert SourceModel.from_origin(ModelManifest.from_dict(manifest.to_dict())) == whole
    assert SourceModel.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole


def test_manifests_of_earlier_versions_name_a_source_too() -> None:
    origin = {"source": "/models/m.keras", "framework": "tensorflow", "sha256": "0", "trusted": False}
    pictures = replace(MANIFEST, origin=origin, preprocessing=ImagePreprocessing(4, 5))

    source = SourceModel.from_origin(pictures)

    assert (source.location, source.framework, source.trusted) == ("/models/m.keras", "tensorflow", False)
    assert source.preprocessing == ImagePreprocessing(4, 5).to_dict()


def test_a_version_that_was_never_converted_has_no_source() -> None:
    with pytest.raises(BadInputError, match="was not converted from a model of a framework"):
        SourceModel.from_origin(MANIFEST)


def test_a_registered_model_is_fetched_and_removed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_onnx_provider.model import mlflow

    def fetch(uri: str, folder: Path) -> Any:
        (folder / "model.keras").write_bytes(b"weights")
        return SimpleNamespace(
            path=folder / "model.keras", framework="tensorflow", uri="models:/m/3", run_id="r1", version="3"
        )

    monkeypatch.setattr(mlflow, "fetch_model", fetch)
    source = SourceModel("models:/m@champion", "")

    with source.fetched() as local:
        assert (local.framework, local.path.read_bytes()) == ("tensorflow", b"weights")
        assert local.to_origin()["source"] == "models:/m/3"
        assert local.to_origin()["run_id"] == "r1"
        local.require_digest(local.sha256)
    assert not local.path.exists()
    with pytest.raises(BadInputError, match="has a path only while it is fetched"):
        _ = source.path
    with (
        pytest.raises(BadInputError, match=r"is a tensorflow model, not torch; leave framework out"),
        SourceModel("models:/m/3", "torch").fetched(),
    ):
        pass
