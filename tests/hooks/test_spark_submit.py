# SPDX-License-Identifier: Apache-2.0
"""spark-submit as it is called on each kind of cluster, watched, and killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest
from airflow.providers.apache.spark.hooks import spark_submit as provider
from airflow.sdk.exceptions import AirflowException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook
from airflow_onnx_provider.spark.submission import SERIAL_GC, ExecutorEnvironment, Submission, prepare
from tests.conftest import set_connection
from tests.runtime.tiny import write_version
from tests.spark.test_submission import SETTINGS

CLUSTER_PLAN = {
    "spark.task.cpus": "1",
    "spark.executor.instances": "4",
    "spark.executor.cores": "4",
    "spark.executor.memory": "1024m",
    "spark.executor.memoryOverhead": "5504m",
}
GPU_PLAN = CLUSTER_PLAN | {"spark.executor.resource.gpu.amount": "1", "spark.task.resource.gpu.amount": "0.25"}
"""As the planner writes them, with plain numbers."""

EVERYWHERE = {
    "spark.executorEnv.ORT_DISABLE_TELEMETRY": "1",
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.showConsoleProgress": "false",
    "spark.task.maxFailures": "4",
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.executor.extraJavaOptions": SERIAL_GC,
}
HERE = {
    "spark.pyspark.driver.python": "PYTHON",
    "spark.driver.extraJavaOptions": f"{SERIAL_GC} -Dlog4j2.configurationFile=file://WORK/log4j2.properties",
}
"""In client mode: the driver is this machine's."""

ON_YARN = {"spark.yarn.appMasterEnv.ORT_DISABLE_TELEMETRY": "1", "spark.yarn.maxAppAttempts": "1"}
ON_KUBERNETES = {"spark.kubernetes.driverEnv.ORT_DISABLE_TELEMETRY": "1"}
UPLOAD = {"spark.kubernetes.file.upload.path": "s3a://staging/spark"}
SHIPPED = {"--py-files": "WORK/airflow_onnx_provider.zip", "--archives": "WORK/model.zip#onnx_model", "--name": "onnx"}


def connect(monkeypatch: pytest.MonkeyPatch, host: str, **extra: Any) -> None:
    set_connection(monkeypatch, "spark_default", {"conn_type": "spark_cluster", "host": host, "extra": extra})


def hook_of(submission: Submission, **changes: Any) -> OnnxSparkSubmitHook:
    """As the operator makes it."""
    return OnnxSparkSubmitHook(
        conf=dict(submission.conf),
        py_files=submission.py_files,
        files=submission.files,
        archives=submission.archives,
        application_args=list(submission.arguments),
        name="onnx",
        **changes,
    )


@pytest.fixture
def submission(tmp_path: Path) -> Callable[..., Submission]:
    """Prepare a tiny model for a cluster."""
    write_version(tmp_path / "version")

    def make(host: str, deploy_mode: str = "client", **changes: Any) -> Submission:
        (tmp_path / "work").mkdir(exist_ok=True)
        given = {"plan_conf": CLUSTER_PLAN, "hand_set": {}, "model_folder": tmp_path / "version", **changes}
        return prepare(tmp_path / "work", SETTINGS, master=host, deploy_mode=deploy_mode, **given)

    return make


