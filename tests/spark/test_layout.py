# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.layout import OutputLayout, check_partition, local_path, new_run_name
from airflow_onnx_provider.spark.publish import publish
from tests.spark.staging import stage

LAYOUT = OutputLayout(Path("/out"))


def test_where_things_lie() -> None:
    assert str(LAYOUT.published("2026-01-01")) == "/out/ds=2026-01-01"
    assert str(LAYOUT.quarantine("2026-01-01")) == "/out/_quarantine/ds=2026-01-01"
    assert str(LAYOUT.staging("run-1")) == "/out/_staging/run-1"
    assert str(LAYOUT.run_manifest("run-1")) == "/out/_runs/run-1.json"
    assert str(LAYOUT.history("2026-01-01", "run-1")) == "/out/_history/ds=2026-01-01/run-1"
    assert str(LAYOUT.history_log("2026-01-01")) == "/out/_history/log/ds=2026-01-01.jsonl"
    assert str(LAYOUT.discarded("2026-01-01", "run-1")) == "/out/_history/discarded/ds=2026-01-01/run-1"
    assert str(LAYOUT.journal("2026-01-01")) == "/out/_publish/ds=2026-01-01.json"


def test_readers_of_the_folder_skip_all_but_the_published_rows() -> None:
    others = [
        LAYOUT.quarantine("d"),
        LAYOUT.staging("r"),
        LAYOUT.run_manifest("r"),
        LAYOUT.history("d", "r"),
        LAYOUT.history_log("d"),
        LAYOUT.discarded("d", "r"),
        LAYOUT.journal("d"),
    ]

    assert all(path.relative_to(LAYOUT.root).parts[0].startswith("_") for path in others)


def test_published_days_in_order(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    for number, day in enumerate(["2026-02-01", "2025-12-31", "2026-01-01"]):
        stage(layout, f"run-{number}", day)
        publish(layout, day, f"run-{number}")
    (tmp_path / "ds=2024-01-01").mkdir()  # not ours: it has no manifest

    assert layout.published_partitions() == ["2025-12-31", "2026-01-01", "2026-02-01"]


def test_an_output_folder_that_is_not_there_yet_has_no_days(tmp_path: Path) -> None:
    assert OutputLayout(tmp_path / "later").published_partitions() == []


@pytest.mark.parametrize("partition", ["2026-01-31", "2026-01-31T05", "week.05", "A", "shop_7-eu", "9" * 100])
def test_a_partition_that_can_be_part_of_a_path(partition: str) -> None:
    assert check_partition(partition) == partition


@pytest.mark.parametrize(
    "partition", ["", ".", "..", "a..b", "a/b", "../up", "_x", "-x", "a b", "a=b", "tag\n", "ä", "9" * 101, "a\0"]
)
def test_a_partition_that_could_leave_its_folder_is_refused(partition: str) -> None:
    with pytest.raises(BadInputError, match="cannot name a partition: use a date such as 2026-01-31"):
        check_partition(partition)


@pytest.mark.parametrize("path", ["s3://bucket/catalogue", "hdfs://name:9000/x", "gs://b", "http://host/x"])
def test_a_url_is_refused(path: str) -> None:
    with pytest.raises(BadInputError, match=rf"input_path: {path} is a URL. Give a path on a file system"):
        local_path(path, "input_path")


def test_a_local_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")

    assert local_path("catalogue", "input_path") == tmp_path / "catalogue"
    assert local_path("file:///data/catalogue", "input_path") == Path("/data/catalogue")
    assert local_path("~/catalogue", "input_path") == Path("/home/somebody/catalogue")


def test_two_runs_of_one_label_have_names_of_their_own_that_can_be_paths() -> None:
    first, second = (new_run_name("manual__2026-01-01T00:00:00+00:00/../x") for _ in range(2))

    assert first != second
    assert first.rsplit("-", 1)[0] == "manual-2026-01-01T00-00-00-00-00-x"
    assert not set("/:+. ") & set(first)
