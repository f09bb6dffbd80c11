# SPDX-License-Identifier: Apache-2.0
"""Shared by all tests: an Airflow home of their own, a tiny real ONNX model in a store, and days of pictures."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.standalone import StandaloneCluster
from tests.wheel import build

# Airflow reads its settings when it is first imported, so its home must be chosen before any test module is.
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="airflow-onnx-tests-"))
for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = str(AIRFLOW_HOME)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# Short jobs spend their time in the JVM's optimising compiler; without it they take a sixth less.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

COLOURS = {"red": (210, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 210), "grey": (128, 128, 128)}


def pytest_unconfigure() -> None:
    shutil.rmtree(AIRFLOW_HOME, ignore_errors=True)


ROOMS = {
    "cluster": ("tests/cluster/", "tests/faults/", "tests/integration/test_scheduler.py"),
    "spark": (
        "tests/docker/",
        "tests/integration/",
        "tests/notifiers/",
        "tests/operators/",
        "tests/hooks/test_spark_submit.py",
        "tests/runtime/test_tensors.py",
        "tests/spark/test_score.py",
    ),
    "package": ("tests/package/",),
    "tensorflow": ("tests/model/test_convert.py", "tests/model/test_conversion_matrix.py"),
}
"""What must not run beside itself, by how its path begins; the first room wins.

``cluster``: the cluster, schedulers and dying processes, which is the longest; ``spark``: all other jobs, of which each
keeps about one core busy; ``package``: what installs the wheel; ``tensorflow``: what imports it.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers (``-n 3``) a room, or a file that is in none, stays on one worker, in its order."""
    from xdist.scheduler import LoadScopeScheduling

    class Rooms(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return next((room for room, begins in ROOMS.items() if path.startswith(begins)), path)

    config.option.loadscopereorder = False  # the order of the paths, in which the longest room comes early
    return Rooms(config, log)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, made from the sdist, in a folder with that alone."""
    return build(tmp_path_factory.mktemp("dist"))


@pytest.fixture
def context() -> dict[str, Any]:
    return task_context()


def task_context() -> dict[str, Any]:
    """What Airflow gives a task of the run of 2026-01-01."""
    return {"run_id": "scheduled__2026-01-01", "params": {}, "logical_date": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`spark_default` on two local cores, and `onnx_model_store_default` below `tmp_path/models`."""
    set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": "local[2]"})
    extra = {"root": str(tmp_path / "models")}
    set_connection(monkeypatch, "onnx_model_store_default", {"conn_type": "onnx_model_store", "extra": extra})


def set_connection(monkeypatch: pytest.MonkeyPatch, conn_id: str, connection: Mapping[str, Any]) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection))


@pytest.fixture(scope="session")
def colour_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a real, validated ONNX model that names the colour of a 16 × 16 picture."""
    return make_colour_model(tmp_path_factory.mktemp("store"))


def make_colour_model(root: Path, golden_shift: float = 0.0) -> str:
    """Store the colour model below ``root``; a shift makes its golden answers wrong."""
    import numpy as np
    import onnx.parser

    from airflow_onnx_provider.model.graph import describe
    from airflow_onnx_provider.model.store.versions import ModelStore
    from airflow_onnx_provider.runtime.manifest import MODEL_NAME, Golden, ModelManifest, sha256_of_file
    from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
    from airflow_onnx_provider.runtime.session import LoadedModel, open_session

    model = onnx.parser.parse_model(
        """
        <ir_version: 10, opset_import: ["" : 18]>
        colours (uint8[batch, 16, 16, 3] image) => (float[batch, 4] scores)
        <int64[2] axes = {1, 2}, float[3, 4] weights = {2, -1, -1, 0, -1, 2, -1, 0, -1, -1, 2, 0},
         float[4] bias = {0, 0, 0, 0.5}, float scale = {0.05}>
        {
            pixels = Cast<to = 1>(image)
            mean = ReduceMean<keepdims = 0>(pixels, axes)
            scaled = Mul(mean, scale)
            sums = MatMul(scaled, weights)
            logits = Add(sums, bias)
            scores = Softmax<axis = -1>(logits)
        }
        """
    )
    folder = root / "made"
    folder.mkdir(parents=True)
    onnx.save(model, folder / MODEL_NAME)
    facts = describe(folder / MODEL_NAME)
    manifest = ModelManifest(
        name="colours",
        files={MODEL_NAME: sha256_of_file(folder / MODEL_NAME)},
        inputs=facts.inputs,
        outputs=facts.outputs,
        opset=facts.opset,
        domains=facts.domains,
        preprocessing=ImagePreprocessing(16, 16),
        labels=tuple(COLOURS),
    )
    inputs = np.stack([np.full((16, 16, 3), colour, dtype=np.uint8) for colour in COLOURS.values()])
    answers = LoadedModel(manifest, open_session(folder / MODEL_NAME)).run(inputs)
    np.savez(folder / "rows.npz", inputs=inputs, answers=answers + np.float32(golden_shift))
    golden = Golden.keep(folder / "rows.npz", folder, tolerance=1e-4)
    address = ModelStore(root / "store").add(folder, replace(manifest, golden=golden))
    shutil.rmtree(folder)
    return address


@dataclass(frozen=True)
class Day:
    """A drawn day: file name to the colour of its picture, None for a broken one."""

    folder: Path
    files: Mapping[str, str | None]

    @property
    def good(self) -> dict[str, str]:
        return {name: colour for name, colour in self.files.items() if colour}

    @property
    def broken(self) -> set[str]:
        return {name for name, colour in self.files.items() if not colour}


@pytest.fixture
def draw_day(tmp_path: Path) -> Callable[..., Day]:
    """Draw ``tmp_path/catalog/ds=<partition>`` with plain pictures and some broken files."""

    def draw(partition: str = "2026-01-01", good: int = 30, broken: int = 3) -> Day:
        from PIL import Image

        folder = tmp_path / "catalog" / f"ds={partition}"
        folder.mkdir(parents=True)
        files: dict[str, str | None] = {}
        for number in range(good):
            colour = list(COLOURS)[number % len(COLOURS)]
            name = f"{number:04d}.{('jpg', 'png', 'webp')[number % 3]}"
            Image.new("RGB", (40 + number % 7, 30 + number % 5), COLOURS[colour]).save(folder / name)
            files[name] = colour
        for number in range(broken):
            name = f"broken-{number}.jpg"
            (folder / name).write_bytes((b"", b"no picture at all", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")[number % 3])
            files[name] = None
        (folder / "_SUCCESS").touch()
        return Day(folder, files)

    return draw


@pytest.fixture(scope="session")
def standalone_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    """One Spark cluster for all tests that need one."""
    with StandaloneCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(standalone_cluster: StandaloneCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandaloneCluster]:
    """The cluster, whole and idle; drivers that this test starts use the loopback as its executors do."""
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    standalone_cluster.heal()
    yield standalone_cluster
    standalone_cluster.heal()


@pytest.fixture
def fresh_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process that has loaded no model yet."""
    monkeypatch.setattr("airflow_onnx_provider.runtime.session._loaded", {})


@pytest.fixture
def children_end() -> Iterator[None]:
    """No process that a test started may outlive it."""
    with no_child_left():
        yield


@contextmanager
def no_child_left() -> Iterator[None]:
    import psutil

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    psutil.wait_procs(left, timeout=10)
    left = [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not left, f"still running: {[child.cmdline()[:3] for child in left]}"
