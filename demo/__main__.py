# SPDX-License-Identifier: Apache-2.0
"""`python -m demo`: train, draw three days, run the first one through Airflow and Spark, and show what came of it."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO

from demo.environment import DAG_ID, HOME, airflow_environment
from demo.follow import NOISE, readable, records

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
PICTURES = 1200


def main() -> None:
    """Do the whole day; every part that is already there is kept."""
    started = time.perf_counter()
    _step("Train a small Keras network on pictures of its own")
    _python("demo.train", "--out", str(HOME / "training"))
    _step(f"Draw {len(DAYS)} days of {PICTURES} product pictures")
    days = [argument for day in DAYS for argument in ("--day", day)]
    _python("demo.catalog", "--out", str(HOME / "catalog"), *days, "--pictures", str(PICTURES))
    _step(f"airflow dags test {DAG_ID} {DAYS[0]}")
    _run_day(DAYS[0])
    _python("demo.summary", "--home", str(HOME), "--partition", DAYS[0])
    taken = dt.timedelta(seconds=round(time.perf_counter() - started))
    print(f"\n{taken} in all. `make airflow` shows it in the UI.")


def _step(title: str) -> None:
    print(f"\n== {title}", flush=True)


def _python(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        for line in child.stdout or ():
            if not NOISE.search(line):
                print(line, end="", flush=True)
    if child.returncode:
        sys.exit(child.returncode)


def _run_day(day: str) -> None:
    """Run the DAG; its whole log goes to a file, its tasks and their own lines to the screen."""
    environment = airflow_environment(HOME)
    log = HOME / "airflow" / f"dags-test-{day}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    airflow = [sys.executable, "-m", "airflow"]
    migrated = subprocess.run([*airflow, "db", "migrate"], env=environment, capture_output=True, text=True, check=False)
    if migrated.returncode:
        sys.exit(f"airflow db migrate failed:\n{migrated.stdout[-2000:]}{migrated.stderr[-2000:]}")
    command = [*airflow, "dags", "test", DAG_ID, day]
    with (
        log.open("w") as file,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as run,
    ):
        for record in records(_copied(run.stdout or (), file)):
            if shown := readable(record):
                print(shown, flush=True)
    if run.returncode:
        sys.exit(f"The run failed. What its last task said is above; the whole log: {log}")


def _copied(lines: Iterable[str], file: IO[str]) -> Iterator[str]:
    for line in lines:
        file.write(line)
        yield line


if __name__ == "__main__":
    main()
