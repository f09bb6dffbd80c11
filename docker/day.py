# SPDX-License-Identifier: Apache-2.0
"""Today in compose.yaml: ``day.py draw`` makes its pictures, ``day.py follow API PASSWORDS`` waits for its run."""

import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

DATA = Path("/data")
DAG = "catalog_image_classification"
TODAY = dt.datetime.now(dt.UTC).date().isoformat()


def draw() -> None:
    """Train the network and draw the day; both stay as they are if they are there."""
    for module, where in (("demo.train", ["training"]), ("demo.catalog", ["catalog", "--day", TODAY])):
        subprocess.run([sys.executable, "-m", module, "--out", str(DATA / where[0]), *where[1:]], check=True)
    (DATA / "metrics").mkdir(exist_ok=True)


def follow(api: str, passwords: str) -> None:
    """Switch the DAG on, wait for the run that the schedule makes for today, and print its figures."""
    login = {"username": "admin", "password": json.loads(Path(passwords).read_text())["admin"]}
    session = requests.Session()
    token = answer(session.post(f"{api}/auth/token", json=login, timeout=30))["access_token"]
    session.headers["Authorization"] = f"Bearer {token}"
    dag = f"{api}/api/v2/dags/{DAG}"
    while (on := session.patch(dag, json={"is_paused": False}, timeout=30)).status_code == requests.codes.not_found:
        time.sleep(5)  # the DAG processor has not read it yet
    answer(on)
    state = ""
    while state not in {"success", "failed"}:
        time.sleep(5)
        runs = answer(session.get(f"{dag}/dagRuns?order_by=-logical_date&limit=10", timeout=30))
        states = [run["state"] for run in runs["dag_runs"] if (run["logical_date"] or "").startswith(TODAY)]
        if [state] != states[:1]:
            state = states[0] if states else "waits for its schedule"
            print(f"{DAG} of {TODAY}: {state}", flush=True)
    if state == "failed":
        sys.exit("The log of the task that failed is in Airflow, http://localhost:8080")
    subprocess.run([sys.executable, "-m", "demo.summary", "--home", str(DATA), "--partition", TODAY], check=True)


def answer(response: requests.Response) -> Any:
    """What the API says, or its error."""
    response.raise_for_status()
    return response.json()


if __name__ == "__main__":
    if sys.argv[1:] == ["draw"]:
        draw()
    else:
        follow(*sys.argv[2:])
