# SPDX-License-Identifier: Apache-2.0
"""Executors and workers die in the middle of a job, and slow ones are overtaken: the day is published all the same."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.standalone import StandaloneCluster, command_line, wait_until
from tests.faults.books import audit
from tests.faults.jobs import DAY, Job, ask, draw_slow_day, publish, running

pytestmark = [pytest.mark.spark, pytest.mark.faults]

Start = Callable[..., AbstractContextManager[Job]]


@pytest.fixture
def keys(home: Path) -> list[str]:
    return draw_slow_day(home / "catalog")


@pytest.fixture
def start(home: Path, keys: list[str], colour_model: str, context: dict[str, Any]) -> Start:
    """Start the job over the day; further arguments are those of the operator."""
    return partial(running, home, colour_model, context)


def test_an_executor_that_is_killed_is_replaced(
    start: Start, cluster: StandaloneCluster, keys: list[str], context: dict[str, Any]
) -> None:
    with start() as job:
        job.wait_for_scoring()
        assert len(cluster.executors()) == 2
        killed = cluster.kill_executor()
        wait_until("another executor", lambda: {one.pid for one in cluster.executors()} - {killed}, 30)
        result = job.finish()

    assert published(result, context, keys) == result["run"]


def test_a_worker_that_is_gone_for_good_leaves_its_work_to_the_other(
    start: Start, cluster: StandaloneCluster, keys: list[str], context: dict[str, Any]
) -> None:
    with start() as job:
        job.wait_for_scoring()
        assert len(cluster.executors()) == 2
        cluster.stop_worker(0)
        result = job.finish()

    assert len(cluster.alive()) == 1
    assert published(result, context, keys) == result["run"]


def test_a_task_that_speculation_overtakes_is_not_counted_twice(
    start: Start, cluster: StandaloneCluster, keys: list[str], context: dict[str, Any]
) -> None:
    conf = {
        "spark.speculation": "true",
        "spark.speculation.interval": "100ms",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.quantile": "0.2",
    }

    with start(conf=conf) as job:
        stage = job.wait_for_scoring()
        slow = busiest_python(cluster)
        slow.send_signal(signal.SIGSTOP)
        try:
            tasks = f"stages/{stage['stageId']}/{stage['attemptId']}/taskList?length=100"
            wait_until("a speculative copy", lambda: any(one["speculative"] for one in ask(job.ui, tasks)), 60)
        finally:
            time.sleep(1)
            resume(slow)  # if Spark has not killed it yet, both attempts come to their end
        result = job.finish()

    assert published(result, context, keys) == result["run"]


def published(result: Mapping[str, Any], context: Mapping[str, Any], keys: list[str]) -> str:
    """Publish and audit the day; gives the published run."""
    publish(result, context)
    assert result["rows_in"] == len(keys)
    return audit(Path(result["output_path"]), DAY, keys)


def busiest_python(cluster: StandaloneCluster) -> psutil.Process:
    """The Python worker that works most now. PySpark forks it from a daemon with the same command line."""
    daemons = [one for one in cluster.processes() if "pyspark.daemon" in " ".join(command_line(one))]
    pids = {one.pid for one in daemons}
    before = {one: one.cpu_times().user for one in daemons if one.ppid() in pids}
    time.sleep(0.3)
    return max(before, key=lambda one: one.cpu_times().user - before[one])


def resume(process: psutil.Process) -> None:
    if process.is_running():
        process.send_signal(signal.SIGCONT)
