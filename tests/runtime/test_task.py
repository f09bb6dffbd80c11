# SPDX-License-Identifier: Apache-2.0
"""What a Spark task gives back for its rows, in each form that rows come in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from airflow_onnx_provider.runtime.known import CONTENT, content_of, write_known
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.task import METRICS, ScoringTask, metrics_of
from tests.runtime.tiny import plain_picture

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
PICTURES = {name: plain_picture(colour) for name, colour in COLOURS.items()}


def task(version: Path, **fields: Any) -> ScoringTask:
    profile = ExecutionProfile(batch_size=4)
    return ScoringTask(str(version), ModelManifest.read(version).digest, profile, number=7, **fields)


def rows(pictures: Iterable[bytes | None]) -> pa.RecordBatch:
    """Rows that hold their pictures themselves."""
    images = list(pictures)
    keys = [f"k{number}" for number in range(len(images))]
    return pa.RecordBatch.from_pydict({"key": keys, "address": keys, "image": pa.array(images, pa.binary())})


def files(folder: Path, pictures: dict[str, bytes]) -> pa.RecordBatch:
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    return pa.RecordBatch.from_pydict({"key": list(pictures), "address": [str(folder / name) for name in pictures]})


def outcomes(given: ScoringTask, *batches: pa.RecordBatch) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows, and what the metrics row says."""
    found = [row for batch in given(batches) for row in batch.to_pylist()]
    assert [row["outcome"] for row in found].count(METRICS) == 1
    return found[:-1], json.loads(found[-1][METRICS])


def test_files_are_read_by_their_addresses(version: Path, tmp_path: Path) -> None:
    found, told = outcomes(task(version), files(tmp_path, {**PICTURES, "broken": b"no picture"}))

    assert [(row["key"], row["outcome"], row["label"]) for row in found] == [
        ("red", "predicted", "red"),
        ("green", "predicted", "green"),
        ("blue", "predicted", "blue"),
        ("broken", "quarantined", None),
    ]
    assert {row["execution_provider"] for row in found} == {"CPUExecutionProvider"}
    assert (told["rows"], told["task"]) == (3, 7)


def test_rows_may_hold_their_pictures_themselves(version: Path) -> None:
    found, _ = outcomes(task(version, from_bytes=True), rows([PICTURES["green"], None, b""]))

    assert [(row["label"], row["reason"]) for row in found] == [
        ("green", None),
        (None, "null_input"),
        (None, "empty_file"),
    ]


