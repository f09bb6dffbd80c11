# SPDX-License-Identifier: Apache-2.0
"""What a conversion leaves behind when it is killed, and when two make the same version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from airflow_onnx_provider.exceptions import StageError
from airflow_onnx_provider.operators.convert import OnnxConvertOperator
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME
from tests.conftest import set_connection, task_context
from tests.model.test_stage import is_running, stages_of, wait_for
from tests.runtime.tiny import CLASSIFIER, write_onnx

CONVERT = """
import logging, sys
from pathlib import Path
from airflow_onnx_provider.model.convert import convert
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
source, framework, store, python = sys.argv[1:]
made = convert(SourceModel(source, framework), name="m", store=ModelStore(Path(store)),
               stage=Stage(logging.getLogger(), python=python))
print(made["model"])
"""


def start(source: Path, framework: str, store: Path, temporary: Path, python: str = sys.executable) -> subprocess.Popen:
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", CONVERT, str(source), framework, str(store), python],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )


def with_sleep(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes once ``sleep`` is among them, which has its shell's name at first; else none."""
    return processes if any(process.name() == "sleep" for process in processes) else []


def test_a_task_that_is_killed_midway_leaves_no_process_no_version_and_no_folder(tmp_path: Path) -> None:
    """By SIGKILL, which no handler sees, while half a model lies in the temporary folder."""
    write_onnx(tmp_path / "own.onnx", CLASSIFIER)
    slow = tmp_path / "python"  # writes half a model, then goes on for ever
    slow.write_text(
        "#!/bin/sh\n"
        "for folder in $TMPDIR/onnx-convert-*; do echo half > $folder/model.onnx; done\n"
        f"touch {tmp_path}/midway\nsleep 600 &\nexec {sys.executable} -c 'import sys; sys.stdin.read()'\n"
    )
    slow.chmod(0o755)
    temporary, store = tmp_path / "tmp", tmp_path / "store"

    task = start(tmp_path / "own.onnx", "onnx", store, temporary, str(slow))
    try:
        wait_for((tmp_path / "midway").exists)
        processes = wait_for(lambda: with_sleep(psutil.Process(task.pid).children(recursive=True)))
        assert list(temporary.glob("onnx-convert-*/model.onnx"))
    finally:
        os.kill(task.pid, signal.SIGKILL)
        task.wait()
    left = [process for process in processes if "sleep" in process.name()]
    for process in left:  # this stand-in has no watch over its parent; the real child's is tested with the stage
        process.kill()

    wait_for(lambda: not any(is_running(process.pid) for process in processes))
    wait_for(lambda: not list(temporary.iterdir()))
    assert not list(store.rglob(MANIFEST_NAME))


def test_a_real_conversion_that_is_killed_midway(tmp_path: Path) -> None:
    write_onnx(tmp_path / "own.onnx", CLASSIFIER)
    temporary, store = tmp_path / "tmp", tmp_path / "store"

    task = start(tmp_path / "own.onnx", "onnx", store, temporary)
    try:
        stage = wait_for(lambda: stages_of(task.pid))[0]
        processes = [stage, *psutil.Process(task.pid).children(recursive=True)]
    finally:
        os.kill(task.pid, signal.SIGKILL)
        task.wait()

    wait_for(lambda: not any(is_running(process.pid) for process in processes))
    wait_for(lambda: not list(temporary.iterdir()))
    assert not list(store.rglob(MANIFEST_NAME))


SLOW_NETWORK = """
import pathlib, subprocess, time, torch

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x):  # the exporter traces this: the conversion is in its middle
        subprocess.Popen(["sleep", "600"])
        pathlib.Path(MIDWAY).touch()
        time.sleep(600)
        return self.layer(x)
"""


def test_a_task_that_airflow_kills_in_the_middle_of_an_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    midway, temporary = tmp_path / "midway", tmp_path / "tmp"
    (tmp_path / "slow_network.py").write_text(SLOW_NETWORK.replace("MIDWAY", repr(str(midway))))
    layer = torch.nn.Linear(4, 2)
    torch.save({"layer.weight": layer.weight, "layer.bias": layer.bias}, tmp_path / "weights.pt")
    monkeypatch.syspath_prepend(tmp_path)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    store = {"conn_type": "onnx_model_store", "extra": {"root": str(tmp_path / "store")}}
    set_connection(monkeypatch, "onnx_model_store_default", store)
    operator = OnnxConvertOperator(
        task_id="convert",
        source=str(tmp_path / "weights.pt"),
        framework="torch",
        name="slow",
        factory="slow_network:Slow",
        inputs={"x": {"type": "float", "shape": ["batch", 4]}},
    )

    others = {process.pid for process in psutil.Process().children(recursive=True)}  # of earlier tests, such as a JVM
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(operator.execute, task_context())  # type: ignore[arg-type]
        try:
            wait_for(lambda: midway.exists() or task.done(), 120)  # PyTorch takes seconds to import
            processes = [one for one in psutil.Process().children(recursive=True) if one.pid not in others]
            names = [process.name() for process in processes]
        finally:
            operator.on_kill()
        with pytest.raises(StageError, match="the convert stage was killed by SIGKILL"):
            task.result(60)

    assert "sleep" in names, "what the network itself had started"
    wait_for(lambda: not [process for process in processes if is_running(process.pid)])
    assert not list(temporary.iterdir())
    assert not list((tmp_path / "store").rglob("*.onnx"))


def test_two_tasks_that_make_the_same_version_at_once_end_with_one(tmp_path: Path) -> None:
    write_onnx(tmp_path / "own.onnx", CLASSIFIER)
    tasks = [start(tmp_path / "own.onnx", "onnx", tmp_path / "store", tmp_path / "tmp") for _ in range(2)]

    answers = {task.communicate(timeout=60)[0].split()[-1] for task in tasks}

    assert [task.returncode for task in tasks] == [0, 0]
    assert len(answers) == 1
    assert [str(path.parent) for path in (tmp_path / "store").rglob(MANIFEST_NAME)] == list(answers)
    assert not list((tmp_path / "tmp").iterdir())
