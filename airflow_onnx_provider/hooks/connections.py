# SPDX-License-Identifier: Apache-2.0
"""Look connections up without Airflow's defaults for missing ones."""

from __future__ import annotations

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_onnx_provider.exceptions import BadInputError


def require_connection(conn_id: str, conn_types: tuple[str, ...], example: str) -> Connection:
    """The connection ``conn_id``, if it exists and has one of the given types.

    :param example: JSON of a connection that would do, for the error message
    :raises BadInputError: naming the connection and how to make it
    """
    make = f"airflow connections add {conn_id} --conn-json '{example}'"
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException as error:
        raise BadInputError(f"the connection {conn_id!r} does not exist. Make it in the UI, or: {make}") from error
    if connection.conn_type not in conn_types:
        raise BadInputError(
            f"the connection {conn_id!r} has the type {connection.conn_type!r}, needed is {' or '.join(conn_types)}. "
            f"For example: {make}"
        )
    return connection
