# SPDX-License-Identifier: Apache-2.0
"""The version matrix: `make matrix`, about 40 minutes on two cores.

    nox                            all of it, and the tables in docs/compatibility.md
    nox -s "pair(newest)" tables   one pair, and the tables anew

Each pair of Airflow and Spark gets a new environment with this project's wheel. The chosen tests run there, then the
reference DAG's whole day on a real Spark. What a session really had is in `.matrix/results/`.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nox

ROOT = Path(__file__).parent
MATRIX = ROOT / ".matrix"
RESULTS = MATRIX / "results"

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.envdir = str(MATRIX / "environments")


@dataclass(frozen=True)
class Pair:
    """An Airflow and a Spark that one session puts together.

    :param name: of the session, and of its row and column in the tables
    :param python: such as ``3.11``
    :param airflow: a release line such as ``3.2``; its patch release is the resolver's choice
    :param spark: what brings Spark: an extra of the project, or requirements
    :param install: further arguments of the installer
    """

    name: str
    python: str
    airflow: str
    spark: str | tuple[str, ...]
    install: tuple[str, ...] = ()

    def requirements(self) -> list[str]:
        """What the installer is told. It makes the project's wheel itself: only then are its bounds direct ones."""
        extra, pins = ([self.spark], ()) if isinstance(self.spark, str) else ([], self.spark)
        project = f"airflow-onnx-provider[{','.join([*EXTRAS, *extra])}] @ {ROOT.as_uri()}"
        return [project, *AIRFLOW[self.airflow], *pins, *self.install]


# What Airflow 3.2's own constraints hold back, and it does not: FastAPI 0.137 and svcs 26.2 break its API for tasks.
AIRFLOW = {"3.2": ("apache-airflow~=3.2.0", "fastapi<0.137", "svcs<26"), "3.3": ("apache-airflow~=3.3.0",)}

# What the reference DAG needs, and what the chosen tests import.
EXTRAS = ("cpu", "tensorflow", "optimize", "report", "prometheus", "openlineage", "kubernetes", "dicom")

# The lowest is the first: it trains the network of all days, and an older Keras may not read what a newer one wrote.
PAIRS = (
    Pair(
        "lowest",
        "3.11",
        "3.2",
        ("pyspark==4.0.0", "pyspark-client==4.0.0", "pandas>=2.2.2,<3"),
        # Left to itself the resolver takes a newer TensorFlow, since then protobuf can be the newest.
        ("tensorflow-cpu==2.18.1", "--resolution", "lowest-direct"),
    ),
    Pair("airflow-3.2-spark-4.0", "3.12", "3.2", "spark-4-0"),
    Pair("airflow-3.2-spark-4.1", "3.13", "3.2", "spark-4-1"),
    Pair("pinned", "3.11", "3.3", "spark", ("-c", str(ROOT / "constraints.txt"))),
    Pair("airflow-3.3-spark-4.1", "3.12", "3.3", "spark-4-1"),
    Pair("newest", "3.13", "3.3", "spark"),
)

# All floors, and real jobs on Spark. Left out is what takes long and tells little about a version: clusters,
# schedulers, browsers, deaths, memory, conversions beside the day's own, and what needs other frameworks and servers.
TESTS = (
    "tests/hooks",
    "tests/model/evidence",
    "tests/model/quantization",
    "tests/model/rewriting",
    "tests/model/store/test_versions.py",
    "tests/model/test_graph.py",
    "tests/model/test_optimize.py",
    "tests/model/test_quantize.py",
    "tests/model/test_validate.py",
    "tests/operators",
    "tests/pages",
    "tests/plugin",
    "tests/quality",
    "tests/runtime",
    "tests/sensors",
    "tests/spark",
    "tests/test_links.py",
    "tests/test_partition.py",
    "tests/test_provider_info.py",
    "tests/test_task_groups.py",
)
LEFT_OUT = (
    *("-m", "not scheduler and not faults", "-k", "not browser"),
    "--ignore=tests/operators/test_executor_environment.py",
    "--ignore=tests/operators/test_log_to_mlflow.py",
    "--ignore=tests/operators/test_replay.py",
    "--ignore=tests/operators/test_sources.py",
    "--ignore=tests/plugin/test_pages.py",
    "--ignore=tests/quality/test_ordinary_days.py",
    "--ignore=tests/runtime/test_guard.py",
    "--ignore=tests/runtime/test_memory.py",
    "--ignore=tests/spark/test_publish.py",
    "--ignore=tests/spark/test_retention.py",
    "--ignore=tests/spark/test_rollback.py",
    "--ignore=tests/spark/test_staged.py",
)
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema")
DAY = "2026-01-01"


@nox.session
@nox.parametrize("python,pair", [nox.param(one.python, one, id=one.name) for one in PAIRS])
def pair(session: nox.Session, pair: Pair) -> None:
    """The chosen tests and the reference DAG's day, with one Airflow and one Spark."""
    with _result(pair.name) as result:
        session.install(*pair.requirements(), "--refresh-package", "airflow-onnx-provider")
        session.install(*TOOLS)
        place = _place()
        session.chdir(place)
        environment = {"PYTHONPATH": str(place), "ORT_DISABLE_TELEMETRY": "1"}
        result["tests"] = _tested(session, "python", *TESTS, *LEFT_OUT, env=environment)
        session.run("python", "-m", "demo", env=environment)
        facts = session.run("python", "-m", "tests.matrix.facts", ".demo", DAY, env=environment, silent=True)
        result.update(json.loads(str(facts).splitlines()[-1]))


@nox.session(venv_backend="none")
def extras(session: nox.Session) -> None:
    """Each extra alone, in an environment of its own, which its test makes."""
    with _result("extras") as result:
        result["tests"] = _tested(session, sys.executable, "-m", "extras", "tests/package")


@nox.session(venv_backend="none")
def tables(session: nox.Session) -> None:
    """Write the tables of docs/compatibility.md."""
    session.run(sys.executable, "-m", "tests.matrix.table")


@contextmanager
def _result(name: str) -> Iterator[dict[str, Any]]:
    """What a session fills with what it found; however it ends, that is written."""
    result: dict[str, Any] = {"session": name, "result": "failed"}
    RESULTS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        yield result
        result["result"] = "passed"
    finally:
        result["seconds"] = round(time.monotonic() - started)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def _place() -> Path:
    """A copy of what the tests and the demo need, without the package: they shall meet the wheel.

    The drawn pictures and the trained network stay from one session to the next; everything else is new.
    """
    place, home = MATRIX / "place", MATRIX / "demo"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for part in ("dags", "demo", "docker", "docs", "tests"):
        shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place)
    home.mkdir(exist_ok=True)
    for left in set(home.iterdir()) - {home / "catalog", home / "training"}:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    (place / ".demo").symlink_to(home)
    return place


def _tested(session: nox.Session, python: str, *chosen: str, env: Mapping[str, str] | None = None) -> dict[str, int]:
    """Run tests; their numbers."""
    report = MATRIX / "tests.xml"
    # Folders of its own: another pytest on this machine removes those that it takes for old ones.
    settings = ("-q", "-n", "2", "-p", "no:cacheprovider", "--hypothesis-profile=ci", f"--basetemp={MATRIX / 'tmp'}")
    session.run(python, "-m", "pytest", *settings, f"--junitxml={report}", *chosen, env=env, external=True)
    suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 -- pytest has just written it
    total, skipped = (int(suite.get(name)) for name in ("tests", "skipped"))
    return {"passed": total - skipped, "skipped": skipped}
