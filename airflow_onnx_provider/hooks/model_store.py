# SPDX-License-Identifier: Apache-2.0
"""The connection to a store of model versions."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import CONNECTION, Address, check_root
from airflow_onnx_provider.model.store.versions import ModelStore

EXAMPLE = '{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}'


class OnnxModelStoreHook(BaseHook):
    """Opens the model store that a connection of the type ``onnx_model_store`` names.

    The connection's field ``root`` is a local folder or any URL that Airflow's ``ObjectStoragePath`` takes;
    ``storage_conn_id`` names the connection with the object store's credentials. The addresses of the store's models
    then have that name in them, as in ``s3://connection@bucket/models/…``, so that every task that gets one finds the
    credentials; the credentials themselves are never part of an address.

    :param store_conn_id: the connection
    """

    conn_name_attr = "store_conn_id"
    default_conn_name = "onnx_model_store_default"
    conn_type = "onnx_model_store"
    hook_name = "ONNX model store"

    def __init__(self, store_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.store_conn_id = store_conn_id

    def get_conn(self) -> ModelStore:
        """The store.

        :raises BadInputError: if the connection is missing or has no root, or what stands before the ``@`` of its root
            is no name of a connection
        """
        connection = require_connection(self.store_conn_id, (self.conn_type,), EXAMPLE)
        extra = connection.extra_dejson
        root = extra.get("root")
        if not root:
            raise BadInputError(f"the connection {self.store_conn_id!r} has no root; give it one: {EXAMPLE}")
        return ModelStore(_path(root, extra.get("storage_conn_id")))

    def test_connection(self) -> tuple[bool, str]:
        """For the button in the UI: make and read one small file below the root, and try to make it once more."""
        try:
            store = self.get_conn()
            probe = store.root / f".connection-test-{uuid.uuid4().hex[:8]}"
            storage.write(probe, b"ok")
            same, twice = storage.read(probe) == b"ok", storage.create(probe, b"again")
            storage.remove(probe)
            if twice:
                return False, (
                    f"{store.root} can be written and read, but it writes over a file when told not to: of two tasks "
                    "that move an alias in the same moment, both may believe that they did"
                )
            return same, f"{store.root} can be written and read"
        except Exception as error:  # whatever it is, the person at the button wants to read it
            return False, f"{type(error).__name__}: {error}"


def store_of(address: str) -> ModelStore:
    """The store that holds what ``address`` names; a connection for its credentials is named in the address.

    :raises BadInputError: if ``address`` is neither ``<store>/<name>/<version>`` nor ``<store>/<name>@<alias>``
    """
    return ModelStore(_path(Address.parse(address).root, None))


def open_version(address: str) -> tuple[ModelStore, str]:
    """The store, and the address of the version that ``address`` names now: an alias is looked up once, here.

    :raises BadInputError: for an address without its form, or an alias that was never pointed at a version
    """
    store = store_of(address)
    return store, store.resolve(address)


def _path(root: str, storage_conn_id: str | None) -> Any:
    check_root(root)
    if storage_conn_id and not CONNECTION.fullmatch(storage_conn_id):
        raise BadInputError(
            f"storage_conn_id {storage_conn_id!r} becomes part of the models' addresses: use letters, digits, '_', '.' "
            "and '-'"
        )
    if "://" not in root or root.startswith("file://"):
        return Path(root.removeprefix("file://")).expanduser().absolute()
    return ObjectStoragePath(root, conn_id=storage_conn_id)
