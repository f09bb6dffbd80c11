"""The connection to a model store."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook, store_of
from tests.conftest import set_connection


def test_a_local_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extra = {"root": str(tmp_path / "models")}
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store", "extra": extra})
    assert OnnxModelStoreHook("store").get_conn().root == tmp_path / "models"
    assert OnnxModelStoreHook("store").test_connection() == (True, f"{tmp_path / 'models'} can be written and read")


def test_an_object_storage_root(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store", "extra": {"root": "memory://bucket/models"}})
    root = OnnxModelStoreHook("store").get_conn().root
    assert str(root) == "memory://bucket/models"
    assert OnnxModelStoreHook("store").test_connection()[0] is True
    assert str(store_of("memory://bucket/models/classifier/0123456789ab").root) == "memory://bucket/models"


def test_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store"})
    with pytest.raises(BadInputError, match="'store' has no root"):
        OnnxModelStoreHook("store").get_conn()
    assert OnnxModelStoreHook("store").test_connection()[0] is False


def test_missing() -> None:
    with pytest.raises(BadInputError, match="'nowhere' does not exist.*connections add nowhere"):
        OnnxModelStoreHook("nowhere").get_conn()
