# SPDX-License-Identifier: Apache-2.0
"""`python -m demo.ui`: a full Airflow with the reference DAG, to click through."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys

from demo.environment import DAG_ID, HOME, airflow_environment, on_port
from demo.standalone import standalone


def main() -> None:
    """Run Airflow until Ctrl-C."""
    if not (HOME / "training" / "classifier.keras").is_file():
        sys.exit("There is no model and no catalogue yet: run `make demo` first.")
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.default_int_handler)  # also where a background job inherited an ignored Ctrl-C
    today = dt.datetime.now(dt.UTC).date().isoformat()
    draw = [sys.executable, "-m", "demo.catalog", "--out", str(HOME / "catalog"), "--day", today]
    subprocess.run(draw, check=True)  # so that the run that Airflow schedules, once unpaused, finds its day
    port = int(os.environ.get("AIRFLOW_PORT", "8080"))
    environment = airflow_environment(HOME) | on_port(port)
    airflow = [sys.executable, "-m", "airflow"]
    subprocess.run([*airflow, "db", "migrate"], env=environment, stdout=subprocess.DEVNULL, check=True)
    passwords = HOME / "airflow" / "simple_auth_manager_passwords.json.generated"
    log = HOME / "airflow" / "standalone.log"
    print(f"Airflow comes up at http://localhost:{port} in about a minute; the DAG is {DAG_ID}.")
    print(f"User admin, password in {passwords}; log in {log}. Ctrl-C ends it.", flush=True)
    with log.open("w") as output, contextlib.suppress(KeyboardInterrupt), standalone(environment, output) as running:
        status = running.wait()
        sys.exit(f"Airflow ended by itself with status {status}; see {log}")
    print("Airflow has ended.")


if __name__ == "__main__":
    main()
