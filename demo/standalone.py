# SPDX-License-Identifier: Apache-2.0
"""`airflow standalone` as a child that is gone, with everything below it, when its time is over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import psutil

AIRFLOW = Path(sys.executable).with_name("airflow")
PATIENCE_SECONDS = 10.0


@contextlib.contextmanager
def standalone(
    environment: Mapping[str, str], output: IO[str] | None = None, airflow: str | Path = AIRFLOW
) -> Iterator[subprocess.Popen[bytes]]:
    """Start Airflow in a process group of its own; interrupt the group at the end, and kill what does not go.

    Interrupted, Airflow often waits for ever for one of its own processes, so patience has an end.

    :param output: where its log goes; default: this process's own output
    :param airflow: the program; default: that of this process's environment
    """
    process = subprocess.Popen(
        [airflow, "standalone"],
        env=dict(environment),
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        family = _family(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, left = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        killed = {*left, *_family(process.pid)}
        for one in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(killed, timeout=PATIENCE_SECONDS)
        process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
