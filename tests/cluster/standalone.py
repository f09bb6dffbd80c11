# SPDX-License-Identifier: Apache-2.0
"""A real Spark standalone cluster on loopback, from the installed pyspark: a master and two workers of one core each.

Each worker has a loopback address of its own, so that Spark takes them for different machines: it never starts a
speculative copy of a task on the machine that already works at it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import requests

EXECUTOR = "CoarseGrainedExecutorBackend"
DAEMON_JAVA_OPTS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto"
"""Master and workers do little; quick to start and small matters more than speed."""
PR_SET_PDEATHSIG = 1  # of Linux: sys/prctl.h
MARK = "STANDALONE_CLUSTER"


class StandaloneCluster:
    """Master and workers as processes of their own, each with its folders below ``root``.

    All of them, and whatever they start, carry the environment variable :data:`MARK` with the cluster's own value: by
    that they are found again, even when their parent is gone.

    :param root: an empty folder for logs, work and scratch files
    :param workers: how many
    :param cores: of each worker
    :param memory_mb: of each worker
    """

    def __init__(self, root: Path, *, workers: int = 2, cores: int = 1, memory_mb: int = 2048) -> None:
        self.root = root
        self.cores = cores
        self.memory_mb = memory_mb
        self.mark = uuid.uuid4().hex
        self.port, self.web_port = free_ports(2)
        self._master: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * workers

    @property
    def master(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    @property
    def web_address(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to this cluster."""
        extra = {"web_address": self.web_address, "python": sys.executable}
        return {"conn_type": "spark_cluster", "host": "spark://127.0.0.1", "port": self.port, "extra": extra}

    def __enter__(self) -> StandaloneCluster:
        try:
            self._master = self._start(
                "master.Master", "master", "--port", str(self.port), "--webui-port", str(self.web_port)
            )
            # A worker that finds no master tries again only after several seconds.
            wait_until("the master", lambda: listens(self.port) and self.state(), 30, self._log("master"))
            for number in range(len(self._workers)):
                self._launch_worker(number)
            self._wait_for_workers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for process in [*self._workers, self._master]:
            if process is not None and process.poll() is None:
                process.terminate()  # a worker ends its executors
        self._master, self._workers = None, [None] * len(self._workers)
        _, left = psutil.wait_procs(self.processes(), timeout=10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=10)
        assert not self.processes(), f"still running: {[command_line(one) for one in self.processes()]}"

    def state(self) -> dict[str, Any]:
        """The master's own page as JSON."""
        answer = requests.get(f"{self.web_address}/json/", timeout=10)
        answer.raise_for_status()
        return dict(answer.json())

    def alive(self) -> list[dict[str, Any]]:
        """The workers that the master believes alive."""
        return [worker for worker in self.state()["workers"] if worker["state"] == "ALIVE"]

    def applications(self) -> dict[str, str]:
        """Application id to its state, ended ones included."""
        state = self.state()
        return {one["id"]: one["state"] for one in (*state["activeapps"], *state["completedapps"])}

    def running(self) -> list[str]:
        """Ids of the applications that are not over."""
        return [one["id"] for one in self.state()["activeapps"]]

    def processes(self) -> list[psutil.Process]:
        """Every process of the cluster, executors and their Python included, zombies left out."""
        return marked(MARK, self.mark)

    def executors(self) -> list[psutil.Process]:
        """The executors' JVMs."""
        return [one for one in self.processes() if EXECUTOR in " ".join(command_line(one))]

    def kill_executor(self) -> int:
        """SIGKILL one executor's JVM; gives the pid that it had."""
        executor = min(self.executors(), key=lambda one: one.pid)
        executor.kill()
        return executor.pid

    def stop_worker(self, number: int) -> None:
        """As if the machine lost its power: the worker, its executors and their Python are killed at once."""
        process = self._workers[number]
        assert process is not None, f"worker {number} does not run"
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
        psutil.wait_procs(family, timeout=10)
        self._workers[number] = None
        wait_until(f"the master to miss worker {number}", lambda: len(self.alive()) == self._wanted, 30)

    def start_worker(self, number: int) -> None:
        """Start a worker that was stopped, and wait until the master knows it."""
        self._launch_worker(number)
        self._wait_for_workers()

    def heal(self) -> None:
        """All workers alive, none with an executor, no application running."""
        for number, process in enumerate(self._workers):
            if process is None or process.poll() is not None:
                self._launch_worker(number)
        self._wait_for_workers()
        self.wait_idle()

    def wait_idle(self, seconds: float = 20) -> None:
        """Wait until no application runs, and no executor or Python of one is left."""
        daemons = {process.pid for process in (self._master, *self._workers) if process is not None}

        def idle() -> bool:
            busy = any(worker["coresused"] for worker in self.alive())
            return not busy and not self.running() and {one.pid for one in self.processes()} <= daemons

        wait_until("the cluster to be idle", idle, seconds, lambda: str([command_line(p) for p in self.processes()]))

    @property
    def _wanted(self) -> int:
        return sum(process is not None for process in self._workers)

    def _wait_for_workers(self) -> None:
        wait_until(f"{self._wanted} workers", lambda: len(self.alive()) == self._wanted, 30, self._log("worker-0"))

    def _launch_worker(self, number: int) -> None:
        name = f"worker-{number}"
        size = ["--cores", str(self.cores), "--memory", f"{self.memory_mb}m"]
        places = ["--work-dir", str(self.root / name / "work"), "--webui-port", str(free_ports(1)[0])]
        host = f"127.0.0.{number + 2}"
        self._workers[number] = self._start("worker.Worker", name, *size, *places, self.master, host=host)

    def _start(self, role: str, name: str, *arguments: str, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
        """Start a daemon in a process group of its own."""
        import pyspark

        home = Path(pyspark.__file__).parent
        folder = self.root / name
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SPARK", "PYSPARK"))},
            MARK: self.mark,
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": host,
            "SPARK_CONF_DIR": str(folder),
            "SPARK_LOCAL_DIRS": str(folder / "scratch"),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": DAEMON_JAVA_OPTS,
        }
        command = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", "--host", host]
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ended_with_this_process(),  # noqa: PLW1509  # it looks nothing up after the fork
            )

    def _log(self, name: str) -> Callable[[], str]:
        return lambda: (self.root / name / "log.txt").read_text()[-2000:]


def ended_with_this_process() -> Callable[[], object]:
    """What a daemon does before it becomes Java, so that it ends even with a test run that is killed."""
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def wait_until(
    what: str, ready: Callable[[], Any], seconds: float, explain: Callable[[], str] = str, pause: float = 0.1
) -> Any:
    """The first true answer of ``ready``; a page that does not answer yet is a no."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(requests.RequestException):
            if found := ready():
                return found
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}. {explain()}"
        time.sleep(pause)


def marked(name: str, value: str) -> list[psutil.Process]:
    """Living processes that were started with this environment variable, wherever their parents are."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def command_line(process: psutil.Process) -> list[str]:
    """Empty for a process that is gone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []
