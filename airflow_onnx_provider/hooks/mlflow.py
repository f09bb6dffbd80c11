# SPDX-License-Identifier: Apache-2.0
"""The connection to an MLflow server, as the environment variables that MLflow itself reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.connections import require_connection

EXAMPLE = '{"conn_type": "http", "host": "https://mlflow.example.com", "login": "…", "password": "…"}'

VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)


@contextmanager
def mlflow_environment(mlflow_conn_id: str | None) -> Iterator[str]:
    """Put the server and its credentials into this process's environment for a while; its children get them, too.

    They are in no command line and no address that could be logged.

    :param mlflow_conn_id: a connection of the type ``http``: host (with or without ``https://``), port, login and
        password, or a password alone as a token. None: the environment says it all by itself
    :return: the server's address without credentials, empty if none is named
    :raises BadInputError: if the connection is missing, of another type, or has no host
    """
    if mlflow_conn_id is None:
        yield os.environ.get("MLFLOW_TRACKING_URI", "")
        return
    chosen = environment_of(mlflow_conn_id)
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update(chosen)
    try:
        yield chosen["MLFLOW_TRACKING_URI"]
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def environment_of(mlflow_conn_id: str) -> dict[str, str]:
    """MLflow's variables for a connection.

    :raises BadInputError: if the connection is missing, of another type, or has no host
    """
    connection = require_connection(mlflow_conn_id, ("http",), EXAMPLE)
    if not connection.host:
        raise BadInputError(f"the connection {mlflow_conn_id!r} has no host; give it one: {EXAMPLE}")
    host = connection.host.rstrip("/")
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    if "@" in host:
        raise BadInputError(
            f"the host of the connection {mlflow_conn_id!r} holds a name or password; put them into login and password"
        )
    found = {"MLFLOW_TRACKING_URI": f"{host}:{connection.port}" if connection.port else host}
    if connection.login:
        found |= {
            "MLFLOW_TRACKING_USERNAME": connection.login,
            "MLFLOW_TRACKING_PASSWORD": connection.password or "",
        }
    elif connection.password:
        found["MLFLOW_TRACKING_TOKEN"] = connection.password
    return found
