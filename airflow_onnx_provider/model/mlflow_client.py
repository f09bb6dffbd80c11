# SPDX-License-Identifier: Apache-2.0
"""The way to an MLflow server: its client, its errors, and addresses that may be shown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, needs_extra


def import_mlflow() -> Any:
    """MLflow, with its telemetry and its progress bars off unless the environment says otherwise.

    :raises MissingExtraError: if it is not installed
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with needs_extra("mlflow", "MLflow"):
        import mlflow
    return mlflow


def client_of(tracking_uri: str | None = None) -> Any:
    """MLflow's client.

    :param tracking_uri: the server; None: that of the environment variable ``MLFLOW_TRACKING_URI``
    :raises BadInputError: if no server is named, or not one that MLflow knows how to speak to
    """
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not tracking_uri:
        raise BadInputError(
            "no MLflow server is named: set the environment variable MLFLOW_TRACKING_URI, or give mlflow_conn_id"
        )
    import_mlflow()
    from mlflow import MlflowClient

    with mlflow_errors(f"{public(tracking_uri)} is no MLflow server"):
        return MlflowClient(tracking_uri, registry_of(tracking_uri))


def registry_of(tracking_uri: str) -> str:
    """Where the registered models are: at the same server, unless ``MLFLOW_REGISTRY_URI`` names another."""
    return os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri


def public(address: str) -> str:
    """An address without the name and password that it may hold."""
    return re.sub(r"://[^/@\s]*@", "://", address)


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Say what MLflow refused as the caller's error; a server that fails or cannot be reached stays MLflow's own."""
    from mlflow import MlflowException

    try:
        yield
    except MlflowException as error:
        if not 400 <= error.get_http_status_code() < 500:
            raise
        raise BadInputError(f"{what}: {public(error.message)}") from error
