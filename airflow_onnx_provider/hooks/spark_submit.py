"""The Spark provider's hook with its traps closed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

import psutil
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk import Connection

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.hooks.spark_cluster import CONN_TYPES, EXAMPLE


class OnnxSparkSubmitHook(SparkSubmitHook):
    """Submits with spark-submit.

    Unlike its parent: a missing connection is an error instead of ``yarn``; connections of the type
    ``spark_cluster`` work too; spark-submit is also found beside this Python when the PATH does not name it; and a
    kill ends the driver's Python processes with it.
    """

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        connection = require_connection(conn_id, CONN_TYPES, EXAMPLE)
        if connection.conn_type != "spark":
            # The parent builds the master's URL from the type's name unless it is "spark".
            return Connection(
                conn_id=conn_id,
                conn_type="spark",
                host=connection.host,
                port=connection.port,
                login=connection.login,
                password=connection.password,
                extra=connection.extra,
            )
        return connection

    def _get_spark_binary_path(self) -> list[str]:
        return [find_spark_submit(self._connection["spark_binary"])]

    def on_kill(self) -> None:
        """End spark-submit and everything below it."""
        children: list[psutil.Process] = []
        if self._submit_sp and self._submit_sp.poll() is None:
            # The parent kills the JVM alone; its Python workers have a process group of their own.
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(self._submit_sp.pid).children(recursive=True)
        super().on_kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def find_spark_submit(binary: str = "spark-submit") -> str:
    """Path of spark-submit: on the PATH, else beside this Python.

    :raises BadInputError: if there is none
    """
    beside = Path(sys.executable).parent / binary
    found = shutil.which(binary) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise BadInputError(
            f"{binary} is neither on the PATH nor beside {sys.executable}. Install Spark for this worker: "
            "pip install 'airflow-onnx-provider[spark]'"
        )
    return found


def require_java() -> None:
    """Make sure that a Java is there before Spark says it in ten lines.

    :raises BadInputError: if neither JAVA_HOME nor the PATH has one
    """
    home = os.environ.get("JAVA_HOME")
    if not (home and (Path(home) / "bin" / "java").is_file()) and shutil.which("java") is None:
        raise BadInputError(
            "Spark needs Java 17 or newer, and neither JAVA_HOME nor the PATH has one. On Debian or Ubuntu: "
            "apt-get install openjdk-17-jre-headless"
        )


def submit_environment(deploy_mode: str) -> dict[str, str]:
    """Environment of spark-submit: telemetry off and, for a driver on this machine, this Python.

    Spark's scripts ask that Python for Spark's home, too.
    """
    quiet = {"ORT_DISABLE_TELEMETRY": "1"}
    return quiet | {"PYSPARK_DRIVER_PYTHON": sys.executable} if deploy_mode == "client" else quiet
