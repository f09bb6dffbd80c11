# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.runtime.guard import Death, divided, survive
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.metrics import combine
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.task import METRICS, ScoringTask, metrics_of
from tests.runtime.brittle import BrittleTask, rows_of
from tests.runtime.tiny import plain_picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child must find the stand-in task, wherever the tests were started from."""
    monkeypatch.syspath_prepend(str(ROOT))


def outcomes(batches: Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist() if row["outcome"] != METRICS]


@pytest.mark.usefixtures("children_end")
def test_rows_that_kill_are_quarantined_and_the_others_scored_in_their_order() -> None:
    task = BrittleTask()
    batches = [rows_of("print", "segfault"), rows_of(), rows_of("kill"), rows_of("exit"), rows_of("fine")]

    given = list(survive(task, batches))

    assert all(batch.schema == task.schema for batch in given)
    left = outcomes(iter(given))
    assert [row["key"] for row in left] == [0, 1, 0, 0, 0]
    assert [row["word"] for row in left if row["outcome"] == "predicted"] == ["print", "fine"]
    crashed = [row for row in left if not row["word"]]
    assert {(row["outcome"], row["stage"], row["reason"]) for row in crashed} == {
        ("quarantined", "native", "native_crash")
    }
    assert [row["error"] for row in crashed] == [
        "the worker process died with SIGSEGV on this row",
        "the worker process died with SIGKILL (out of memory?) on this row",
        "the worker process ended with exit code 7 on this row",
    ]


@pytest.mark.usefixtures("children_end")
def test_one_child_scores_chunk_after_chunk_and_each_call_tells_its_metrics() -> None:
    given = list(survive(BrittleTask(), [rows_of(*["fine"] * 5), rows_of("fine")], chunk_rows=2))

    assert len({row["process"] for row in outcomes(iter(given))}) == 1
    assert [batch["outcome"][0].as_py() for batch in given] == ["metrics", *["predicted", "metrics"] * 4]


@pytest.mark.usefixtures("children_end")
def test_a_task_without_rows_tells_its_metrics() -> None:
    (batch,) = survive(BrittleTask(), [])

    assert batch["outcome"].to_pylist() == [METRICS]


@pytest.mark.usefixtures("children_end")
def test_a_row_that_never_ends_is_quarantined_when_patience_does() -> None:
    (row,) = outcomes(survive(BrittleTask(), [rows_of("hang")], patience_seconds=20.0))

    assert row["reason"] == "native_hang"
    assert row["error"] == "the worker process gave no answer within 2 s and was killed on this row"


@pytest.mark.usefixtures("children_end")
def test_an_error_of_the_task_keeps_its_class_and_words() -> None:
    with pytest.raises(BadInputError, match="^the task says no$"):
        list(survive(BrittleTask(), [rows_of("raise")]))


@pytest.mark.usefixtures("children_end")
def test_an_unforeseen_error_is_told_with_its_end() -> None:
    with pytest.raises(OnnxProviderError, match="scoring in a child process failed: .*KeyError: 'unforeseen'"):
        list(survive(BrittleTask(load="surprise"), []))


@pytest.mark.usefixtures("children_end")
def test_a_child_that_dies_before_its_first_row_is_no_fault_of_a_row() -> None:
    with pytest.raises(OnnxProviderError, match="died with SIGSEGV before its first row: look at the model, the mem"):
        list(survive(BrittleTask(load="segfault"), [rows_of("fine")]))


@pytest.mark.usefixtures("children_end")
def test_where_many_rows_crash_it_is_no_fault_of_rows() -> None:
    with pytest.raises(OnnxProviderError, match="died with SIGSEGV, and on 1 rows before: so many are no fault of row"):
        list(survive(BrittleTask(), [rows_of("segfault")] * 2, most_crashes=1))


def test_the_child_ends_with_the_generator() -> None:
    others = set(psutil.Process().children())
    given = survive(BrittleTask(), [rows_of("fine")])
    next(given)
    (child,) = set(psutil.Process().children()) - others

    given.close()

    assert not child.is_running()


def test_the_child_ends_with_its_parent_whatever_it_is_doing() -> None:
    """The parent is killed while the child is in native code that holds the interpreter."""
    script = "from tests.runtime.brittle import *; from airflow_onnx_provider.runtime.guard import survive; "
    script += "list(survive(BrittleTask(), [rows_of('hang')]))"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.PIPE)
    assert parent.stderr is not None
    assert parent.stderr.readline() == b"hanging\n"
    (child,) = psutil.Process(parent.pid).children()

    parent.kill()
    parent.wait()
    parent.stderr.close()

    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("children_end")
def test_a_picture_that_crashes_its_decoder_is_quarantined(
    version: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real task, with a stand-in for pydicom that dies of a segmentation fault."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "pydicom.py").write_text(
        "import ctypes\ndef __getattr__(name):\n    return ctypes.string_at(0)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "stand_in"))
    pictures = {"0.png": plain_picture((250, 0, 0)), "1.dcm": bytes(128) + b"DICM and more"}
    pictures |= {"2.png": plain_picture((0, 250, 0)), "3.txt": b"no picture"}
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    keys = sorted(pictures)
    rows = pa.RecordBatch.from_pydict({"key": keys, "address": [str(tmp_path / key) for key in keys]})
    digest = ModelManifest.read(version).digest
    task = ScoringTask(str(version), digest, ExecutionProfile(batch_size=4), copy_bytes=1000)

    given = list(survive(task, [rows.slice(0, 2), rows.slice(2)]))

    assert all(batch.schema == task.schema for batch in given)
    left = outcomes(iter(given))
    assert [row["key"] for row in left] == keys
    assert [row["label"] for row in left] == ["red", None, "green", None]
    assert [row["reason"] for row in left] == [None, "native_crash", None, "not_an_image"]
    crashed = left[1]
    assert {name for name, value in crashed.items() if value is not None} == {
        *("key", "address", "outcome", "stage", "reason", "error", "bytes")
    }
    assert crashed["bytes"] == len(pictures["1.dcm"])
    told = [metrics_of(row["metrics"])[1] for batch in given for row in batch.to_pylist() if row["metrics"]]
    assert combine(told).rows == 2


@given(
    killers=st.sets(st.integers(0, 39)),
    rows=st.integers(1, 40),
    endurance=st.integers(1, 50),
    bad_luck=st.sets(st.integers(0, 30)),
)
def test_whichever_rows_kill_each_row_leaves_once_and_only_those_are_blamed(
    killers: set[int], rows: int, endurance: int, bad_luck: set[int]
) -> None:
    """Children that die on some rows, also after some rows too many, and also by bad luck if they are not fresh."""
    scored, calls = 0, 0

    def score(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        nonlocal scored, calls
        calls += 1
        fresh, scored = scored == 0, scored + batch.num_rows
        lucky = calls not in bad_luck or (fresh and batch.num_rows == 1)
        if killers.isdisjoint(batch["key"].to_pylist()) and scored <= endurance and lucky:
            return [batch]
        scored = 0
        raise Death("native_crash", "died", fresh=fresh)

    def blame(row: pa.RecordBatch, death: Death) -> pa.RecordBatch:
        assert death.fresh
        return row.set_column(1, "blamed", pa.array([True]))

    batch = pa.RecordBatch.from_pydict({"key": list(range(rows)), "blamed": [False] * rows})
    left = [row for one in divided(batch, score, blame) for row in one.to_pylist()]

    assert left == [{"key": key, "blamed": key in killers} for key in range(rows)]


def test_the_task_travels_as_json(version: Path) -> None:
    task = ScoringTask(str(version), ModelManifest.read(version).digest, ExecutionProfile(batch_size=4))

    assert ScoringTask.from_dict(json.loads(json.dumps(task.to_dict()))) == task
