# SPDX-License-Identifier: Apache-2.0
"""What the cluster behind a Spark connection can give now."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any

from airflow.sdk import BaseHook, Connection

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.capacity.access import Access, addresses_of
from airflow_onnx_provider.hooks.capacity.fit import describe
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.spark.plan import ClusterFacts

EXAMPLE = '{"conn_type": "spark_cluster", "host": "local[2]"}'
LOCAL = re.compile(r"local(?:\[(\d+|\*)(?:\s*,\s*\d+)?\])?")
CONN_TYPES = ("spark", "spark_cluster")


class SparkClusterHook(BaseHook):
    """Asks a cluster for its health and for its free cores, memory and GPUs.

    Takes the Spark provider's own connections (type ``spark``) and this provider's type ``spark_cluster``, which has
    a form for the fields that are read here; ``docs/connections.md`` lists them by kind of cluster. ``local``,
    ``local[N]`` and ``local[*]`` are answered from this machine, a standalone master, YARN and Kubernetes are asked
    through their web APIs, and other masters say nothing.

    :param conn_id: the connection
    """

    conn_name_attr = "conn_id"
    default_conn_name = "spark_default"
    conn_type = "spark_cluster"
    hook_name = "Spark cluster (ONNX)"

    def __init__(self, conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    def get_conn(self) -> Connection:
        """The connection itself.

        :raises BadInputError: if it is missing or of another type
        """
        return self._connection

    @property
    def master(self) -> str:
        """The master's URL, for example ``local[2]``, ``spark://host:7077``, ``yarn`` or ``k8s://https://host``.

        :raises BadInputError: if the connection names none
        """
        connection = self._connection
        host = connection.host or ""
        if not host:
            raise BadInputError(f"the connection {self.conn_id!r} names no master in its host; for example: {EXAMPLE}")
        if "://" not in host and connection.port:
            host = f"spark://{host}"
        return f"{host}:{connection.port}" if connection.port else host

    @property
    def deploy_mode(self) -> str:
        """Where the connection puts drivers: ``client`` (on this machine, the default) or ``cluster``."""
        return self._field("deploy-mode") or "client"

    @property
    def web_address(self) -> str | None:
        """Where the master's or the ResourceManager's web page is; several have commas between them."""
        return self._field("web_address") or self._field("yarn_resourcemanager_webapp_address")

    @property
    def history_address(self) -> str | None:
        """Web address of the Spark history server, which shows an application after its end."""
        return self._field("history_address")

    @property
    def python(self) -> str | None:
        """The interpreter's path on the executors."""
        return self._field("python")

    @property
    def queue(self) -> str | None:
        """YARN's queue."""
        return self._field("queue")

    @property
    def namespace(self) -> str | None:
        """The Kubernetes namespace of drivers and executors."""
        return self._field("namespace")

    def capacity(self) -> ClusterFacts:
        """Health, and what is free now.

        :raises BadInputError: if the connection is missing or unusable, or its credentials are refused
        :raises OnnxProviderError: if the cluster does not answer as one of its kind does
        """
        from airflow_onnx_provider.hooks.capacity import kubernetes, standalone, yarn

        master = self.master
        if local := LOCAL.fullmatch(master):
            cores = available_cores() if local[1] == "*" else int(local[1] or 1)
            return ClusterFacts(master, cores, executor_cores=cores, total_cores=cores)
        pages = addresses_of(self.web_address, self.conn_id)
        if master.startswith("spark://"):
            return standalone.capacity(master, pages or standalone.default_pages(master), self._access)
        if master == "yarn" and pages:
            return yarn.capacity(master, pages, self._access, self.queue)
        if master.startswith("k8s://"):
            return kubernetes.capacity(master, self._access, self.namespace, self._field("kubernetes_conn_id"))
        lacks = f"the connection {self.conn_id!r} has no web_address of a ResourceManager" if master == "yarn" else ""
        return ClusterFacts(master, None, note=lacks)

    def test_connection(self) -> tuple[bool, str]:
        """For the button in the UI: ask for the capacity."""
        try:
            facts = self.capacity()
        except Exception as error:  # whatever it is, the person at the button wants to read it
            return False, f"{type(error).__name__}: {error}"
        return facts.healthy, describe(facts)

    @cached_property
    def _connection(self) -> Connection:
        return require_connection(self.conn_id, CONN_TYPES, EXAMPLE)

    @cached_property
    def _access(self) -> Access:
        return Access.of(self._connection)

    def _field(self, name: str) -> str | None:
        value = self._connection.extra_dejson.get(name)
        return str(value) if value else None
