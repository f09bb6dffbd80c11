# SPDX-License-Identifier: Apache-2.0
"""Airflow's own API server with the plugin, on an Airflow home of its own, as a child process.

Its users are those of Airflow's simple auth manager, made stricter: ``reader`` may read one DAG, ``clerk`` DAGs but no
results of tasks and no Assets, ``stranger`` nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

OPEN_DAG = "catalog_image_classification"
REPOSITORY = Path(__file__).parents[2]


class StrictAuthManager(SimpleAuthManager):
    """Airflow's own, with users who may do less than its viewers."""

    def is_authorized_dag(
        self,
        *,
        method: Any,
        user: Any,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        if user.username == "clerk" and access_entity is DagAccessEntity.XCOM:
            return False
        if user.username == "reader" and details is not None and details.id not in (None, OPEN_DAG):
            return False
        return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)

    def is_authorized_asset(self, *, method: Any, user: Any, details: Any = None) -> bool:
        return user.username != "clerk" and super().is_authorized_asset(method=method, user=user, details=details)

    def is_authorized_view(self, *, access_view: Any, user: Any) -> bool:
        return user.username != "stranger" and super().is_authorized_view(access_view=access_view, user=user)


@dataclass(frozen=True)
class ApiServer:
    """A server that answers.

    :param address: of Airflow
    :param tokens: user name to a token
    """

    address: str
    tokens: dict[str, str]

    def headers(self, user: str | None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}


@contextlib.contextmanager
def api_server(home: Path, **environment: str) -> Iterator[ApiServer]:
    """Start it; it ends with the context.

    :param home: gets Airflow's home, and ``seed`` of :mod:`tests.plugin.days` is called with it
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    settings = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.plugin.api_server.StrictAuthManager",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        **environment,
    }
    log = home / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.plugin.api_server", str(home), str(port)],
            env=inherited | settings,
            cwd=REPOSITORY,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield ApiServer(f"http://127.0.0.1:{port}", _tokens(server, home / "tokens.json", log))
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _tokens(server: subprocess.Popen[bytes], file: Path, log: Path) -> dict[str, str]:
    until = time.monotonic() + 120
    while not file.is_file():
        if server.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"the API server did not come up:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
    tokens: dict[str, str] = json.loads(file.read_text())
    return tokens


def serve(home: Path, port: int) -> None:
    """Fill the database, then answer until terminated."""
    import uvicorn
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    from tests.plugin.days import seed

    initdb()
    with create_session(scoped=False) as session:
        seed(session, home)
    app = create_app(apps="core")

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            users = [
                SimpleAuthManagerUser(username=name, role="VIEWER")
                for name in ("viewer", "reader", "clerk", "stranger")
            ]
            tokens = {user.username: get_auth_manager().generate_jwt(user) for user in users}
            (home / "tokens.tmp").write_text(json.dumps(tokens))
            (home / "tokens.tmp").rename(home / "tokens.json")

    Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")).run()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
