"""The connection to a store of model versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.model.store import ModelStore, split_address

EXAMPLE = '{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}'


class OnnxModelStoreHook(BaseHook):
    """Opens the model store that a connection of the type ``onnx_model_store`` names.

    The connection's field ``root`` is a local folder or any URL that Airflow's ``ObjectStoragePath`` takes;
    ``storage_conn_id`` names the connection with the object store's credentials.

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

        :raises BadInputError: if the connection is missing or has no root
        """
        connection = require_connection(self.store_conn_id, (self.conn_type,), EXAMPLE)
        extra = connection.extra_dejson
        root = extra.get("root")
        if not root:
            raise BadInputError(f"the connection {self.store_conn_id!r} has no root; give it one: {EXAMPLE}")
        return ModelStore(_path(root, extra.get("storage_conn_id")))

    def test_connection(self) -> tuple[bool, str]:
        """For the button in the UI: write and read one small file below the root."""
        try:
            store = self.get_conn()
            probe = store.root / ".connection-test"
            store.root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"ok")
            same = probe.read_bytes() == b"ok"
            probe.unlink()
            return same, f"{store.root} can be written and read"
        except Exception as error:  # whatever it is, the person at the button wants to read it
            return False, f"{type(error).__name__}: {error}"


def store_of(address: str) -> ModelStore:
    """The store that holds the model version at ``address``.

    :raises BadInputError: if ``address`` has not the form ``<store>/<name>/<version>``
    """
    return ModelStore(_path(split_address(address)[0], None))


def _path(root: str, storage_conn_id: str | None) -> Any:
    if "://" not in root or root.startswith("file://"):
        return Path(root.removeprefix("file://")).expanduser().absolute()
    return ObjectStoragePath(root, conn_id=storage_conn_id)
