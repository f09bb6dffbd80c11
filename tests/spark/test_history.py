# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from airflow_onnx_provider.spark.history import (
    PUBLISHED,
    REMOVED,
    ROLLED_BACK,
    Move,
    kept,
    last_move,
    moves,
    record,
    way_back,
)
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from tests.spark.staging import stage, stage_and_publish

DAY = "2026-01-01"


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path)


def keep_versions(layout: OutputLayout, *runs: str) -> None:
    for run in runs:
        (layout.history(DAY, run) / "predictions").mkdir(parents=True)


def write_log(layout: OutputLayout, *told: tuple[str, str, str | None]) -> None:
    for action, run, replaced in told:
        record(layout, DAY, Move.now(action, run, replaced, "ann"))


def test_every_publishing_adds_a_line(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    publish(layout, DAY, "run-1", by="catalog/monday/publish")
    stage(layout, "run-2")
    publish(layout, DAY, "run-2", by="catalog/tuesday/publish", reason="approved by Ann")
    publish(layout, DAY, "run-2", by="catalog/tuesday/publish")

    first, second = moves(layout, DAY)
    assert (first.action, first.run, first.replaced, first.by) == (PUBLISHED, "run-1", None, "catalog/monday/publish")
    assert (second.run, second.replaced, second.reason) == ("run-2", "run-1", "approved by Ann")
    assert first.at <= second.at
    assert first.at.endswith("+00:00")
    assert last_move(layout, DAY) == second


def test_a_log_is_lines_of_json(layout: OutputLayout) -> None:
    write_log(layout, (PUBLISHED, "run-1", None), (PUBLISHED, "run-2", "run-1"))

    lines = layout.history_log(DAY).read_text().splitlines()
    assert [json.loads(line)["run"] for line in lines] == ["run-1", "run-2"]


def test_a_move_that_is_finished_twice_is_written_once(layout: OutputLayout) -> None:
    move = Move.now(PUBLISHED, "run-1", None, "ann")
    for _ in range(2):
        record(layout, DAY, move)

    assert moves(layout, DAY) == (move,)


@pytest.mark.parametrize("torn", ['{"action": "publ', '["no", "move"]\n', '{"action": "published"}\n', "\n", "\xff"])
def test_a_line_that_was_cut_off_hides_no_other(layout: OutputLayout, torn: str) -> None:
    write_log(layout, (PUBLISHED, "run-1", None))
    with layout.history_log(DAY).open("a") as file:
        file.write(torn)
    write_log(layout, (PUBLISHED, "run-2", "run-1"))

    assert [move.run for move in moves(layout, DAY)] == ["run-1", "run-2"]


def test_a_partition_without_a_log(layout: OutputLayout) -> None:
    assert moves(layout, DAY) == ()
    assert last_move(layout, DAY) is None
    assert kept(layout, DAY) == ()
    assert way_back(layout, DAY, "run-1") == ()


def test_what_a_removal_leaves_on_show_is_the_move_before(layout: OutputLayout) -> None:
    write_log(layout, (PUBLISHED, "b", "a"), (REMOVED, "a", None))

    assert last_move(layout, DAY) == moves(layout, DAY)[0]


def test_kept_versions_are_those_with_rows(layout: OutputLayout) -> None:
    stage_and_publish(layout, "c", "b", "a")
    layout.history(DAY, "empty").mkdir()

    assert set(kept(layout, DAY)) == {"c", "b"}


A, B, C, D = ((PUBLISHED, run, before) for run, before in zip("abcd", [None, *"abc"], strict=True))


@pytest.mark.parametrize(
    ("log", "way"),
    [
        ([A], ""),
        ([A, B, C], "ba"),
        ([A, B, C, (ROLLED_BACK, "b", "c")], "a"),
        ([A, B, C, (ROLLED_BACK, "b", "c"), (ROLLED_BACK, "a", "b")], ""),
        ([A, B, C, (ROLLED_BACK, "a", "c")], ""),
        ([A, B, C, (ROLLED_BACK, "b", "c"), (ROLLED_BACK, "c", "b")], "ba"),
        ([A, B, C, (ROLLED_BACK, "a", "c"), (PUBLISHED, "d", "a")], "a"),
        ([A, B, C, D, (ROLLED_BACK, "b", "d"), (ROLLED_BACK, "d", "b")], "ba"),
        ([(PUBLISHED, "b", "a"), C], "ba"),
        ([A, B, (PUBLISHED, "c", None)], "ba"),
    ],
)
def test_the_way_back(layout: OutputLayout, log: list[tuple[str, str, str | None]], way: str) -> None:
    """The versions that rollbacks lead to one after the other, by what was published, rolled back and named."""
    write_log(layout, *log)
    current = log[-1][1]
    keep_versions(layout, *({run for move in log for run in move[1:] if run} - {current}))

    assert "".join(way_back(layout, DAY, current)) == way


def test_the_way_back_passes_over_versions_that_are_gone(layout: OutputLayout) -> None:
    stage_and_publish(layout, *"abcd")
    shutil.rmtree(layout.history(DAY, "b"))

    assert way_back(layout, DAY, "d") == ("c", "a")


def test_versions_from_before_there_was_a_log_are_ordered_by_their_publishing(layout: OutputLayout) -> None:
    stage_and_publish(layout, "z", "y", "x")
    for second, manifest in enumerate((layout.history(DAY, run) / "predictions" / "_run.json") for run in ("z", "y")):
        os.utime(manifest, (second, second))
    layout.history_log(DAY).unlink()

    assert kept(layout, DAY) == ("z", "y")
    assert way_back(layout, DAY, "x") == ("y", "z")

    stage_and_publish(layout, "new")
    assert way_back(layout, DAY, "new") == ("x", "y", "z")
