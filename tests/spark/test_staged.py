# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import PublishConflictError, PublishError
from airflow_onnx_provider.spark import swap
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.staged import count_rows
from tests.spark.test_publish import DAY, a_replacement, publish_and_crash, stage, steps_of_a_replacement


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "output")


def test_staged_rows_over_all_files(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    pq.write_table(pa.table({"key": ["d", "e", "f"]}), layout.staging("run-1") / "predictions" / "part-1.parquet")

    assert count_rows(layout, DAY, "run-1") == (5, 1)


def test_published_rows(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    publish(layout, DAY, "run-1")

    assert count_rows(layout, DAY, "run-1") == (2, 1)


def test_a_run_that_was_replaced_is_not_counted_as_the_one_that_replaced_it(layout: OutputLayout) -> None:
    for run in ("run-1", "run-2"):
        stage(layout, run)
        publish(layout, DAY, run)

    with pytest.raises(PublishConflictError, match="run run-1 was published and replaced since; run run-2"):
        count_rows(layout, DAY, "run-1")


def test_a_run_that_lies_nowhere_is_refused(layout: OutputLayout) -> None:
    with pytest.raises(PublishError, match="run run-1 are neither staged nor published .* run inference again"):
        count_rows(layout, DAY, "run-1")


def test_a_lost_file_is_missing_in_the_count(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    (layout.staging("run-1") / "predictions" / "part-0.parquet").unlink()

    assert count_rows(layout, DAY, "run-1") == (0, 1)


def test_a_run_that_lost_its_staging_to_another_is_said_to_have_lost(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    stage(layout, "run-2")
    publish(layout, DAY, "run-1")

    with pytest.raises(PublishConflictError, match="run run-2 was based on an empty partition, but run run-1"):
        count_rows(layout, DAY, "run-2")


@pytest.mark.parametrize("can_exchange", [True, False])
def test_rows_are_found_wherever_a_publishing_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """A check that is cleared after a publish task died must see the run's rows, not half of them or the old ones."""
    if not can_exchange:
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = a_replacement(tmp_path / str(step))
        pq.write_table(pa.table({"key": ["d", "e"]}), layout.staging("run-2") / "predictions" / "part-1.parquet")
        publish_and_crash(layout, "run-2", step)

        assert count_rows(layout, DAY, "run-2") == (4, 1), f"cut off after {step} changes of the disk"
