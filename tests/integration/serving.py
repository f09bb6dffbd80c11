# SPDX-License-Identifier: Apache-2.0
"""A full Airflow of one's own, spoken to over its REST API as the UI does."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests

from demo.environment import on_port
from demo.standalone import standalone


@dataclass
class Airflow:
    """A running `airflow standalone`."""

    url: str
    token: str = ""

    @property
    def cookies(self) -> list[dict[str, Any]]:
        """With which a browser is logged in."""
        return [{"name": "_token", "value": self.token, "url": self.url}]

    def ask(self, method: str, path: str, **body: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.request(method, f"{self.url}{path}", headers=headers, json=body or None, timeout=30)

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = self.ask(method, path, **body)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=50")["dag_runs"])


@contextlib.contextmanager
def serving(home: Path, environment: Mapping[str, str]) -> Iterator[Airflow]:
    """Start Airflow and wait until it knows its DAG; afterwards nothing of it may be left.

    :param home: has the Airflow home as `airflow/`, and gets the log
    """
    port = free_port()
    with (home / "standalone.log").open("w") as log, standalone({**environment, **on_port(port)}, log) as process:
        running = Airflow(f"http://localhost:{port}")
        wait_for("the API server", lambda: requests.get(f"{running.url}/api/v2/version", timeout=5).ok, 120)
        passwords = home / "airflow" / "simple_auth_manager_passwords.json.generated"
        credentials = json.loads(wait_for("the password", passwords.read_text, 30))
        login = {"username": "admin", "password": credentials["admin"]}
        running.token = requests.post(f"{running.url}/auth/token", json=login, timeout=30).json()["access_token"]
        wait_for("the DAG", lambda: running.call("GET", "/api/v2/dags")["total_entries"], 120)
        yield running
        session = os.getsid(process.pid)
    left = [one for one in psutil.process_iter() if session_of(one) == session]
    assert not left, f"left behind: {[one.cmdline()[:4] for one in left]}"


def wait_for(what: str, ready: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := ready():
                return found
        except (requests.ConnectionError, OSError):
            pass
        time.sleep(1)
    raise AssertionError(f"waited {seconds} s for {what}")


def free_port() -> int:
    """A free port whose next two are free as well; by chance, for others look for theirs at the same time."""
    for port in random.sample(range(20_000, 32_000, 3), 1000):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for offset in range(3):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            return port
    raise AssertionError("no three free ports in a row")


def session_of(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None