def parsed(command: Sequence[str], work: Path) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Options, Spark properties and the application with its arguments; paths that differ by machine get a name."""
    text = [part.replace(str(work), "WORK").replace(sys.executable, "PYTHON") for part in command[1:]]
    application = next(number for number, part in enumerate(text) if part.endswith(".py"))
    pairs = list(zip(text[:application:2], text[1:application:2], strict=True))
    conf = dict(value.split("=", 1) for option, value in pairs if option == "--conf")
    return {option: value for option, value in pairs if option != "--conf"}, conf, text[application:]


class Case(NamedTuple):
    host: str
    extra: dict[str, str]
    changes: dict[str, Any]
    options: dict[str, str]
    conf: dict[str, str]


# Spark's documentation: "Submitting Applications" for masters and options, "Running on YARN", "Running on Kubernetes"
# ("Dependency Management", "Client Mode"), "Custom Resource Scheduling" in "Configuration" for GPUs, and for Python
# environments PySpark's "Python Package Management".
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(
                "local[2]",
                {},
                {"plan_conf": {"spark.task.cpus": "1"}},
                {"--master": "local[2,4]"},
                {"spark.task.cpus": "1", "spark.pyspark.python": "PYTHON", **HERE},
            ),
            id="local",
        ),
        pytest.param(
            Case(
                "spark://m:7077",
                {},
                {"environment": ExecutorEnvironment(python="/opt/onnx/bin/python")},
                {"--master": "spark://m:7077"},
                {**CLUSTER_PLAN, **HERE, "spark.pyspark.python": "/opt/onnx/bin/python"},
            ),
            id="standalone",
        ),
        pytest.param(
            Case(
                "yarn",
                {"queue": "nightly"},
                {"environment": ExecutorEnvironment(archive="/envs/onnx.tar.gz")},
                {
                    "--master": "yarn",
                    "--queue": "nightly",
                    "--archives": "WORK/model.zip#onnx_model,/envs/onnx.tar.gz#environment",
                },
                {**CLUSTER_PLAN, **HERE, **ON_YARN, "spark.pyspark.python": "./environment/bin/python"},
            ),
            id="YARN, driver here",
        ),
        pytest.param(
            Case(
                "yarn",
                {"deploy-mode": "cluster"},
                {"environment": ExecutorEnvironment(archive="hdfs:///envs/onnx.tar.gz")},
                {
                    "--master": "yarn",
                    "--deploy-mode": "cluster",
                    "--files": "WORK/log4j2.properties",
                    "--archives": "WORK/model.zip#onnx_model,hdfs:///envs/onnx.tar.gz#environment",
                },
                {
                    **CLUSTER_PLAN,
                    **ON_YARN,
                    "spark.driver.extraJavaOptions": f"{SERIAL_GC} -Dlog4j2.configurationFile=log4j2.properties",
                    "spark.pyspark.python": "./environment/bin/python",
                },
            ),
            id="YARN, driver there",
        ),
        pytest.param(
            Case(
                "k8s://https://k:6443",
                {"namespace": "onnx"},
                {"environment": ExecutorEnvironment(image="repo/onnx:1")},
                {"--master": "k8s://https://k:6443"},
                {
                    **CLUSTER_PLAN,
                    **HERE,
                    **ON_KUBERNETES,
                    "spark.kubernetes.container.image": "repo/onnx:1",
                    "spark.kubernetes.namespace": "onnx",
                },
            ),
            id="Kubernetes, driver here",
        ),
        pytest.param(
            Case(
                "k8s://https://k:6443",
                {"deploy-mode": "cluster"},
                {"environment": ExecutorEnvironment(image="repo/onnx:1"), "hand_set": UPLOAD, "plan_conf": GPU_PLAN},
                {"--master": "k8s://https://k:6443", "--deploy-mode": "cluster"},
                {
                    **GPU_PLAN,
                    **UPLOAD,
                    **ON_KUBERNETES,
                    "spark.kubernetes.container.image": "repo/onnx:1",
                    "spark.kubernetes.namespace": "default",
                    "spark.kubernetes.report.interval": "10s",
                    "spark.log.level": "WARN",
                    "spark.driver.extraJavaOptions": SERIAL_GC,
                    "spark.executor.resource.gpu.vendor": "nvidia.com",
                    "spark.executor.resource.gpu.discoveryScript": (
                        "/opt/spark/examples/src/main/scripts/getGpusResources.sh"
                    ),
                },
            ),
            id="Kubernetes, driver there, GPUs",
        ),
        pytest.param(
            Case(
                "yarn",
                {"deploy-mode": "cluster"},
                {"plan_conf": GPU_PLAN, "model_travels": "object_store", "model_archive": "s3a://models/a.zip"},
                {
                    "--master": "yarn",
                    "--deploy-mode": "cluster",
                    "--files": "WORK/log4j2.properties,WORK/find_gpus.sh",
                    "--archives": "s3a://models/a.zip#onnx_model",
                },
                {
                    **GPU_PLAN,
                    **ON_YARN,
                    "spark.driver.extraJavaOptions": f"{SERIAL_GC} -Dlog4j2.configurationFile=log4j2.properties",
                    "spark.executor.resource.gpu.discoveryScript": "./find_gpus.sh",
                },
            ),
            id="YARN, driver there, GPUs, model from an object store",
        ),
    ],
)
def test_the_whole_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, submission: Callable[..., Submission], case: Case
) -> None:
    connect(monkeypatch, case.host, **case.extra)
    made = submission(case.host, case.extra.get("deploy-mode", "client"), **case.changes)
    command = hook_of(made)._build_spark_submit_command(made.application)
    options, conf, application = parsed(command, tmp_path / "work")

    assert options == {**SHIPPED, **case.options}
    assert conf == {**EVERYWHERE, **case.conf}
    assert application == ["WORK/catalog_inference.py", *made.arguments]


def test_a_hand_set_task_attempt_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "local[2,1]")
    assert OnnxSparkSubmitHook()._connection["master"] == "local[2,1]"


@pytest.mark.parametrize(
    "secret",
    [
        "spark.hadoop.fs.s3a.secret.key=abc123",
        "spark.ssl.keyPassword=abc123",
        "spark.hadoop.fs.s3a.access.key=abc123",
        "spark.hadoop.fs.s3a.session.token=abc123",
        "spark.kubernetes.authenticate.submission.oauthToken=abc123",
    ],
)
def test_secrets_are_masked_in_logs_and_errors(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    connect(monkeypatch, "yarn")
    hook = OnnxSparkSubmitHook(conf=dict([secret.split("=")]))
    command = hook._build_spark_submit_command("job.py")

    assert secret in command
    assert "abc123" not in hook._mask_cmd(command)
    assert secret.split("=", maxsplit=1)[0] in hook._mask_cmd(command)


def test_a_missing_connection_is_no_yarn() -> None:
    with pytest.raises(BadInputError, match="'nowhere' does not exist"):
        OnnxSparkSubmitHook(conn_id="nowhere")


def test_kubernetes_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "k8s://https://k:6443")
    monkeypatch.setitem(sys.modules, "airflow.providers.cncf.kubernetes.kube_client", None)

    with pytest.raises(BadInputError, match=re.escape("pip install 'airflow-onnx-provider[kubernetes]'")):
        OnnxSparkSubmitHook()


@pytest.mark.parametrize(
    ("host", "extra", "durable", "expected"),
    [
        ("yarn", {"deploy-mode": "cluster"}, True, (False, False)),
        ("yarn", {"deploy-mode": "cluster", "web_address": "rm:8088"}, True, (True, True)),
        (
            "yarn",
            {"deploy-mode": "cluster", "yarn_resourcemanager_webapp_address": "http://rm:8088"},
            True,
            (True, True),
        ),
        ("yarn", {"deploy-mode": "cluster", "web_address": "rm:8088"}, False, (False, True)),
        ("yarn", {}, True, (True, False)),
        ("spark://m:7077", {}, True, (True, False)),
    ],
)
def test_yarn_is_tracked_by_what_is_known_of_it(
    monkeypatch: pytest.MonkeyPatch, host: str, extra: dict[str, str], durable: bool, expected: tuple[bool, bool]
) -> None:
    connect(monkeypatch, host, **extra)
    hook = OnnxSparkSubmitHook()

    assert (hook.track(durable), hook._yarn_track_via_rm_api) == expected


# --- a stand-in for spark-submit: it keeps its command and environment, and says what the real client says ---


@pytest.fixture
def recorder(tmp_path: Path) -> Callable[..., Path]:
    """Make a stand-in for spark-submit."""

    def make(says: str, then: str = "") -> Path:
        script = tmp_path / "spark-submit"
        (tmp_path / "says.txt").write_text(says)
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, os, pathlib, sys, time, subprocess\n"
            f"here = pathlib.Path({str(tmp_path)!r})\n"
            "calls = here / 'calls.jsonl'\n"
            "with calls.open('a') as file:\n"
            "    print(json.dumps({'command': sys.argv[1:], 'environment': dict(os.environ)}), file=file)\n"
            "if '--kill' not in sys.argv:\n"
            "    print((here / 'says.txt').read_text(), flush=True)\n"
            f"    {then or 'pass'}\n"
        )
        script.chmod(0o755)
        return script

    return make


def calls(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def watched(hook: OnnxSparkSubmitHook) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    hook.on_application = lambda *of: seen.append(of)
    return seen


@pytest.mark.parametrize(
    ("host", "says", "link"),
    [
        pytest.param(
            "local[2]",
            "Spark application local-17 at http://10.0.0.1:4040\nSpark application other at http://10.0.0.1:4041\n",
            ("local-17", "http://10.0.0.1:4040"),
            id="the driver's own page, once",
        ),
        pytest.param(
            "spark://m:7077",
            "Spark application app-1 at -\n",
            ("app-1", "http://m:8080/app/?appId=app-1"),
            id="the standalone master's page",
        ),
    ],
)
def test_the_drivers_own_line_gives_the_link(
    monkeypatch: pytest.MonkeyPatch, recorder: Callable[..., Path], host: str, says: str, link: tuple[str, str]
) -> None:
    connect(monkeypatch, host)
    hook = OnnxSparkSubmitHook(spark_binary=str(recorder(says)))
    seen = watched(hook)
    hook.submit("job.py")

    assert seen == [link]


def test_a_link_that_cannot_be_kept_does_not_fail_the_job(
    monkeypatch: pytest.MonkeyPatch, recorder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    connect(monkeypatch, "local[2]")
    hook = OnnxSparkSubmitHook(spark_binary=str(recorder("Spark application local-17 at -\nthe job's last word\n")))
    hook.on_application = lambda *_: 1 / 0  # type: ignore[assignment, return-value]

    hook.submit("job.py")

    said = capsys.readouterr().out
    assert "The application's address could not be kept: division by zero" in said
    assert "the job's last word" in said, "it was listened to up to its end"


MIXED = "pyspark 4.2.1 and pyspark-client 4.2.0 are both installed and share one folder, so what runs is a mixture"


@pytest.mark.parametrize(
    ("installed", "spark_home", "warned"),
    [
        ("pyspark 4.2.1, pyspark-client 4.2.0", None, True),
        ("pyspark 4.2.0, pyspark-client 4.2.0", None, False),
        ("pyspark-client 4.2.0", None, False),
        ("pyspark 4.2.1, pyspark-client 4.2.0", "/opt/spark", False),
    ],
    ids=["two versions", "one version", "the client alone", "another Spark is used"],
)
def test_two_halves_of_spark_with_two_versions_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    recorder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    *,
    installed: str,
    spark_home: str | None,
    warned: bool,
) -> None:
    versions = dict(one.split() for one in installed.split(", "))

    def stand_in(name: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(version=versions[name])] if name in versions else []

    monkeypatch.setattr("airflow_onnx_provider.hooks.spark_submit.distributions", stand_in)
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    if spark_home:
        monkeypatch.setenv("SPARK_HOME", spark_home)
    connect(monkeypatch, "local[2]")

    OnnxSparkSubmitHook(spark_binary=str(recorder(""))).submit("job.py")

    assert (MIXED in capsys.readouterr().out) is warned


@pytest.mark.parametrize("host", ["local[2]", "yarn", "k8s://https://k:6443"])
def test_a_driver_here_runs_in_this_python_without_telemetry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorder: Callable[..., Path], host: str
) -> None:
    connect(monkeypatch, host)
    OnnxSparkSubmitHook(spark_binary=str(recorder(""))).submit("job.py")

    environment = calls(tmp_path)[0]["environment"]
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["PYSPARK_DRIVER_PYTHON"] == sys.executable


def test_a_driver_elsewhere_hears_nothing_of_this_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorder: Callable[..., Path]
) -> None:
    """YARN's client hands PYSPARK_DRIVER_PYTHON of its environment on to the driver's container."""
    monkeypatch.delenv("PYSPARK_DRIVER_PYTHON", raising=False)
    connect(monkeypatch, "yarn", **{"deploy-mode": "cluster"})
    OnnxSparkSubmitHook(spark_binary=str(recorder("Submitted application application_1_0001"))).submit("job.py")

    assert "PYSPARK_DRIVER_PYTHON" not in calls(tmp_path)[0]["environment"]


def test_a_kill_ends_everything_below_spark_submit(
    monkeypatch: pytest.MonkeyPatch, recorder: Callable[..., Path], children_end: None
) -> None:
    connect(monkeypatch, "local[2]")
    child = "subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    hook = OnnxSparkSubmitHook(spark_binary=str(recorder("started", child)))
    with submitted(hook) as ended:
        wait_for(lambda: hook._submit_sp and psutil.Process(hook._submit_sp.pid).children(recursive=True))
        hook.on_kill()
        assert "Error code is: -9" in str(ended())


def test_a_kill_on_yarn_without_its_command_says_what_remains(
    monkeypatch: pytest.MonkeyPatch,
    recorder: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    children_end: None,
) -> None:
    connect(monkeypatch, "yarn", **{"deploy-mode": "cluster"})
    monkeypatch.setenv("PATH", "/nowhere")
    says = "INFO YarnClientImpl: Submitted application application_1_0001\n"
    hook = OnnxSparkSubmitHook(spark_binary=str(recorder(says, "time.sleep(600)")))
    with submitted(hook) as ended:
        wait_for(lambda: hook._yarn_application_id)
        hook.on_kill()
        ended()
    assert "application_1_0001 may still run" in capsys.readouterr().out


@contextmanager
def submitted(hook: OnnxSparkSubmitHook, application: str = "job.py") -> Iterator[Callable[[], Exception | None]]:
    """Submit in a thread that lives as long as the submission; gives a function that waits for how it ended."""
    failed: list[Exception] = []

    def run() -> None:
        try:
            hook.submit(application)
        except AirflowException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def ended() -> Exception | None:
        thread.join(60)
        assert not thread.is_alive()
        return failed[0] if failed else None

    yield ended
    thread.join(60)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


# --- stand-ins for the web APIs of YARN and Kubernetes ---


@contextmanager
def served(answer: Callable[[str, str, Any], tuple[int, Any]]) -> Iterator[str]:
    """Serve ``answer(method, path, body) -> (status, JSON)`` on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = answer(self.command, self.path, json.loads(body) if body else None)
            lines = said if isinstance(said, list) else [said]
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._any)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class ResourceManager:
    """A stand-in for YARN's ResourceManager: ``/ws/v1/cluster/apps/{id}`` and its ``/state`` (Hadoop's
    ResourceManagerRest page). Each question moves the application one state on."""

    def __init__(self, *states: tuple[str, str]) -> None:
        self.states = list(states)
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if method == "PUT":
            self.states = [("KILLED", "KILLED")]
            return 202, body
        state, final = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "unavailable":
            return 503, {}
        diagnostics = "Application killed by user." if state == "KILLED" else ""
        return 200, {"app": {"id": APPLICATION, "state": state, "finalStatus": final, "diagnostics": diagnostics}}


