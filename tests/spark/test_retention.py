# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark.history import PUBLISHED, REMOVED, ROLLED_BACK, Move, kept, moves
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish, published_run
from airflow_onnx_provider.spark.retention import main, prune, surplus
from airflow_onnx_provider.spark.rollback import rollback
from tests.spark.crashes import killed_at
from tests.spark.staging import run_in, stage, stage_and_publish, tree

DAY = "2026-01-01"
MANY = 1000


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "output")


def test_the_oldest_versions_go_and_what_is_known_of_them_stays(layout: OutputLayout) -> None:
    stage_and_publish(layout, *"abcd")
    rest = [tree(layout.published(DAY)), tree(layout.quarantine(DAY)), tree(layout.history(DAY, "c"))]
    layout.checks("a").parent.mkdir()
    layout.checks("a").write_text("{}")
    layout.report("a").parent.mkdir()
    layout.report("a").write_text("page")

    assert prune(layout, DAY, 1, by="catalog/monday/publish") == ("a", "b")

    assert kept(layout, DAY) == ("c",)
    assert [tree(layout.published(DAY)), tree(layout.quarantine(DAY)), tree(layout.history(DAY, "c"))] == rest
    assert all(record.exists() for record in (layout.run_manifest("a"), layout.checks("a"), layout.report("a")))
    assert not list((layout.root / "_history" / "discarded").rglob("*.parquet"))
    removed = moves(layout, DAY)[-2:]
    assert {(move.action, move.run, move.by, move.reason) for move in removed} == {
        (REMOVED, run, "catalog/monday/publish", "1 are kept") for run in "ab"
    }
    assert prune(layout, DAY, 1) == ()


@pytest.mark.parametrize(("keep", "goes"), [(0, "abcd"), (1, "abc"), (3, "a"), (4, ""), (9, "")])
def test_so_many_stay(layout: OutputLayout, keep: int, goes: str) -> None:
    stage_and_publish(layout, *"abcde")

    assert "".join(surplus(layout, DAY, keep)) == goes


@pytest.mark.parametrize(("keep", "goes"), [(1, ["d", "c"]), (2, ["d"]), (3, [])])
def test_what_rollbacks_lead_back_to_stays_longest(layout: OutputLayout, keep: int, goes: list[str]) -> None:
    """After two rollbacks from d, b is published; a lies before it, and d was left before c."""
    stage_and_publish(layout, *"abcd")
    rollback(layout, DAY)
    rollback(layout, DAY)

    assert list(surplus(layout, DAY, keep)) == goes
    prune(layout, DAY, keep)
    assert rollback(layout, DAY).run == "a"


def test_a_run_whose_rows_were_removed_is_still_not_published_again(layout: OutputLayout) -> None:
    stage_and_publish(layout, *"ab")
    prune(layout, DAY, 0)

    with pytest.raises(PublishConflictError, match="run a was published and replaced since"):
        publish(layout, DAY, "a")
    with pytest.raises(BadInputError, match="run b is the only version"):
        rollback(layout, DAY)


def test_the_runs_of_a_cut_off_rollback_stay(layout: OutputLayout) -> None:
    stage_and_publish(layout, *"abc")
    move = Move.now(ROLLED_BACK, "a", "c", "ann")
    entry = {name: value for name, value in vars(move).items() if name != "replaced"}
    write_json(layout.journal(DAY), {**entry, "replaces": "c"})

    assert surplus(layout, DAY, 0) == ("b",)
    assert prune(layout, DAY, 0) == ("b",)


def test_a_day_without_a_history(layout: OutputLayout) -> None:
    assert prune(layout, DAY, 0) == ()
    assert not layout.root.exists()


@pytest.mark.parametrize("keep", [-1, 1.5, float("nan"), float("inf")])
def test_so_many_cannot_stay(layout: OutputLayout, keep: float) -> None:
    with pytest.raises(BadInputError, match="a history cannot keep .* versions; give 0, 1, 2"):
        prune(layout, DAY, keep)  # type: ignore[arg-type]


def test_a_crash_at_any_step_leaves_whole_versions_and_is_finished_by_the_next_try(tmp_path: Path) -> None:
    for step in range(MANY):
        layout = OutputLayout(tmp_path / str(step))
        stage_and_publish(layout, *"abc")
        crashed = killed_at(step, layout.root, lambda layout=layout: prune(layout, DAY, 0))
        for run in kept(layout, DAY):
            parts = {part: run_in(layout.history(DAY, run) / part) for part in ("predictions", "quarantine")}
            assert parts == {"predictions": run, "quarantine": run}, "no half version is offered"

        prune(layout, DAY, 0)

        assert kept(layout, DAY) == ()
        assert published_run(layout, DAY) == run_in(layout.published(DAY)) == "c"
        assert sorted(move.run for move in moves(layout, DAY) if move.action == REMOVED) == ["a", "b"]
        assert not list((layout.root / "_history" / "discarded").rglob("*.parquet"))
        if not crashed:
            break
    assert step >= 15


def test_what_the_system_refuses_is_said(layout: OutputLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_and_publish(layout, *"ab")

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(PublishError, match="the history of 2026-01-01 is not pruned yet: .*: Permission denied"):
        prune(layout, DAY, 0)


def test_the_command_prunes_all_partitions(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    stage_and_publish(layout, *"abc")
    stage_and_publish(layout, *"xyz", partition="2026-01-02")
    stage_and_publish(layout, "only", partition="2026-01-03")
    before = tree(layout.root)

    assert main([str(layout.root), "--keep", "1", "--dry-run"]) == 0
    assert capsys.readouterr().out == "2026-01-01  a  0.0 MB\n2026-01-02  x  0.0 MB\nwould be removed: 2\n"
    assert tree(layout.root) == before

    assert main([str(layout.root), "--keep", "1", "--partition", "2026-01-02"]) == 0
    assert capsys.readouterr().out == "2026-01-02  x  0.0 MB\nremoved: 1\n"
    assert main([str(layout.root), "--keep", "1"]) == 0
    assert capsys.readouterr().out == "2026-01-01  a  0.0 MB\nremoved: 1\n"
    assert moves(layout, DAY)[-1].by.count("@") == 1


def test_the_command_says_what_cannot_be(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(layout.root), "--keep", "1"]) == 1
    assert "is no folder" in capsys.readouterr().err
    stage_and_publish(layout, *"ab")
    assert main([str(layout.root), "--keep", "-1"]) == 1
    assert "cannot keep -1 versions" in capsys.readouterr().err
    assert main([str(layout.root), "--keep", "1", "--partition", "../up"]) == 1
    with pytest.raises(SystemExit, match="2"):
        main([str(layout.root)])


def test_retention_between_publishings(layout: OutputLayout) -> None:
    """As the publish task does it: each publishing is followed by a pruning."""
    for run in "abcdef":
        stage(layout, run)
        publish(layout, DAY, run)
        prune(layout, DAY, 2)

    assert kept(layout, DAY) == ("d", "e")
    assert [rollback(layout, DAY).run for _ in range(2)] == ["e", "d"]
    assert [move.run for move in moves(layout, DAY) if move.action == PUBLISHED] == list("abcdef")
