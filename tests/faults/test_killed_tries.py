# SPDX-License-Identifier: Apache-2.0
"""Under a real scheduler: drivers and tasks are killed, a finished run is cleared; Airflow's own ways lead out."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo.environment import airflow_environment
from tests.cluster.standalone import StandaloneCluster, command_line, free_ports, marked, wait_until
from tests.faults.books import audit, finished_runs, history, snapshot, staged
from tests.faults.jobs import DAY, SIZING, draw_slow_day, scoring_stage
from tests.integration.serving import Airflow, serving, wait_for

pytestmark = [pytest.mark.spark, pytest.mark.scheduler, pytest.mark.faults, pytest.mark.timeout(600)]

DAG_ID = "day_under_faults"
INFER = f"/api/v2/dags/{DAG_ID}/dagRuns/{{run}}/taskInstances/infer"
GONE_SECONDS = 10.0


@dataclass
class Scene:
    """Airflow, the cluster, and the processes of the try that is at work.

    :param ui: address of the driver's web page
    :param keys: of the day
    :param seen: drivers of earlier tries
    """

    airflow: Airflow
    cluster: StandaloneCluster
    home: Path
    ui: str
    keys: list[str]
    seen: set[int] = field(default_factory=set)

    @property
    def output(self) -> Path:
        return self.home / "predictions"

    def start(self) -> str:
        """Trigger the day; gives the DAG run's id."""
        run = self.airflow.call("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", logical_date=f"{DAY}T00:00:00Z")
        return str(run["dag_run_id"])

    def clear(self, run: str) -> None:
        """What the button does."""
        self.airflow.call(
            "POST", f"/api/v2/dags/{DAG_ID}/clearTaskInstances", dag_run_id=run, dry_run=False, only_failed=False
        )

    def infer(self, run: str) -> dict[str, Any]:
        return dict(self.airflow.call("GET", INFER.format(run=run)))

    def next_try(self) -> Try:
        """The next try, in the middle of its scoring."""
        driver = wait_until("a driver", self._new_driver, 90)
        self.seen.add(driver.pid)
        wait_until("the middle of the scoring stage", lambda: scoring_stage(self.ui), 90)
        python = next(one for one in driver.children() if "catalog_inference.py" in " ".join(command_line(one)))
        family = [driver, *driver.children(recursive=True)]
        workers = [
            one for executor in self.cluster.executors() for one in (executor, *executor.children(recursive=True))
        ]
        return Try(driver.parent(), driver, python, [*family, *workers], self.cluster.running())

    def _new_driver(self) -> psutil.Process | None:
        drivers = [one for one in marked("FAULTS_HOME", str(self.home)) if is_driver(one) and one.pid not in self.seen]
        return drivers[0] if drivers else None

    def assert_gone(self, died: Try) -> None:
        """Nothing of a try that was killed is left, neither here nor on the cluster, and nothing of it is published."""
        _, left = psutil.wait_procs(died.processes, timeout=GONE_SECONDS)
        left = [one for one in left if is_alive(one)]
        assert not left, f"still running: {[command_line(one)[:4] for one in left]}"
        states = self.cluster.applications()
        assert {states[one] for one in died.applications} <= {"FINISHED", "KILLED", "FAILED"}, states

    def wait_for_end(self, run: str) -> str:
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run}"

        def over() -> Any:
            state = self.airflow.call("GET", path)["state"]
            return state in ("success", "failed") and state

        return str(wait_for("the run's end", over, 180))


@dataclass(frozen=True)
class Try:
    """One try's processes: Airflow's task, the driver's JVM and its Python, and all below them and on the workers."""

    task: psutil.Process
    jvm: psutil.Process
    python: psutil.Process
    processes: list[psutil.Process]
    applications: list[str]


def is_driver(process: psutil.Process) -> bool:
    line = command_line(process)
    return "org.apache.spark.deploy.SparkSubmit" in line and "org.apache.spark.launcher.Main" not in line


def is_alive(process: psutil.Process) -> bool:
    """A zombie is dead; how soon its parent notices is not the product's affair."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def scene(
    standalone_cluster: StandaloneCluster, colour_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    home = tmp_path_factory.mktemp("faults")
    keys = draw_slow_day(home / "catalog")
    (port,) = free_ports(1)
    environment = airflow_environment(home, dags=Path(__file__).parent / "dags") | {
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(standalone_cluster.connection),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "SPARK_LOCAL_IP": "127.0.0.1",
        "FAULTS_HOME": str(home),
        "FAULTS_MODEL": colour_model,
        "FAULTS_SIZING": json.dumps(SIZING),
        "FAULTS_CONF": json.dumps({"spark.ui.port": str(port)}),
    }
    standalone_cluster.heal()
    with serving(home, environment) as airflow:
        yield Scene(airflow, standalone_cluster, home, f"http://127.0.0.1:{port}", keys)
    standalone_cluster.heal()


def test_retries_outlive_the_death_of_the_driver_its_python_and_the_task(scene: Scene) -> None:
    run = scene.start()

    first = scene.next_try()
    first.jvm.kill()
    scene.assert_gone(first)

    second = scene.next_try()
    second.python.kill()
    scene.assert_gone(second)

    third = scene.next_try()
    third.task.kill()
    scene.assert_gone(third)
    assert not list(scene.output.glob("ds=*")), "nothing of the dead tries is published"

    assert scene.wait_for_end(run) == "success"
    assert scene.infer(run)["try_number"] == 4
    assert staged(scene.output) == []
    published = audit(scene.output, DAY, scene.keys)
    assert finished_runs(scene.output) == [published], "no dead try went on unseen"
    assert history(scene.output, DAY) == [], "one run was published"


def test_a_cleared_run_runs_again_and_a_task_that_is_ended_by_hand_leaves_nothing(scene: Scene) -> None:
    (run,) = [one["dag_run_id"] for one in scene.airflow.runs(DAG_ID)]
    published = audit(scene.output, DAY, scene.keys)
    before = snapshot(scene.output / f"ds={DAY}")

    scene.clear(run)
    ended = scene.next_try()
    scene.airflow.call("PATCH", INFER.format(run=run), new_state="failed")
    ended.task.wait(60)  # Airflow tells it with its next heartbeat
    scene.assert_gone(ended)
    assert snapshot(scene.output / f"ds={DAY}") == before
    assert scene.wait_for_end(run) == "failed"

    scene.clear(run)
    assert scene.wait_for_end(run) == "success"

    again = audit(scene.output, DAY, scene.keys)
    assert again != published
    assert [version.name for version in history(scene.output, DAY)] == [published]
    assert sorted(finished_runs(scene.output)) == sorted([published, again])
