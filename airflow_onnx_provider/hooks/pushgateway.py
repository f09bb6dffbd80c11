# SPDX-License-Identifier: Apache-2.0
"""The connection to a Prometheus push gateway."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.connections import require_connection

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from prometheus_client import CollectorRegistry

EXAMPLE = '{"conn_type": "http", "host": "https://pushgateway.example.com", "login": "…", "password": "…"}'
TIMEOUT_SECONDS = 10


def push(pushgateway_conn_id: str, job: str, registry: CollectorRegistry) -> str:
    """Replace everything that the gateway has of ``job``.

    The credentials are sent in a header and are in no address or message.

    :param pushgateway_conn_id: a connection of the type ``http``: host (with or without ``https://``), port, login and
        password, or a password alone as a bearer token
    :return: the gateway's address
    :raises BadInputError: if the connection is missing, of another type, or its host will not do
    :raises OSError: if the gateway cannot be reached within 10 s or refuses, with its words
    """
    from prometheus_client import push_to_gateway

    connection = require_connection(pushgateway_conn_id, ("http",), EXAMPLE)
    address = address_of(connection)
    try:
        push_to_gateway(address, job, registry, timeout=TIMEOUT_SECONDS, handler=_handler(connection))
    except HTTPError as error:
        said = error.read(200).decode(errors="replace").strip()
        raise OSError(f"{address} answered {error.code} {error.reason}: {said}") from error
    except (OSError, HTTPException) as error:
        raise OSError(f"{address} cannot be reached: {error}") from error
    return address


def address_of(connection: Connection) -> str:
    """The gateway's address without credentials.

    :raises BadInputError: if there is no host, or it holds a password
    """
    if not connection.host:
        raise BadInputError(f"the connection {connection.conn_id!r} has no host; give it one: {EXAMPLE}")
    host = connection.host.rstrip("/")
    if "@" in host:
        raise BadInputError(
            f"the host of the connection {connection.conn_id!r} holds a name or password; put them into login and "
            "password"
        )
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    return f"{host}:{connection.port}" if connection.port else host


def _handler(connection: Connection) -> Callable[..., Callable[[], None]]:
    """How prometheus_client shall send: with the connection's credentials, if it has any."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    login, password = connection.login, connection.password

    def send(url: str, method: str, timeout: float | None, headers: list[Any], data: bytes) -> Callable[[], None]:
        if login:
            return basic_auth_handler(url, method, timeout, headers, data, login, password or "")
        bearer = [("Authorization", f"Bearer {password}")] if password else []
        return default_handler(url, method, timeout, [*headers, *bearer], data)

    return send
