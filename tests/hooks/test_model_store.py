# SPDX-License-Identifier: Apache-2.0
"""The connection to a model store."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook, open_version, store_of
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from tests.conftest import set_connection
from tests.model.store.versions import add_version


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


@pytest.mark.parametrize("root", ["s3://key:secret@bucket/models", "s3://:secret@bucket/models"])
def test_no_secret_becomes_part_of_an_address(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store", "extra": {"root": root}})
    with pytest.raises(BadInputError) as said:
        OnnxModelStoreHook("store").get_conn()
    assert "Keep credentials in a connection" in str(said.value)
    assert "secret" not in str(said.value)
    with pytest.raises(BadInputError):
        store_of(f"{root}/classifier/0123456789ab")


def test_a_connection_whose_name_cannot_be_in_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"root": "s3://bucket/models", "storage_conn_id": "a/b"}
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store", "extra": extra})
    with pytest.raises(BadInputError, match="storage_conn_id 'a/b' becomes part of the models' addresses"):
        OnnxModelStoreHook("store").get_conn()


def test_an_alias_is_looked_up_once(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    first, second = add_version(store, "first"), add_version(store, "second")
    Aliases(store, "colours").point("production", first, by="ana")

    opened, address = open_version(f"{store.root}/colours@production")
    Aliases(store, "colours").point("production", second, by="ben")

    assert opened.manifest(address).version == first
    assert open_version(address) == (store, address)


def test_without_a_root(monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "store", {"conn_type": "onnx_model_store"})
    with pytest.raises(BadInputError, match="'store' has no root"):
        OnnxModelStoreHook("store").get_conn()
    assert OnnxModelStoreHook("store").test_connection()[0] is False


def test_missing() -> None:
    with pytest.raises(BadInputError, match="'nowhere' does not exist.*connections add nowhere"):
        OnnxModelStoreHook("nowhere").get_conn()
