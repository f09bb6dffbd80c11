# SPDX-License-Identifier: Apache-2.0
"""A real MLflow server on SQLite, for the tests of one module."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from airflow_onnx_provider.model.mlflow_client import import_mlflow

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes that no test needs
}


@contextmanager
def mlflow_server(folder: Path, seconds: float = 240.0) -> Iterator[str]:
    """Start one, and give its address as soon as it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/artifacts",
    ]
    said = (folder / "server.log").open("w")
    server = subprocess.Popen(
        command, env={**os.environ, **QUIET}, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, cwd=folder
    )
    try:
        import_mlflow()  # takes as long as the server does, so both at once
        wait_until_healthy(address, server, time.monotonic() + seconds, folder / "server.log")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        said.close()


def wait_until_healthy(address: str, server: subprocess.Popen[bytes], end: float, said: Path) -> None:
    while server.poll() is None and time.monotonic() < end:
        try:
            if requests.get(f"{address}/health", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"no MLflow server at {address}:\n{said.read_text()}")
