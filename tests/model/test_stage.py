# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from airflow_onnx_provider.exceptions import BadInputError, StageError, ValidationError
from airflow_onnx_provider.model.evidence.parity import ParityLimits
from airflow_onnx_provider.model.gates.reference import Reference
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, MODEL_NAME, write_json
from tests.runtime.tiny import CLASSIFIER, manifest_of, write_onnx

ENDLESS = CLASSIFIER.replace("axes = {1, 2}", "axes = {1, 2}, bool always = {1}").replace(
    "Softmax <axis = -1> (logits)",
    """Loop ("", always, logits) <
    body = spin (int64 turn, bool on, float[batch, 3] x) => (bool still, float[batch, 3] y) {
      peak = ReduceMax <keepdims = 0> (x)
      still = LessOrEqual (peak, peak)
      y = Identity (x)
    }>""",
)
"""Sound by every rule that can be read from a graph, and never done: only a process of its own can be stopped."""

HUGE = CLASSIFIER.replace(
    "axes = {1, 2}", "axes = {1, 2}, int64 nothing = {0}, int64 one = {1}, int64 many = {3000000000}"
)
HUGE = HUGE.replace(
    "Softmax <axis = -1> (logits)",
    """Add (logits, most)
  whole = Cast <to = 7> (image)
  brightness = ReduceSum <keepdims = 0> (whole)
  end = Add (brightness, many)
  numbers = Range (nothing, end, one)
  last = ReduceMax <keepdims = 0> (numbers)
  most = Cast <to = 1> (last)""",
)
"""Asks for 24 GB in a file of a few hundred bytes, and how much shows only when it runs."""


def settings_of(folder: Path, text: str) -> dict[str, Any]:
    """Settings of the stage `validate` for a model in ONNX's text form."""
    lines = text.splitlines()
    if "most" in text:  # a node's input comes before it
        scores = next(line for line in lines if "scores = " in line)
        lines = [*(line for line in lines if line not in (scores, "}")), scores, "}"]
    write_onnx(folder / MODEL_NAME, "\n".join(lines))
    write_json(folder / MANIFEST_NAME, manifest_of(folder).to_dict())
    inputs = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    answers = np.full((3, 3), 1 / 3, dtype=np.float32)
    GoldenRows({"image": inputs}, {"scores": answers}).save(folder / "source.npz")
    return {
        "folder": str(folder),
        "answers": str(folder / "source.npz"),
        "golden": str(folder / "golden.npz"),
        "limits": asdict(ParityLimits(inputs=3, max_difference=1e-5)),
        "reference": asdict(Reference()),
        "memory_limit_mb": 4096,
    }


def script(path: Path, text: str) -> str:
    """An executable that stands where a Python is expected."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true value of ``condition``."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def stages_of(pid: int) -> list[psutil.Process]:
    """The stages that a process runs as its children."""
    return [child for child in psutil.Process(pid).children() if "airflow_onnx_provider.model.stage" in child.cmdline()]


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_stage_gives_its_result_and_its_lines(stage: Stage, tmp_path: Path, lines: list[str]) -> None:
    settings = settings_of(tmp_path, CLASSIFIER)

    assert stage.run("validate", settings)["rows"] == 3
    assert [line.split(":")[0] for line in lines][:3] == ["batch size 1", "batch size 2", "batch size 3"]


def test_a_stages_own_error_comes_back_with_its_class_and_words(stage: Stage, tmp_path: Path) -> None:
    source = SourceModel("m.caffe", "caffe")
    settings = {"source": source.to_dict(), "folder": str(tmp_path), "opset": 18, "embeddings": []}

    with pytest.raises(BadInputError, match=r"^framework 'caffe' is not supported; there is: tensorflow"):
        stage.run("convert", settings)


def test_a_stage_of_another_python_needs_neither_airflow_nor_this_package(
    stage: Stage, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package travels as a zip, with the floors that the stage needs and no more."""
    monkeypatch.chdir(tmp_path)
    shown = 'import sys; print("path", sys.path[1], flush=True)'
    stage.python = script(tmp_path / "python", f"{sys.executable} -c '{shown}'\nexec {sys.executable} \"$@\"")

    assert stage.run("validate", settings_of(tmp_path, CLASSIFIER))["rows"] == 3
    assert lines[0].startswith("path ")
    assert lines[0].endswith("bundle.zip")


def test_a_child_that_fails_in_an_unknown_way_leaves_its_traceback_in_the_log(stage: Stage, lines: list[str]) -> None:
    with pytest.raises(StageError, match=r"the brew stage exited with status 1 before it gave a result"):
        stage.run("brew", {})
    assert lines[-1] == "KeyError: 'brew'"


@pytest.mark.parametrize(
    ("name", "words"),
    [("SEGV", r"was killed by SIGSEGV before"), ("KILL", r"was killed by SIGKILL \(out of memory\?\)")],
)
def test_a_child_that_is_killed(stage: Stage, tmp_path: Path, name: str, words: str) -> None:
    stage.python = script(tmp_path / "python", f"kill -{name} $$")

    with pytest.raises(StageError, match=words):
        stage.run("convert", {"a": "x" * 200_000})  # more than a pipe takes, so that writing to it fails too