def test_addresses_in_a_column_stay_below_their_root(version: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(PICTURES["blue"])
    (tmp_path / "secret").write_bytes(PICTURES["red"])
    addresses = ["a", None, "../secret", "missing"]
    batch = pa.RecordBatch.from_pydict({"key": [1, 2, 3, 4], "address": addresses})

    found, _ = outcomes(task(version, root=str(tmp_path / "images"), key_type="int64"), batch)

    assert {row["key"]: row["label"] or row["reason"] for row in found} == {
        1: "blue",
        2: "null_input",
        3: "outside_root",
        4: "unreadable",
    }


@pytest.mark.parametrize("from_bytes", [True, False])
def test_what_is_known_is_carried_over_and_the_rest_is_scored(version: Path, tmp_path: Path, from_bytes: bool) -> None:
    known = tmp_path / "known"
    known.mkdir()
    earlier = {
        CONTENT: pa.array([content_of(PICTURES["red"])], pa.binary()),
        "label": ["as it was"],
        "score": pa.array([0.25], pa.float32()),
        "runtime_version": ["1.0"],
        "execution_provider": ["OtherProvider"],
    }
    write_known(known, [pa.RecordBatch.from_pydict(earlier)])
    pictures = {"a": PICTURES["red"], "b": PICTURES["green"], "c": b"broken", "d": PICTURES["red"]}
    batch = rows(pictures.values()) if from_bytes else files(tmp_path, pictures)

    found, told = outcomes(task(version, known=str(known), from_bytes=from_bytes), batch)

    by_key = dict(zip("abcd", sorted(found, key=lambda row: str(row["key"])), strict=True))
    assert {key: (row["outcome"], row["label"]) for key, row in by_key.items()} == {
        "a": ("carried", "as it was"),
        "b": ("predicted", "green"),
        "c": ("quarantined", None),
        "d": ("carried", "as it was"),
    }
    assert (by_key["a"]["score"], by_key["a"]["runtime_version"]) == (0.25, "1.0")
    assert by_key["b"][CONTENT] == content_of(PICTURES["green"])
    assert told["rows"] == 1, "only one row was scored"


def test_without_any_known_answer_contents_are_kept_for_the_next_day(version: Path, tmp_path: Path) -> None:
    found, _ = outcomes(task(version, known=str(tmp_path), from_bytes=True), rows(PICTURES.values()))

    assert [row[CONTENT] for row in found] == [content_of(each) for each in PICTURES.values()]


@pytest.mark.parametrize("fields", [{}, {"root": ""}, {"known": ""}, {"from_bytes": True}])
def test_a_quarantined_row_leaves_with_a_copy_of_a_small_input(
    version: Path, tmp_path: Path, fields: dict[str, Any]
) -> None:
    """However its bytes came: read by the feed, below a root, for their content, or in the row itself."""
    fields = {name: value or str(tmp_path) for name, value in fields.items()}
    pictures = {"broken": b"broken", "empty": b"", "good": PICTURES["red"], "large": b"x" * 1001}
    batch = rows(pictures.values()) if fields.get("from_bytes") else files(tmp_path, pictures)

    found, _ = outcomes(task(version, copy_bytes=1000, **fields), batch)

    assert [(row["outcome"], row["bytes"], row["copy"]) for row in sorted(found, key=lambda row: row["key"])] == [
        ("quarantined", 6, b"broken"),
        ("quarantined", 0, b""),
        ("predicted", None, None),
        ("quarantined", 1001, None),
    ]


def test_without_copies_only_the_size_is_told(version: Path) -> None:
    (row,), _ = outcomes(task(version, from_bytes=True), rows([b"broken"]))

    assert (row["bytes"], row["copy"]) == (6, None)


def test_the_input_of_a_row_that_killed_its_process(version: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    below = task(version, root=str(tmp_path / "images"), copy_bytes=10)

    def told(given: ScoringTask, batch: pa.RecordBatch) -> list[Any]:
        return [column[0].as_py() for column in given.input_of(batch).values()]

    assert told(task(version, from_bytes=True, copy_bytes=10), rows([b"bytes"])) == [5, b"bytes"]
    assert told(task(version, from_bytes=True, copy_bytes=10), rows([None])) == [None, None]
    assert told(task(version, copy_bytes=10), files(tmp_path, {"file": b"file"})) == [4, b"file"]
    assert told(below, files(tmp_path / "images", {"a": b"below"})) == [5, b"below"]
    for address in ("../secret", None):
        row = pa.RecordBatch.from_pydict({"key": ["k"], "address": pa.array([address], pa.string())})
        assert told(below, row) == [None, None]


def test_no_row_is_lost_over_many_batches(version: Path, tmp_path: Path) -> None:
    pictures = [PICTURES[("red", "green", "blue")[number % 3]] if number % 5 else b"broken" for number in range(101)]
    batches = [rows(pictures[start : start + 13]) for start in range(0, 101, 13)]

    for fields in ({}, {"known": str(tmp_path)}):
        found, told = outcomes(task(version, from_bytes=True, **fields), *batches)
        assert len(found) == 101
        assert told["rows"] == sum(row["outcome"] == "predicted" for row in found) == 80


def test_it_travels_as_json(version: Path) -> None:
    given = task(version, root="/data", top_k=2, raw=("scores",))

    assert ScoringTask.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_a_metrics_row_names_its_task(version: Path) -> None:
    _, told = outcomes(task(version, from_bytes=True), rows([PICTURES["red"]]))

    number, metrics = metrics_of(json.dumps(told))
    assert (number, metrics.rows) == (7, 1)
