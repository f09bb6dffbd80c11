# SPDX-License-Identifier: Apache-2.0
"""The Spark provider's hook with its traps closed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk import Connection

from airflow_onnx_provider.exceptions import BadInputError, MissingExtraError, OnnxProviderError, needs_extra
from airflow_onnx_provider.hooks.capacity.access import (
    TIMEOUT_SECONDS,
    Access,
    addresses_of,
    expecting,
    first_leading,
)
from airflow_onnx_provider.hooks.capacity.standalone import default_pages
from airflow_onnx_provider.hooks.connections import require_connection
from airflow_onnx_provider.hooks.spark_cluster import CONN_TYPES, EXAMPLE, SparkClusterHook
from airflow_onnx_provider.links import application_address
from airflow_onnx_provider.spark.submission import with_task_retries

APPLICATION = re.compile(r"^Spark application (\S+) at (\S+)$")
"""What the job's driver prints as soon as it has a Spark session; ``-`` stands for no web page."""

YARN_APPLICATION = re.compile(r"\b(application_\d+_\d+)\b")
YARN_TRACKING = re.compile(r"\btracking URL: (https?://\S+)")
KUBERNETES_APPLICATION = re.compile(r"\bapplication ID (spark-\w+)")
KUBERNETES_SUBMISSION = re.compile(r"\bsubmission ID [\w-]+:(\S+-driver)\b")
TOKEN = re.compile(r"([\w.\-]*(?:token|credential|access\.?key)[\w.\-]*=)\S+", re.IGNORECASE)

SPARK_DISTRIBUTIONS = ("pyspark", "pyspark-client")
"""They write into one folder; the Spark provider brings the second one."""

PR_SET_PDEATHSIG = 1
KILL_SECONDS = 60


