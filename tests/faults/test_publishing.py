"""Two runs of one day at once, and a publish that is killed in between."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import set_connection
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


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs run on one core of this machine each, so that two can do so at once."""
    set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": "local[1]"})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a day; what the first test publishes there is what the second one replaces."""
    place = tmp_path_factory.mktemp("publishing")
    draw_quick_day(place / "catalog")
    return place


@pytest.fixture
def keys(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "catalog" / f"ds={DAY}").glob("*.jpg"))


def test_of_two_runs_of_one_day_one_is_published_and_the_other_says_so(
    place: Path, keys: list[str], colour_model: str, context: dict[str, Any]
) -> None:
    with (
        running(place, colour_model, context, sizing=ONE_SLOT) as one,
        running(place, colour_model, context, sizing=ONE_SLOT) as other,
    ):
        results = [one.finish(), other.finish()]

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(publish, result, context) for result in results]
    errors = [future.exception() for future in futures]

    winner, loser = (0, 1) if errors[0] is None else (1, 0)
    assert errors[winner] is None
    assert isinstance(errors[loser], AirflowFailException), "no retry: it would be refused again"
    said = str(errors[loser])
    assert said.startswith("PublishConflictError")
    assert results[winner]["run"] in said
    assert results[loser]["run"] in said
    assert audit(one.output, DAY, keys) == results[winner]["run"]
    assert history(one.output, DAY) == [], "the loser replaced nothing"


def test_a_publish_that_is_killed_between_two_moves_is_finished_by_the_next_try(
    place: Path, keys: list[str], colour_model: str, context: dict[str, Any]
) -> None:
    first = audit(place / "predictions", DAY, keys)
    with running(place, colour_model, context, sizing=ONE_SLOT) as job:
        second = job.finish()

    told = json.dumps(second, default=str)
    killed = subprocess.run([sys.executable, "-c", DIES_BETWEEN_TWO_MOVES, told], capture_output=True, check=False)

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    visible = read_keys(job.output / f"ds={DAY}")
    assert sorted(visible) == keys, "readers see a whole version, the old or the new one"
    publish(second, context)
    assert audit(job.output, DAY, keys) == second["run"]
    (replaced,) = history(job.output, DAY)
    assert audit_version(replaced / "predictions", replaced / "quarantine", keys) == first
