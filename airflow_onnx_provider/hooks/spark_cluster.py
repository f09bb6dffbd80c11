"""What the cluster behind a Spark connection can give now."""

from __future__ import annotations

import re
from typing import Any

from airflow.sdk import BaseHook, Connection

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.spark.plan import ClusterFacts

EXAMPLE = '{"conn_type": "spark_cluster", "host": "local[2]"}'
LOCAL = re.compile(r"local(?:\[(\d+|\*)(?:\s*,\s*\d+)?\])?")
WEB_PORT = 8080
WEB_TIMEOUT_SECONDS = 10
CONN_TYPES = ("spark", "spark_cluster")


class SparkClusterHook(BaseHook):
    """Asks a Spark master for its free cores and memory.

    Takes the Spark provider's own connections (type ``spark``) and this provider's type ``spark_cluster``, which has
    a field for the web address of a standalone master. ``local``, ``local[N]`` and ``local[*]`` are answered from
    this machine; masters that cannot be asked yet (YARN, Kubernetes) give no numbers.

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
        return require_connection(self.conn_id, CONN_TYPES, EXAMPLE)

    @property
    def master(self) -> str:
        """The master's URL, for example ``local[2]`` or ``spark://host:7077``.

        :raises BadInputError: if the connection names none
        """
        connection = self.get_conn()
        host = connection.host or ""
        if not host:
            raise BadInputError(f"the connection {self.conn_id!r} names no master in its host; for example: {EXAMPLE}")
        if "://" not in host and connection.port:
            host = f"spark://{host}"
        return f"{host}:{connection.port}" if connection.port else host

    @property
    def deploy_mode(self) -> str:
        """Where the connection puts drivers: ``client`` (on this machine, the default) or ``cluster``."""
        return str(self.get_conn().extra_dejson.get("deploy-mode") or "client")

    def capacity(self) -> ClusterFacts:
        """Free cores and memory.

        :raises BadInputError: if the connection is missing or unusable
        :raises OnnxProviderError: if a standalone master does not answer at its web address
        """
        master = self.master
        if local := LOCAL.fullmatch(master):
            cores = available_cores() if local[1] == "*" else int(local[1] or 1)
            return ClusterFacts(master, cores)
        if master.startswith("spark://"):
            return self._ask_standalone(master)
        return ClusterFacts(master, None)

    def test_connection(self) -> tuple[bool, str]:
        """For the button in the UI: ask for the capacity."""
        try:
            facts = self.capacity()
        except Exception as error:  # whatever it is, the person at the button wants to read it
            return False, f"{type(error).__name__}: {error}"
        memory = "" if facts.memory_mb is None else f", {facts.memory_mb} MiB free memory"
        return True, f"{facts.master}: {'unknown' if facts.slots is None else facts.slots} free cores{memory}"

    def _ask_standalone(self, master: str) -> ClusterFacts:
        import requests

        web = self.get_conn().extra_dejson.get("web_address")
        if not web:
            host = master.removeprefix("spark://").split(",")[0].rsplit(":", 1)[0]
            web = f"http://{host}:{WEB_PORT}"
        url = f"{web.rstrip('/')}/json/"
        try:
            answer = requests.get(url, timeout=WEB_TIMEOUT_SECONDS)
            answer.raise_for_status()
            state = answer.json()
            workers = [worker for worker in state["workers"] if worker["state"] == "ALIVE"]
        except (requests.RequestException, ValueError, KeyError, TypeError) as error:
            raise OnnxProviderError(
                f"the Spark master {master} does not answer at {url}: {error}. If its web page is elsewhere, put "
                f"web_address into the connection {self.conn_id!r}."
            ) from error
        return ClusterFacts(
            master,
            sum(worker["coresfree"] for worker in workers),
            sum(worker["memoryfree"] for worker in workers),
            max((worker["coresfree"] for worker in workers), default=None),
        )
