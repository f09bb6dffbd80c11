# SPDX-License-Identifier: Apache-2.0
"""Inference, check and publish together, on a real local Spark."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider import (
    OnnxPredictionCheckOperator,
    OnnxProviderError,
    OnnxPublishOperator,
    OnnxSparkInferenceOperator,
)
from airflow_onnx_provider.operators.task_run import TaskRun
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from tests.conftest import Day, make_colour_model, set_connection
from tests.spark.staging import stage

pytestmark = pytest.mark.usefixtures("connections")


def inference(tmp_path: Path, model: Any, **changes: Any) -> OnnxSparkInferenceOperator:
    arguments = {
        "task_id": "infer",
        "model": model,
        "input_path": str(tmp_path / "catalog"),
        "output_path": str(tmp_path / "predictions"),
    }
    return OnnxSparkInferenceOperator(**(arguments | changes))


def run_day(
    tmp_path: Path, model: str, context: dict[str, Any], changes: Mapping[str, Any] | None = None, **checks: Any
) -> dict[str, Any]:
    """Infer, check and publish one day, as the reference DAG does.

    :param changes: arguments of inference
    """
    predictions = inference(tmp_path, model, **(changes or {})).execute(context)
    checked = OnnxPredictionCheckOperator(task_id="check", predictions=predictions, checks=checks).execute(context)
    return OnnxPublishOperator(task_id="publish", predictions=checked).execute(context)


def rows(folder: Path) -> list[dict[str, Any]]:
    table = pq.read_table(list(folder.glob("*.parquet")))
    return sorted(table.to_pylist(), key=lambda row: row["key"])


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def publish_another(output: Path, partition: str) -> None:
    """Publish a run that was made by hand, without Spark."""
    stage(OutputLayout(output), "by-hand", partition)
    publish(OutputLayout(output), partition, "by-hand")


class TaskState(dict[str, Any]):
    """Airflow's per-task state with the three calls that are used; it outlives a clear, as the real one does."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.mark.spark
