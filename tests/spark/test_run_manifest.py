# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, SparkJobError
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest, failure, read_state, write_failure
from tests.spark.staging import a_manifest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "_runs" / "run-1.json"


def test_written_and_read_again(path: Path) -> None:
    manifest = a_manifest("run-1", OutputLayout(path.parent))
    manifest.write(path)

    assert RunManifest.read(path) == manifest
    assert json.loads(path.read_text())["state"] == "finished"


def test_a_day_without_a_predicted_row(path: Path) -> None:
    manifest = a_manifest("run-1", OutputLayout(path.parent), predicted=0, labels={}, mean_score=None, files=())
    manifest.write(path)

    assert RunManifest.read(path) == manifest


def test_quarantined_rows_are_the_sum_over_the_reasons(path: Path) -> None:
    manifest = a_manifest("run-1", OutputLayout(path.parent), quarantined={"empty_file": 2, "not_an_image": 3})

    assert manifest.quarantined_rows == 5


def test_a_failed_run_gives_the_jobs_own_words(path: Path) -> None:
    write_failure(path, "2026-01-01", BadInputError("the day is empty"))

    assert read_state(path) == {
        "format": 1,
        "state": "failed",
        "partition": "2026-01-01",
        "class": "BadInputError",
        "error": "the day is empty",
    }
    with pytest.raises(SparkJobError, match="the run is failed: the day is empty"):
        RunManifest.read(path)


def test_a_run_that_never_wrote_one(path: Path) -> None:
    assert read_state(path) is None
    with pytest.raises(SparkJobError, match="there is no run manifest at .*: the job did not finish"):
        RunManifest.read(path)


@pytest.mark.parametrize("content", ["", "{half", "[]", '"text"', "{}", '{"state": "finished", "format": 2}'])
def test_a_file_that_is_no_manifest(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)

    with pytest.raises(SparkJobError, match=r"run-1\.json"):
        RunManifest.read(path)


def test_a_manifest_that_lacks_a_figure(path: Path) -> None:
    a_manifest("run-1", OutputLayout(path.parent)).write(path)
    data = json.loads(path.read_text())
    del data["rows_in"]
    path.write_text(json.dumps(data))

    with pytest.raises(SparkJobError, match="rows_in"):
        RunManifest.read(path)


def test_a_failed_run_gives_its_own_error_back(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_failure(path, "2026-01-01", BadInputError("the catalogue is not there"))

    found = failure(path, "spark-submit said a lot")

    assert isinstance(found, BadInputError)
    assert str(found) == "the catalogue is not there"


def test_an_error_of_somebody_else_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_failure(path, "2026-01-01", ValueError("odd"))
    assert str(failure(path, "")) == "ValueError: odd"


def test_without_a_manifest_the_last_line_counts(tmp_path: Path) -> None:
    found = failure(tmp_path / "none.json", "Cannot execute: spark-submit …\nOutOfMemoryError: heap\n\n")
    assert isinstance(found, SparkJobError)
    assert str(found).endswith("the last thing it said: OutOfMemoryError: heap")