class OnnxSparkSubmitHook(SparkSubmitHook):
    """Submits with spark-submit.

    Unlike its parent: a missing connection is an error instead of ``yarn``, and Kubernetes without its package is one
    that says so; connections of the type ``spark_cluster`` work too; ``local[N]`` retries tasks as a cluster does;
    spark-submit is also found beside this Python when the PATH does not name it; ONNX Runtime's telemetry is off;
    tokens are masked, too; the application's address is known as soon as it is printed; and a kill, even of this very
    process, leaves nothing running on this machine.
    """

    on_application: Callable[[str, str], None] | None = None
    """Called once with the application's id and its web address (empty if there is none) when both are known."""

    _application = ""
    _driver_ui = ""
    _announced = False

    @classmethod
    def get_connection(cls, conn_id: str) -> Connection:
        connection = require_connection(conn_id, CONN_TYPES, EXAMPLE)
        if connection.conn_type != "spark":
            # The parent builds the master's URL from the type's name unless it is "spark".
            return Connection(
                conn_id=conn_id,
                conn_type="spark",
                host=connection.host,
                port=connection.port,
                login=connection.login,
                password=connection.password,
                extra=connection.extra,
            )
        return connection

    def track(self, durable: bool) -> bool:
        """Choose how a driver in YARN's cluster mode is watched; to be called once, before the submission.

        With a ResourceManager's address in the connection its REST API is asked, and a retry finds a job that still
        runs. Without one spark-submit itself waits for the end, and each try submits anew.

        :param durable: the operator's wish
        :return: whether the operator can be durable; other masters leave that as it is
        """
        if not self._is_yarn_cluster_mode:
            return durable
        self._yarn_track_via_rm_api = bool(self._pages)
        return durable and self._yarn_track_via_rm_api

    def submit(self, application: str = "", **kwargs: Any) -> str | None:
        """Run spark-submit; it dies with this process, however that ends."""
        if uses_installed_spark() and (said := mixed_spark()):
            self.log.warning("%s", said)
        return super().submit(application, preexec_fn=dying_with_this_process(), **kwargs)

    def on_kill(self) -> None:
        """End spark-submit and everything below it, and the application on the cluster."""
        below: list[psutil.Process] = []
        if self._submit_sp and self._submit_sp.poll() is None:
            # The parent kills the JVM alone; its Python workers have a process group of their own.
            with contextlib.suppress(psutil.NoSuchProcess):
                below = psutil.Process(self._submit_sp.pid).children(recursive=True)
        try:
            super().on_kill()
        except FileNotFoundError as error:
            self.log.warning(
                "The YARN application %s may still run, there is no %r here to kill it with; put the ResourceManager's "
                "web_address into the connection %r, and it is killed through its API",
                self._yarn_application_id,
                error.filename,
                self._conn_id,
            )
            self._run_post_submit_commands()
        finally:
            for child in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()

    def _resolve_connection(self) -> dict[str, Any]:
        resolved = super()._resolve_connection()
        resolved["master"] = with_task_retries(resolved["master"])
        if resolved["master"].startswith("k8s://"):
            require_kubernetes(resolved["master"])
            resolved["namespace"] = resolved["namespace"] or "default"  # as for Spark; the parent would delete in None
        return resolved

    def _get_spark_binary_path(self) -> list[str]:
        return [find_spark_submit(self._connection["spark_binary"])]

    def _build_spark_submit_command(self, application: str) -> list[str]:
        command = super()._build_spark_submit_command(application)
        # The parent gives env_vars to this process on YARN and standalone only, and Kubernetes has drivers here too.
        self._env = submit_environment(self._connection["deploy_mode"] or "client") | (self._env or {})
        return command

    def _mask_cmd(self, connection_cmd: str | list[str]) -> str:
        return TOKEN.sub(r"\1******", super()._mask_cmd(connection_cmd))

    def _process_spark_submit_log(self, itr: Iterator[Any]) -> None:
        def watched() -> Iterator[Any]:
            for line in itr:
                self._look_at(line.strip())
                yield line

        super()._process_spark_submit_log(watched())
        self._announce(finally_=True)

    def _look_at(self, line: str) -> None:
        """Find the application's id and address in a line of the driver or of Spark's clients."""
        if found := APPLICATION.match(line):
            self._application, self._driver_ui = found[1], found[2]
        for mine, pattern in ((self._is_yarn, YARN_APPLICATION), (self._is_kubernetes, KUBERNETES_APPLICATION)):
            if mine and (found := pattern.search(line)):
                self._application = found[1]
        if self._is_kubernetes and (found := KUBERNETES_SUBMISSION.search(line)):
            self._kubernetes_driver_pod = found[1]  # the parent looks for pods in a namespace called spark
        if self._is_yarn and (found := YARN_TRACKING.search(line)):
            self._driver_ui = found[1]
        self._announce()

    def _announce(self, *, finally_: bool = False) -> None:
        if self._announced or not self._application or self.on_application is None:
            return
        address = application_address(
            self._application,
            self._driver_ui,
            master=self._connection["master"],
            web_address=next(iter(self._pages), ""),
            history_address=self._cluster.history_address or "",
        )
        if address or self._driver_ui or finally_:
            self._announced = True
            try:
                self.on_application(self._application, address)
            except Exception as error:  # a link is not worth a job
                self.log.warning("The application's address could not be kept: %s", error)

    @cached_property
    def _cluster(self) -> SparkClusterHook:
        return SparkClusterHook(self._conn_id)

    @cached_property
    def _pages(self) -> tuple[str, ...]:
        """Web addresses of the standalone masters or the ResourceManagers."""
        master = self._connection["master"]
        pages = addresses_of(self._cluster.web_address, self._conn_id)
        return pages or (default_pages(master) if master.startswith("spark://") else ())

    # YARN: the parent asks one address, with its own idea of credentials and none of certificates.

    def _get_yarn_rm_base_url(self) -> str:
        if not self._pages:
            raise BadInputError(
                f"tracking through YARN's ResourceManager needs its address: put web_address into the connection "
                f"{self._conn_id!r}, for example http://rm:8088"
            )
        return self._pages[0]

    @cached_property
    def _resolved_yarn_rm_auth(self) -> Any:
        return self._yarn_rm_auth

    @cached_property
    def _access(self) -> Access:
        access = Access.of(self._cluster.get_conn())
        kerberos = access.auth == "none" and self._connection["keytab"] and self._connection["principal"]
        return replace(access, auth="kerberos") if kerberos else access

    def _start_yarn_application_status_tracking(self, application_id: str) -> None:
        # A retry that only watches has seen no log; without the id a kill would leave the application running.
        self._yarn_application_id = self._application = application_id
        self._announce(finally_=True)
        super()._start_yarn_application_status_tracking(application_id)

    def _query_yarn_application_status(self, application_id: str) -> tuple[str, str, str]:
        if self._yarn_rm_auth is not None:
            return super()._query_yarn_application_status(application_id)

        def ask(page: str) -> tuple[str, str, str]:
            application = self._access.json(f"{page}/ws/v1/cluster/apps/{application_id}")
            with expecting(page, "a ResourceManager"):
                found = application["app"]
                return found["state"], found["finalStatus"], found.get("diagnostics", "")

        try:
            state, said = first_leading(self._pages, ask)
        except OnnxProviderError as error:
            raise RuntimeError(str(error)) from error  # the parent counts these and tries again
        if state is None:
            raise RuntimeError(said)
        return state

    def _kill_yarn_application(self, application_id: str) -> None:
        if self._yarn_rm_auth is not None:
            super()._kill_yarn_application(application_id)
            return
        import requests

        access, said = self._access, []
        for page in self._pages:
            try:
                answer = requests.put(
                    f"{page}/ws/v1/cluster/apps/{application_id}/state",
                    json={"state": "KILLED"},
                    params={"user.name": access.login} if access.auth == "simple" else {},
                    auth=access.requests_auth(),
                    verify=access.verify,
                    cert=access.cert or None,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                )
            except (requests.RequestException, OSError) as error:
                said.append(str(access.no_answer(page, error)))
                continue
            if answer.status_code in {200, 202}:
                self.log.info("The YARN application %s is killed", application_id)
                return
            said.append(f"{page} answers {answer.status_code} {answer.reason}")
        self.log.warning("The YARN application %s may still run: %s", application_id, "; ".join(said))

    # Kubernetes: the parent asks the cluster that Airflow's own executor is configured for.

    def _delete_driver_pod(self) -> None:
        submission = f"{self._connection['namespace']}:{self._kubernetes_driver_pod}"
        command = [*self._get_spark_binary_path(), "--master", self._connection["master"], "--kill", submission]
        for key, value in self._conf.items():
            if key.startswith(("spark.kubernetes.authenticate.", "spark.kubernetes.context")):
                command += ["--conf", f"{key}={value}"]
        self.log.info("Deleting the driver pod %s", submission)
        environment = {**os.environ, **submit_environment("cluster")}
        try:
            subprocess.run(command, env=environment, capture_output=True, timeout=KILL_SECONDS, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            said = self._mask_cmd((error.stderr or b"").decode(errors="replace")[-500:])
            self.log.warning("The driver pod %s may still run: %s", submission, said)


def dying_with_this_process() -> Callable[[], None]:
    """What a child does before it becomes spark-submit, so that it is killed when this process ends without a word.

    The setting survives ``exec``, and spark-submit's scripts become the JVM in the same process. Without a JVM Spark's
    Python processes end by themselves: their pipes and sockets to it close.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it; a forked child should look up nothing
    parent = os.getpid()

    def die_with_parent() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it ended before the line above
                os._exit(1)

    return die_with_parent


def find_spark_submit(binary: str = "spark-submit") -> str:
    """Path of spark-submit: on the PATH, else beside this Python.

    :raises MissingExtraError: if there is none
    """
    beside = Path(sys.executable).parent / binary
    found = shutil.which(binary) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise MissingExtraError(
            f"{binary} is neither on the PATH nor beside {sys.executable}. Put the bin folder of your Spark on the "
            "PATH; without one, a submission needs the extra spark: pip install 'airflow-onnx-provider[spark]'"
        )
    return found


def require_java() -> None:
    """Make sure that a Java is there before Spark says it in ten lines.

    :raises BadInputError: if neither JAVA_HOME nor the PATH has one
    """
    home = os.environ.get("JAVA_HOME")
    if not (home and (Path(home) / "bin" / "java").is_file()) and shutil.which("java") is None:
        raise BadInputError(
            "Spark needs Java 17 or newer, and neither JAVA_HOME nor the PATH has one. On Debian or Ubuntu: "
            "apt-get install openjdk-17-jre-headless"
        )


def require_kubernetes(master: str) -> None:
    """Make sure that the Spark provider can submit to Kubernetes; without its package it ends in a NameError.

    :raises MissingExtraError: if the package is not installed
    """
    with needs_extra("kubernetes", f"a submission to {master}"):
        import airflow.providers.cncf.kubernetes.kube_client  # noqa: F401


def submit_environment(deploy_mode: str) -> dict[str, str]:
    """Environment of spark-submit: telemetry off, and what its scripts need to find a Spark that pip installed.

    A driver on this machine runs in this Python, which they ask for Spark's home, too. A driver elsewhere must not hear
    of this Python: the client hands its name on to YARN's containers.
    """
    environment = {"ORT_DISABLE_TELEMETRY": "1"}
    if deploy_mode == "client":
        return environment | {"PYSPARK_DRIVER_PYTHON": sys.executable}
    installed = find_spec("pyspark")
    if uses_installed_spark() and installed and installed.origin:
        environment["SPARK_HOME"] = str(Path(installed.origin).parent)
    return environment


def uses_installed_spark() -> bool:
    """Whether the Spark that submits is the one that pip put beside this Python."""
    scripts = shutil.which("spark-submit")
    beside = scripts is None or Path(scripts).parent == Path(sys.executable).parent
    return beside and "SPARK_HOME" not in os.environ


def mixed_spark() -> str:
    """What is wrong with the Spark beside this Python, with the way out; empty: nothing is."""
    found = {name: next((one.version for one in distributions(name=name)), "") for name in SPARK_DISTRIBUTIONS}
    if len(set(found.values()) - {""}) < 2:
        return ""
    both = " and ".join(f"{name} {version}" for name, version in found.items())
    return (
        f"{both} are both installed and share one folder, so what runs is a mixture of the two: uninstall both, then "
        "install airflow-onnx-provider[spark] (or spark-4-1, spark-4-0), which names two of one version"
    )