@pytest.mark.usefixtures("children_end")
def test_every_file_is_predicted_or_quarantined_and_a_cleared_run_replaces_the_day_alone(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    day, output = draw_day("2026-01-01", good=30, broken=3), tmp_path / "predictions"
    limits = {"quarantine_rate": {"max": 0.2}}
    state = context["task_state_store"] = TaskState()

    first = run_day(tmp_path, colour_model, context, **limits)

    assert state == {}, "nothing is left by which a clear would find the finished job and not run again"
    published = rows(output / "ds=2026-01-01")
    assert {row["key"]: row["label"] for row in published} == day.good
    quarantine = rows(output / "_quarantine" / "ds=2026-01-01")
    assert {row["key"] for row in quarantine} == day.broken
    assert {row["reason"] for row in quarantine} == {"empty_file", "not_an_image", "broken_image"}
    assert all(Path(row["address"]).exists() and row["error"] for row in quarantine)
    assert {row["execution_provider"] for row in published} == {"CPUExecutionProvider"}
    assert (first["rows_in"], first["predicted"], first["quarantined"]) == (33, 30, 3)

    publish_another(output, "2026-01-02")
    untouched = snapshot(output / "ds=2026-01-02")

    second = run_day(tmp_path, colour_model, context, **limits)

    assert second["replaced"] == first["run"]
    assert rows(output / "ds=2026-01-01") == published
    history = output / "_history" / "ds=2026-01-01" / first["run"]
    assert rows(history / "predictions") == published
    assert rows(history / "quarantine") == quarantine
    assert snapshot(output / "ds=2026-01-02") == untouched
    assert list((output / "_staging").iterdir()) == []


@pytest.mark.spark
def test_a_day_of_broken_pictures_leaves_the_published_partition_as_it_was(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    publish_another(tmp_path / "predictions", "2026-01-01")
    before = snapshot(tmp_path / "predictions" / "ds=2026-01-01")
    for file in draw_day(good=4, broken=0).folder.glob("0*"):
        file.write_bytes(b"broken now")

    with pytest.raises(AirflowFailException) as failure:
        run_day(tmp_path, colour_model, context)

    message = str(failure.value)
    assert "quarantine_rate: FAILED" in message
    assert "100.00% (not_an_image 4)" in message
    assert "mean_confidence: FAILED" in message, "every failed check is listed"
    assert snapshot(tmp_path / "predictions" / "ds=2026-01-01") == before


@pytest.mark.spark
@pytest.mark.usefixtures("children_end")
def test_a_model_that_answers_differently_here_is_refused_by_the_workers(
    tmp_path: Path, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day(good=4)
    model = make_colour_model(tmp_path / "wrong", golden_shift=0.25)

    with pytest.raises(OnnxProviderError, match=r"golden rows of colours \w+ differ by 0\.25"):
        inference(tmp_path, model).execute(context)

    (manifest,) = (tmp_path / "predictions" / "_runs").glob("*.json")
    assert json.loads(manifest.read_text())["state"] == "failed"
    assert list((tmp_path / "predictions").glob("_staging/*")) == []


def test_missing_connection_does_not_become_yarn(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day()
    with pytest.raises(AirflowFailException, match="connection 'spark_nowhere' does not exist.*connections add"):
        inference(tmp_path, colour_model, conn_id="spark_nowhere").execute(context)


def test_connection_of_another_type_is_named(
    tmp_path: Path, colour_model: str, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, "wrong", {"conn_type": "http", "host": "somewhere"})
    with pytest.raises(AirflowFailException, match="'wrong' has the type 'http', needed is spark or spark_cluster"):
        inference(tmp_path, colour_model, conn_id="wrong").execute(context)


def test_missing_day_says_which_days_there_are(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day("2026-01-05")
    with pytest.raises(AirflowFailException, match="has no ds=2026-01-01; it has 1 partitions from ds=2026-01-05"):
        inference(tmp_path, colour_model).execute(context)


def test_empty_day(tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]) -> None:
    draw_day(good=0, broken=0)
    with pytest.raises(AirflowFailException, match="ds=2026-01-01 is empty: there is nothing to predict"):
        inference(tmp_path, colour_model).execute(context)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{root}/colours/0123456789ab", "there is no model version at"),
        ("model.onnx", "is no model address"),
        ({"name": "colours"}, "expected an address"),
    ],
)
def test_missing_model(
    tmp_path: Path, draw_day: Callable[..., Day], context: dict[str, Any], model: Any, said: str
) -> None:
    draw_day()
    given = model.format(root=tmp_path) if isinstance(model, str) else model
    with pytest.raises(AirflowFailException, match=said):
        inference(tmp_path, given).execute(context)


def test_output_that_cannot_be_written(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day()
    (tmp_path / "file").touch()
    with pytest.raises(
        AirflowFailException, match="output_path: .*/file/predictions cannot be written: Not a directory"
    ):
        inference(tmp_path, colour_model, output_path=str(tmp_path / "file" / "predictions")).execute(context)


def test_urls_are_refused_with_the_way_out(tmp_path: Path, colour_model: str, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="output_path: s3://bucket/x is a URL. Give a path"):
        inference(tmp_path, colour_model, output_path="s3://bucket/x").execute(context)


@pytest.fixture(params=["spark-submit", "java"])
def complaint(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What must be said where this program is missing."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if request.param == "java":
        return "needs Java 17 or newer.*apt-get install openjdk-17"
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))  # else it is found beside this Python
    return r"spark-submit is neither on the PATH.*pip install"


def test_a_missing_program_is_one_clear_error(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any], complaint: str
) -> None:
    draw_day()
    with pytest.raises(AirflowFailException, match=complaint):
        inference(tmp_path, colour_model).execute(context)


def test_hand_set_threads_that_oversubscribe_are_refused_with_the_sum(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day()
    with pytest.raises(AirflowFailException, match="4 threads in a task of 1 cores would oversubscribe"):
        inference(tmp_path, colour_model, sizing={"threads": 4}).execute(context)


@pytest.mark.spark
@pytest.mark.usefixtures("children_end")
def test_a_killed_task_leaves_no_process_and_no_rows(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    draw_day(good=8)
    operator = inference(tmp_path, colour_model)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(operator.execute, context)
        deadline = time.monotonic() + 60
        while not any("pyspark.daemon" in " ".join(one) for one in command_lines()):
            assert time.monotonic() < deadline, "Spark never started a Python worker"
            assert not running.done(), running.result()
            time.sleep(0.1)
        operator.on_kill()
        with pytest.raises(OnnxProviderError, match="ended without a run manifest|driver died before the run had"):
            running.result(timeout=30)
    assert list((tmp_path / "predictions").glob("ds=*")) == []


def command_lines() -> list[list[str]]:
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found.append(child.cmdline())
    return found


def test_killing_before_the_submission_does_nothing(tmp_path: Path) -> None:
    assert inference(tmp_path, "unused/model/version").on_kill() is None


def test_a_retry_that_finds_a_cluster_job_of_its_own_takes_up_the_same_run(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    state = TaskState(spark_job_id="driver-1", onnx_run="earlier-run")
    run = TaskRun(state, ("spark_job_id",))

    assert run.begin(layout, "2026-01-01", "manual") == "earlier-run"
    state.delete("spark_job_id")
    assert run.begin(layout, "2026-01-01", "manual").startswith("2026-01-01-manual-")


def test_what_a_try_staged_whose_driver_died_is_removed_by_the_next_one(tmp_path: Path) -> None:
    layout, run = OutputLayout(tmp_path), TaskRun(TaskState(), ("spark_job_id",))
    first = run.begin(layout, "2026-01-01", "manual")
    layout.staging(first).mkdir(parents=True)

    run.begin(layout, "2026-01-01", "manual")

    assert not layout.staging(first).exists()
    assert json.loads(layout.run_manifest(first).read_text())["error"] == "the driver died before the run had ended"
