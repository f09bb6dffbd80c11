# SPDX-License-Identifier: Apache-2.0
"""Two runs of one day at once, and a publish that is killed in between."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import no_child_left, set_connection, task_context
from tests.faults.books import audit, audit_version, history, read_keys
from tests.faults.jobs import DAY, draw_quick_day, publish, running

pytestmark = [pytest.mark.spark, pytest.mark.faults, pytest.mark.usefixtures("children_end")]

ONE_SLOT = {"slots": 1}
DIES_BETWEEN_TWO_MOVES = """
import json, os, signal, sys
from airflow_onnx_provider import OnnxPublishOperator

moves = 0

def die(event, arguments):
    global moves
    if event == "os.rename" and os.path.isdir(arguments[0]):
        moves += 1
        if moves == 2:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(die)
OnnxPublishOperator(task_id="publish", predictions=json.loads(sys.argv[1])).execute({})
"""


@dataclass(frozen=True)
class Race:
    """Two runs of one day at the same time, both scored and then both published.

    :param home: with the catalogue and the predictions
    :param keys: of the day
    :param results: what the two inference tasks returned
    :param errors: of their publish tasks, in the same order; None for the one that succeeded
    """

    home: Path
    keys: list[str]
    results: list[dict[str, Any]]
    errors: list[BaseException | None]


@pytest.fixture(scope="module")
def one_core() -> Iterator[None]:
    """Jobs run on one core of this machine each, so that two can do so at once."""
    with pytest.MonkeyPatch.context() as patch:
        set_connection(patch, "spark_default", {"conn_type": "spark", "host": "local[1]"})
        yield


@pytest.fixture(scope="module")
def race(one_core: None, colour_model: str, tmp_path_factory: pytest.TempPathFactory) -> Race:
    home = tmp_path_factory.mktemp("publishing")
    keys = draw_quick_day(home / "catalog")
    with (
        no_child_left(),
        running(home, colour_model, task_context(), sizing=ONE_SLOT) as one,
        running(home, colour_model, task_context(), sizing=ONE_SLOT) as other,
    ):
        results = [one.finish(), other.finish()]
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(publish, result, task_context()) for result in results]
    return Race(home, keys, results, [future.exception() for future in futures])


@pytest.fixture
def published_day(race: Race, tmp_path: Path) -> Path:
    """A home of the test's own with the day as the winner published it."""
    shutil.copytree(race.home, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_of_two_runs_of_one_day_one_is_published_and_the_other_says_so(race: Race) -> None:
    winner, loser = (0, 1) if race.errors[0] is None else (1, 0)
    assert race.errors[winner] is None
    assert isinstance(race.errors[loser], AirflowFailException), "no retry: it would be refused again"
    said = str(race.errors[loser])
    assert said.startswith("PublishConflictError")
    assert race.results[winner]["run"] in said
    assert race.results[loser]["run"] in said
    assert audit(race.home / "predictions", DAY, race.keys) == race.results[winner]["run"]
    assert history(race.home / "predictions", DAY) == [], "the loser replaced nothing"


def test_a_publish_that_is_killed_between_two_moves_is_finished_by_the_next_try(
    published_day: Path, race: Race, colour_model: str, context: dict[str, Any]
) -> None:
    first = audit(published_day / "predictions", DAY, race.keys)
    with running(published_day, colour_model, context, sizing=ONE_SLOT) as job:
        second = job.finish()

    told = json.dumps(second, default=str)
    killed = subprocess.run([sys.executable, "-c", DIES_BETWEEN_TWO_MOVES, told], capture_output=True, check=False)

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    visible = read_keys(job.output / f"ds={DAY}")
    assert sorted(visible) == race.keys, "readers see a whole version, the old or the new one"
    publish(second, context)
    assert audit(job.output, DAY, race.keys) == second["run"]
    (replaced,) = history(job.output, DAY)
    assert audit_version(replaced / "predictions", replaced / "quarantine", race.keys) == first
