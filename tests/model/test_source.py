from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.model.source import FRAMEWORKS, SourceModel


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    (tmp_path / "model.keras").write_bytes(b"weights")
    return SourceModel(tmp_path / "model.keras", "tensorflow")


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
    source = SourceModel(tmp_path / "saved", "tensorflow")
    before = source.sha256
    (tmp_path / "saved" / "variables" / "data").write_bytes(b"2")

    assert source.sha256 != before


def test_a_missing_source(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"the model .*missing.keras does not exist"):
        _ = SourceModel(tmp_path / "missing.keras", "tensorflow").sha256


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_framework_has_the_two_functions(framework: str) -> None:
    module = SourceModel(Path("any"), framework).module()

    assert callable(module.to_onnx)
    assert callable(module.open_predictor)


def test_an_unknown_framework(source: SourceModel) -> None:
    with pytest.raises(BadInputError, match=r"framework 'caffe' is not supported; there is: tensorflow"):
        SourceModel(source.path, "caffe").module()