APPLICATION = "application_1767225600000_0001"
YARN_SAYS = f"26/01/01 00:00:00 INFO YarnClientImpl: Submitted application {APPLICATION}\n"
QUEUED, WORKING = ("ACCEPTED", "UNDEFINED"), ("RUNNING", "UNDEFINED")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Spark provider waits at least 10 s between two questions."""
    monkeypatch.setattr(provider, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def yarn_hook(monkeypatch: pytest.MonkeyPatch, recorder: Callable[..., Path]) -> Callable[[str], OnnxSparkSubmitHook]:
    def make(address: str) -> OnnxSparkSubmitHook:
        connect(monkeypatch, "yarn", **{"deploy-mode": "cluster", "web_address": address})
        hook = OnnxSparkSubmitHook(spark_binary=str(recorder(YARN_SAYS)))
        assert hook.track(durable=True)
        return hook

    return make


def test_a_yarn_application_is_watched_to_its_end(
    yarn_hook: Callable[[str], OnnxSparkSubmitHook], tmp_path: Path, impatient: None
) -> None:
    manager = ResourceManager(QUEUED, WORKING, ("unavailable", ""), WORKING, ("FINISHED", "SUCCEEDED"))
    with served(manager) as address:
        hook = yarn_hook(address)
        seen = watched(hook)
        hook.submit("job.py")
        hook._start_yarn_application_status_tracking(str(hook._yarn_application_id))

    assert seen == [(APPLICATION, f"{address}/cluster/app/{APPLICATION}")]
    assert manager.asked == [f"GET /ws/v1/cluster/apps/{APPLICATION}"] * 5
    assert "spark.yarn.submit.waitAppCompletion=false" in calls(tmp_path)[0]["command"]


@pytest.mark.parametrize("end", [("FINISHED", "FAILED"), ("FAILED", "FAILED"), ("KILLED", "KILLED")])
def test_a_yarn_application_that_fails(
    yarn_hook: Callable[[str], OnnxSparkSubmitHook], impatient: None, end: tuple[str, str]
) -> None:
    with served(ResourceManager(QUEUED, WORKING, end)) as address:
        hook = yarn_hook(address)
        with pytest.raises(RuntimeError, match=f"{APPLICATION} ended with .*{end[1]}"):
            hook._start_yarn_application_status_tracking(APPLICATION)


def test_a_retry_that_only_watches_has_a_link_and_can_be_killed(
    yarn_hook: Callable[[str], OnnxSparkSubmitHook], impatient: None
) -> None:
    """The first question is that of the retry: does an earlier, other application still run?"""
    manager = ResourceManager(("FAILED", "FAILED"), WORKING, ("FINISHED", "SUCCEEDED"))
    with served(manager) as address:
        hook = yarn_hook(address)
        seen = watched(hook)
        assert hook.query_yarn_application_status("application_1767225600000_0000") == "FAILED"
        hook._start_yarn_application_status_tracking(APPLICATION)
        hook.on_kill()

    assert seen == [(APPLICATION, f"{address}/cluster/app/{APPLICATION}")]
    assert manager.asked[-1] == f"PUT /ws/v1/cluster/apps/{APPLICATION}/state"


def test_a_yarn_application_is_killed_through_the_manager_that_answers(
    yarn_hook: Callable[[str], OnnxSparkSubmitHook], impatient: None
) -> None:
    manager = ResourceManager(WORKING)
    with served(lambda *_: (307, {})) as standby, served(manager) as active:
        hook = yarn_hook(f"{standby},{active}")
        hook.submit("job.py")
        hook.on_kill()

        assert manager.asked == [f"PUT /ws/v1/cluster/apps/{APPLICATION}/state"]
        with pytest.raises(RuntimeError, match="Application killed by user"):
            hook._start_yarn_application_status_tracking(APPLICATION)


class KubernetesApi:
    """A stand-in for the Kubernetes API: it takes whatever it is given; the driver's pod goes through ``phases``."""

    def __init__(self, *phases: str, exit_code: int = 0) -> None:
        self.phases = list(phases)
        self.exit_code = exit_code
        self.pods: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        name = path.split("?", maxsplit=1)[0].rsplit("/", 1)[-1]
        if method == "DELETE":
            self.deleted.append(name)
            self.pods.pop(name, None)
            return 200, {"kind": "Status", "status": "Success"}
        if body is not None:
            body["metadata"]["uid"] = str(uuid.uuid4())
            self.made.append(body)
            if body["kind"] == "Pod":
                self.pods[body["metadata"]["name"]] = body
            return 201, body
        if "watch=true" in path:  # all that will happen, at once
            pod = next(iter(self.pods.values()))
            return 200, [{"type": "MODIFIED", "object": self._in(pod, phase)} for phase in self.phases]
        if name in self.pods:
            return 200, self._in(self.pods[name], self.phases.pop(0) if len(self.phases) > 1 else self.phases[0])
        if name == "pods":
            return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(self.pods.values())}
        return 404, {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"}

    def _in(self, pod: dict[str, Any], phase: str) -> dict[str, Any]:
        status: dict[str, Any] = {"phase": phase}
        if phase in {"Succeeded", "Failed"}:
            end = {"terminated": {"exitCode": self.exit_code, "reason": "Completed"}}
            container = {"name": "spark-kubernetes-driver", "image": "i", "imageID": "i", "ready": False}
            status["containerStatuses"] = [{**container, "restartCount": 0, "state": end}]
        return {**pod, "status": status}


@pytest.fixture
def kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Point Airflow's Kubernetes client to a stand-in."""

    def write(address: str) -> None:
        one = {"name": "stand-in"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{**one, "cluster": {"server": address}}],
            "users": [{**one, "user": {}}],
            "contexts": [{**one, "context": {"cluster": "stand-in", "user": "stand-in"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
        monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", str(tmp_path / "kubeconfig"))

    return write


DEPLOYED = (
    "26/01/01 00:00:00 INFO KubernetesClientUtils: Deployed Spark application onnx with application ID spark-0a1b and "
    "submission ID nightly:onnx-12ab-driver into Kubernetes\n"
)
A_POD = {"onnx-12ab-driver": {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "onnx-12ab-driver"}}}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("end", "exit_code"), [("Succeeded", 0), ("Failed", 1)])
def test_a_driver_pod_is_watched_by_its_phase(
    monkeypatch: pytest.MonkeyPatch,
    recorder: Callable[..., Path],
    kubeconfig: Callable[[str], None],
    end: str,
    exit_code: int,
) -> None:
    api = KubernetesApi("Pending", "Running", end, exit_code=exit_code)
    api.pods = dict(A_POD)
    with served(api) as address:
        kubeconfig(address)
        connect(monkeypatch, f"k8s://{address}", **{"deploy-mode": "cluster", "namespace": "nightly"})
        hook = OnnxSparkSubmitHook(spark_binary=str(recorder(DEPLOYED)), track_driver_via_k8s_api=True)
        seen = watched(hook)
        hook.submit("job.py")

        assert hook._kubernetes_driver_pod == "onnx-12ab-driver"
        assert seen == [("spark-0a1b", "")]
        if end == "Succeeded":
            assert hook._poll_k8s_driver_via_api() == "Succeeded"
        else:
            with pytest.raises(RuntimeError, match="phase=Failed exit_code=1"):
                hook._poll_k8s_driver_via_api()


def test_a_driver_pod_is_killed_by_the_door_it_came_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recorder: Callable[..., Path], children_end: None
) -> None:
    connect(monkeypatch, "k8s://https://k:6443", **{"deploy-mode": "cluster", "namespace": "nightly"})
    token = {"spark.kubernetes.authenticate.submission.oauthTokenFile": "/run/token", "spark.task.cpus": "1"}
    hook = OnnxSparkSubmitHook(conf=token, spark_binary=str(recorder(DEPLOYED, "time.sleep(600)")))
    with submitted(hook) as ended:
        wait_for(lambda: hook._kubernetes_driver_pod)
        hook.on_kill()
        ended()

    assert calls(tmp_path)[-1]["command"] == [
        *("--master", "k8s://https://k:6443", "--kill", "nightly:onnx-12ab-driver"),
        *("--conf", "spark.kubernetes.authenticate.submission.oauthTokenFile=/run/token"),
    ]


@pytest.mark.spark
def test_sparks_own_client_against_a_kubernetes_stand_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, submission: Callable[..., Submission]
) -> None:
    """The real spark-submit uploads, asks for the driver's pod, watches it to its end, and deletes it by --kill."""
    (tmp_path / "bucket").mkdir()
    api = KubernetesApi("Pending", "Running", "Succeeded")
    with served(api) as address:
        connect(
            monkeypatch,
            f"k8s://{address}",
            **{"deploy-mode": "cluster", "namespace": "nightly", "history_address": "http://history:18080"},
        )
        made = submission(
            f"k8s://{address}",
            "cluster",
            environment=ExecutorEnvironment(image="repo/onnx:1"),
            hand_set={"spark.kubernetes.file.upload.path": (tmp_path / "bucket").as_uri()},
        )
        hook = hook_of(made)
        seen = watched(hook)
        hook.submit(made.application)
        pod, *others = api.made
        hook._delete_driver_pod()

    (container,) = pod["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in container["env"]}
    properties = next(one for one in others if one["kind"] == "ConfigMap")["data"]["spark.properties"]
    assert container["image"] == "repo/onnx:1"
    assert container["args"][-1] == made.arguments[0]
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert "PYSPARK_PYTHON" not in environment
    assert re.search(r"^spark\.archives=.*/bucket/spark-upload-.*/model\.zip\\#onnx_model$", properties, re.MULTILINE)
    assert sorted(path.name for path in (tmp_path / "bucket").rglob("*") if path.suffix in {".zip", ".py"}) == [
        "airflow_onnx_provider.zip",
        "catalog_inference.py",
        "model.zip",
    ]
    assert hook._kubernetes_driver_pod == pod["metadata"]["name"]
    ((application, link),) = seen
    assert link == f"http://history:18080/history/{application}"
    assert api.deleted == [pod["metadata"]["name"]]


# --- a death without a word ---

MARK = "SUBMITTED_BY_TEST"
SUBMITTER = """
from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook

OnnxSparkSubmitHook(conf={"spark.ui.enabled": "false"}).submit("APPLICATION")
"""
BUSY = """
import pathlib, time
from pyspark.sql import SparkSession

def work(_):
    pathlib.Path("FLAG").touch()
    time.sleep(600)

SparkSession.builder.getOrCreate().sparkContext.parallelize([1], 1).map(work).collect()
"""


@pytest.mark.spark
def test_nothing_is_left_when_the_task_is_killed_without_a_word(tmp_path: Path) -> None:
    flag, application, mark = tmp_path / "working", tmp_path / "busy.py", uuid.uuid4().hex
    application.write_text(BUSY.replace("FLAG", str(flag)))
    connection = json.dumps({"conn_type": "spark", "host": "local[1]"})
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMITTER.replace("APPLICATION", str(application))],
        env={**os.environ, MARK: mark, "AIRFLOW_CONN_SPARK_DEFAULT": connection},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: flag.exists() or submitter.poll() is not None, 120)
        before = {process.name() for process in marked(mark)}
        assert "java" in before
        assert len(marked(mark)) >= 5  # the task, the JVM, the driver's Python, Spark's Python daemon and a worker
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()
        wait_for(lambda: not marked(mark), 10)
    finally:
        for process in marked(mark):
            process.kill()


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that inherited the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