def test_a_child_that_ends_without_a_result(stage: Stage, tmp_path: Path) -> None:
    stage.python = script(tmp_path / "python", "exit 0")

    with pytest.raises(StageError, match=r"exited with status 0 before it gave a result"):
        stage.run("convert", {})


@pytest.mark.parametrize("python", ["/nowhere/python", "."])
def test_a_python_that_is_none(stage: Stage, python: str) -> None:
    stage.python = python

    with pytest.raises(BadInputError, match=rf"python='{python}' cannot be started"):
        stage.run("convert", {})


def test_output_that_is_no_text_is_logged_as_far_as_it_goes(stage: Stage, tmp_path: Path, lines: list[str]) -> None:
    stage.python = script(tmp_path / "python", r"printf 'half a \377 letter\n'")

    with pytest.raises(StageError):
        stage.run("convert", {})
    assert lines == ["half a � letter"]


def test_what_tensorflow_says_on_every_import_stays_out_of_the_log(
    stage: Stage, tmp_path: Path, lines: list[str]
) -> None:
    said = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1769 port.cc:153] oneDNN custom operations are on.",
        "I converted it",
        "WARNING: something else",
    ]
    stage.python = script(tmp_path / "python", "cat <<'END'\n" + "\n".join(said) + "\nEND")

    with pytest.raises(StageError):
        stage.run("convert", {})
    assert lines == said[2:]


def test_a_stage_that_takes_too_long_is_killed_with_all_that_it_started(stage: Stage, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stage.python = script(tmp_path / "python", f"sleep 60 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nwait")
    stage.timeout = 1

    with pytest.raises(StageError, match=r"the convert stage was killed after 1 s; raise its timeout"):
        stage.run("convert", {})
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not is_running(int(pid)))


def test_killing_a_stage_ends_all_that_it_started(stage: Stage, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stage.python = script(tmp_path / "python", f"sleep 60 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nwait")
    errors: list[BaseException] = []

    def run() -> None:
        try:
            stage.run("convert", {})
        except StageError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(pids.exists)
    stage.kill()
    thread.join(20)

    assert "was killed by SIGKILL" in str(errors[0])
    for pid in pids.read_text().split():
        wait_for(lambda pid=pid: not is_running(int(pid)))


def test_a_stage_that_is_killed_while_it_starts_ends(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = subprocess.Popen

    def start_and_be_killed(*args: Any, **kwargs: Any) -> Any:
        process = start(*args, **kwargs)
        stage.kill()
        return process

    stage.python = script(tmp_path / "python", "exec sleep 60")
    monkeypatch.setattr(subprocess, "Popen", start_and_be_killed)
    with pytest.raises(StageError, match="was killed by SIGKILL"):
        stage.run("convert", {})


def test_killing_where_nothing_runs_does_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.kill()
    stage.python = script(tmp_path / "python", "exit 3")
    with pytest.raises(StageError, match="status 3"):
        stage.run("convert", {})

    assert stage.kill() is None


def test_a_model_that_never_ends_is_stopped(stage: Stage, tmp_path: Path) -> None:
    stage.timeout = 8

    with pytest.raises(StageError, match="the validate stage was killed after 8 s"):
        stage.run("validate", settings_of(tmp_path, ENDLESS))


def test_a_model_that_needs_too_much_memory_is_refused(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"(?i)needs more than (its|memory_mb=)"):
        stage.run("validate", settings_of(tmp_path, HUGE), memory_mb=4096)


def test_a_stage_gets_by_with_the_default_limit_of_memory(stage: Stage, tmp_path: Path) -> None:
    assert stage.run("validate", settings_of(tmp_path, CLASSIFIER), memory_mb=8192)["rows"] == 3


def test_a_child_does_not_outlive_the_task_that_started_it(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, ENDLESS)
    code = """
import json, logging, sys
from airflow_onnx_provider.model.stage import Stage
Stage(logging.getLogger()).run("validate", json.loads(sys.argv[1]))
"""
    task = subprocess.Popen([sys.executable, "-c", code, json.dumps(settings)])
    try:
        child = wait_for(lambda: stages_of(task.pid))[0]
        wait_for(lambda: child.cpu_times().user > 1)  # well past its start, spinning in the model
    finally:
        os.kill(task.pid, signal.SIGKILL)
        task.wait()

    wait_for(lambda: not is_running(child.pid))
    assert task.returncode == -signal.SIGKILL, "it was alive until then"


def test_a_python_without_the_libraries_is_named(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare")
    bare = Stage(logging.getLogger(), python=str(tmp_path / "bare" / "bin" / "python"))

    with pytest.raises(BadInputError, match=r"bare/bin/python lacks what the validate stage needs: No module named"):
        bare.run("validate", settings_of(tmp_path, CLASSIFIER))
