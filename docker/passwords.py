# SPDX-License-Identifier: Apache-2.0
"""Draws the passwords and keys of compose.yaml into a folder, once; what the environment gives goes before a draw."""

import base64
import json
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import quote

FOLDER = Path(sys.argv[1])


def password(variable: str) -> str:
    return os.environ.get(variable) or secrets.token_urlsafe(18)


def keep(name: str, value: str) -> None:
    """Readable for the group 0 alone, which Airflow and Grafana run in. A secret that is there stays."""
    file = FOLDER / name
    if not file.exists():
        file.touch(mode=0o640)
        file.write_text(value)
        give(file)


def give(path: Path) -> None:
    if os.geteuid() == 0:  # as in compose.yaml, for a new volume is root's
        os.chown(path, 50000, 0)


FOLDER.chmod(0o750)
give(FOLDER)
keep("postgres_password", password("POSTGRES_PASSWORD"))
postgres = quote((FOLDER / "postgres_password").read_text(), safe="")
keep("sql_alchemy_conn", f"postgresql+psycopg2://airflow:{postgres}@postgres/airflow")
keep("airflow_passwords.json", json.dumps({"admin": password("AIRFLOW_PASSWORD")}))
keep("grafana_password", password("GRAFANA_PASSWORD"))
keep("api_secret_key", secrets.token_urlsafe(32))
keep("jwt_secret", secrets.token_urlsafe(48))
keep("fernet_key", base64.urlsafe_b64encode(os.urandom(32)).decode())
