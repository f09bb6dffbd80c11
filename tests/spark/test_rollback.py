# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.spark import swap
from airflow_onnx_provider.spark.history import PUBLISHED, ROLLED_BACK, kept, moves, way_back
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import Published, base_run, publish, published_run
from airflow_onnx_provider.spark.rollback import RolledBack, main, rollback
from tests.spark.crashes import fork, killed_at, outcome, wait_for
from tests.spark.staging import run_in, stage, stage_and_publish, tree

DAY = "2026-01-01"
MANY = 1000


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "output")


@pytest.fixture(params=["exchange", "two renames"])
def can_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """File systems that can exchange two folders, and those that cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(swap, "_exchange", lambda one, other: False)
    return request.param == "exchange"


@contextmanager
def a_failing_disk() -> Iterator[None]:
    """The quarantine has moved when the disk refuses to exchange the predictions."""

    def refuse(one: Path, other: Path) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(one))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swap, "_exchange", refuse)
        yield


def fingerprint(layout: OutputLayout) -> dict[str, tuple[str, int]]:
    """Every published and every quarantined file with its digest and its time of change."""
    folders = layout.published(DAY), layout.quarantine(DAY)
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(layout.root)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in files
    }


def log_of(layout: OutputLayout) -> list[tuple[str, str, str | None]]:
    return [(move.action, move.run, move.replaced) for move in moves(layout, DAY)]


def require_whole(layout: OutputLayout, shown: str, history: set[str]) -> None:
    """Readers see one run, each run of the history is whole, and nothing is half done."""
    assert published_run(layout, DAY) == shown
    assert run_in(layout.published(DAY)) == run_in(layout.quarantine(DAY)) == shown
    assert set(kept(layout, DAY)) == history
    for run in history:
        assert {run_in(layout.history(DAY, run) / part) for part in ("predictions", "quarantine")} == {run}
    assert {path.name for path in layout.history(DAY, "any").parent.glob("*")} == history, "no empty folder is left"
    assert not layout.journal(DAY).exists()


def test_a_rollback_brings_the_earlier_rows_back_byte_for_byte(layout: OutputLayout, can_exchange: bool) -> None:
    stage_and_publish(layout, "run-1")
    before = fingerprint(layout)
    assert len(before) == 5
    stage_and_publish(layout, "run-2")
    later = fingerprint(layout)
    assert later != before

    assert rollback(layout, DAY) == RolledBack(DAY, "run-1", "run-2", changed=True)

    assert fingerprint(layout) == before
    require_whole(layout, "run-1", {"run-2"})

    assert rollback(layout, DAY, "run-2") == RolledBack(DAY, "run-2", "run-1", changed=True), "and forward again"
    assert fingerprint(layout) == later
    require_whole(layout, "run-2", {"run-1"})


def test_a_second_rollback_goes_one_step_further_back(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2", "run-3")

    assert [rollback(layout, DAY).run, rollback(layout, DAY).run] == ["run-2", "run-1"]

    with pytest.raises(BadInputError) as refused:
        rollback(layout, DAY)
    assert str(refused.value).startswith(
        "run run-1 is the earliest version of 2026-01-01 that there is: no rollback goes further. Its history has run-"
    )
    require_whole(layout, "run-1", {"run-2", "run-3"})


def test_a_rollback_is_written_down(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")

    rollback(layout, DAY, by="ann@desk", reason="blue was called red")

    assert log_of(layout) == [
        (PUBLISHED, "run-1", None),
        (PUBLISHED, "run-2", "run-1"),
        (ROLLED_BACK, "run-1", "run-2"),
    ]
    last = moves(layout, DAY)[-1]
    assert (last.by, last.reason) == ("ann@desk", "blue was called red")


def test_a_named_run_that_is_published_already_changes_nothing(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    before = tree(layout.root)

    assert rollback(layout, DAY, "run-2") == RolledBack(DAY, "run-2", None, changed=False)
    assert tree(layout.root) == before


def test_versions_from_before_there_was_a_log_can_be_had_back(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    layout.history_log(DAY).unlink()

    assert rollback(layout, DAY).run == "run-1"
    require_whole(layout, "run-1", {"run-2"})


def test_other_days_are_untouched(layout: OutputLayout) -> None:
    stage_and_publish(layout, "other-1", "other-2", partition="2025-12-31")
    before = tree(layout.published("2025-12-31")), tree(layout.history("2025-12-31", "other-1"))
    stage_and_publish(layout, "run-1", "run-2")

    rollback(layout, DAY)

    assert (tree(layout.published("2025-12-31")), tree(layout.history("2025-12-31", "other-1"))) == before


# What follows a rollback


def test_the_run_that_was_rolled_back_is_not_published_by_its_own_task_again(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    rollback(layout, DAY, by="ann@desk", reason="blue was called red")
    at = moves(layout, DAY)[-1].at

    with pytest.raises(PublishConflictError) as refused:
        publish(layout, DAY, "run-2")

    assert str(refused.value) == (
        f"run run-2 was rolled back by ann@desk at {at}: blue was called red; run run-1 of 2026-01-01 is published "
        f"now. The published rows in {layout.published(DAY)} are untouched; clear the inference task to run the day "
        "again on top of run run-1."
    )
    require_whole(layout, "run-1", {"run-2"})


def test_a_new_run_on_top_of_the_restored_rows_is_published(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    rollback(layout, DAY)
    assert base_run(layout, DAY) == "run-1"
    stage(layout, "run-3")

    assert publish(layout, DAY, "run-3") == Published("run-3", "run-1", changed=True)

    require_whole(layout, "run-3", {"run-1", "run-2"})
    assert rollback(layout, DAY).run == "run-1", "not to what was rolled back"


def test_a_run_that_was_based_on_what_was_rolled_back_is_refused(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    stage(layout, "run-3")
    rollback(layout, DAY, by="ann@desk")

    with pytest.raises(PublishConflictError, match=r"based on run run-2, but run run-1 .* was rolled back to by ann@d"):
        publish(layout, DAY, "run-3")

    rollback(layout, DAY, "run-2")
    assert publish(layout, DAY, "run-3").changed, "what it was based on is back"


# What cannot be


def test_the_first_version_of_a_day_has_nothing_before(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    before = tree(layout.root)

    with pytest.raises(BadInputError) as refused:
        rollback(layout, DAY)

    assert not refused.value.retryable
    assert str(refused.value) == (
        "run run-1 is the only version of 2026-01-01 that there is: nothing to roll back to. Run the day again, and "
        "what is published then takes its place. If nobody may read its rows until then, move "
        f"{layout.published(DAY)} and {layout.quarantine(DAY)} out of {layout.root}."
    )
    assert tree(layout.root) == before


def test_a_day_that_is_not_published(layout: OutputLayout) -> None:
    with pytest.raises(BadInputError, match=r"2026-01-01 is not published below .*\. Partitions that are: none"):
        rollback(layout, DAY)
    assert not layout.root.exists(), "a mistyped folder is not made"

    stage_and_publish(layout, "run-1", partition="2025-12-31")
    with pytest.raises(BadInputError, match="Partitions that are: 1, from 2025-12-31 to 2025-12-31"):
        rollback(layout, DAY)


@pytest.mark.parametrize("run", ["run-9", "../../_runs", "", "."])
def test_a_run_that_is_not_in_the_history(layout: OutputLayout, run: str) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    before = tree(layout.root)

    with pytest.raises(BadInputError, match=r"is not in the history of 2026-01-01, which has run-1"):
        rollback(layout, DAY, run)
    assert tree(layout.root) == before


@pytest.mark.parametrize("lost", ["quarantine", "predictions/_run.json"])
def test_a_version_that_is_not_whole_is_refused(layout: OutputLayout, lost: str) -> None:
    stage_and_publish(layout, "run-0", "run-1", "run-2")
    (layout.history(DAY, "run-1") / lost).rename(layout.root / "_away")

    with pytest.raises(BadInputError, match=f"run-1 is not whole: it lacks {lost}. Restore it, or name .*: run-0"):
        rollback(layout, DAY)
    assert run_in(layout.published(DAY)) == run_in(layout.quarantine(DAY)) == "run-2"


# Crashes


def test_a_crash_at_any_step_shows_one_whole_run_and_is_finished_by_the_next_try(
    tmp_path: Path, can_exchange: bool
) -> None:
    for step in range(MANY):
        layout = OutputLayout(tmp_path / str(step))
        stage_and_publish(layout, "run-0", "run-1", "run-2")
        crashed = killed_at(step, layout.root, lambda layout=layout: rollback(layout, DAY))

        shown = published_run(layout, DAY)
        assert shown in (("run-1", "run-2") if can_exchange else ("run-1", "run-2", None))
        assert run_in(layout.published(DAY)) == shown
        assert run_in(layout.quarantine(DAY)) in (shown, None)

        if crashed and (shown != "run-1" or layout.journal(DAY).exists()):
            assert rollback(layout, DAY) == RolledBack(DAY, "run-1", "run-2", changed=True), f"one step, at {step}"
        require_whole(layout, "run-1", {"run-0", "run-2"})
        assert log_of(layout)[3:] == [(ROLLED_BACK, "run-1", "run-2")]
        if not crashed:
            break
    assert step >= 15


def test_a_publishing_finishes_the_rollback_that_was_cut_off_before_it(tmp_path: Path) -> None:
    bases = set()
    for step in range(MANY):
        layout = OutputLayout(tmp_path / str(step))
        stage_and_publish(layout, "run-1", "run-2")
        crashed = killed_at(step, layout.root, lambda layout=layout: rollback(layout, DAY))
        stage(layout, "run-3")
        base = base_run(layout, DAY)
        bases.add(base)

        assert publish(layout, DAY, "run-3") == Published("run-3", base, changed=True)

        require_whole(layout, "run-3", {"run-1", "run-2"})
        if not crashed:
            break
    assert bases == {"run-1", "run-2"}


def test_a_cut_off_publishing_is_finished_before_it_is_rolled_back(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1")
    stage(layout, "run-2")
    with a_failing_disk(), pytest.raises(PublishError):
        publish(layout, DAY, "run-2")

    assert rollback(layout, DAY) == RolledBack(DAY, "run-1", "run-2", changed=True)
    assert log_of(layout)[1:] == [(PUBLISHED, "run-2", "run-1"), (ROLLED_BACK, "run-1", "run-2")]


def test_a_step_that_the_system_refuses_is_said(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    with a_failing_disk(), pytest.raises(PublishError) as error:
        rollback(layout, DAY)

    assert error.value.retryable
    assert str(error.value).startswith("2026-01-01 is not rolled back yet: ")
    assert run_in(layout.published(DAY)) == "run-2"
    assert rollback(layout, DAY).run == "run-1"


def test_rows_that_somebody_took_away_in_between_are_missed(layout: OutputLayout) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    with a_failing_disk(), pytest.raises(PublishError):
        rollback(layout, DAY)
    (layout.history(DAY, "run-1") / "predictions").rename(layout.root / "_away")

    with pytest.raises(PublishError, match=r"run run-1 was to take its place .* but its rows are gone from .*run-1\."):
        rollback(layout, DAY)
    assert run_in(layout.published(DAY)) == "run-2"


# Whatever happens, in whatever order

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["publish", "back", "name"]),
        st.integers(0, 5),
        st.one_of(st.just(MANY), st.integers(0, 25)),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(MOVES)
@settings(max_examples=40, deadline=None)
def test_whatever_is_published_rolled_back_and_killed_no_version_is_lost(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    """Each step publishes a new run, goes back, or names a run, dies after so many changes of the disk or not."""
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        layout, staged = OutputLayout(Path(temporary)), {}
        real = swap._exchange
        for number, (what, choice, step, exchange) in enumerate(steps):
            patch.setattr(swap, "_exchange", real if exchange else lambda one, other: False)
            killed_at(step, layout.root, work(layout, what, number, choice, staged))
            shown = published_run(layout, DAY)
            assert run_in(layout.published(DAY)) == shown
            assert run_in(layout.quarantine(DAY)) in (shown, None)

        patch.setattr(swap, "_exchange", real)
        work(layout, "publish", len(steps), 0, staged)()

        shown = str(published_run(layout, DAY))
        assert shown == f"run-{len(steps)}"
        log = log_of(layout)
        require_whole(layout, shown, {run for _, run, _ in log} - {shown})
        assert [replaced for _, _, replaced in log] == [None, *(run for _, run, _ in log[:-1])], "one after the other"
        for run in {run for _, run, _ in log}:
            assert files_of(layout, run) == staged[run], "byte for byte"


def work(
    layout: OutputLayout, what: str, number: int, choice: int, staged: dict[str, dict[str, bytes]]
) -> Callable[[], object]:
    if what == "publish" or base_run(layout, DAY) is None:
        run = f"run-{number}"
        stage(layout, run)
        staged[run] = files_of(layout, run)
        return lambda: publish(layout, DAY, run)
    there = kept(layout, DAY)
    named = there[choice % len(there)] if there and what == "name" else None

    def roll_back() -> None:
        try:
            rollback(layout, DAY, named)
        except BadInputError:
            assert not way_back(layout, DAY, str(published_run(layout, DAY)))

    return roll_back


def files_of(layout: OutputLayout, run: str) -> dict[str, bytes]:
    """A version's rows wherever it is."""
    if published_run(layout, DAY) == run:
        folders = {"predictions": layout.published(DAY), "quarantine": layout.quarantine(DAY)}
    else:
        home = layout.history(DAY, run) if run in kept(layout, DAY) else layout.staging(run)
        folders = {part: home / part for part in ("predictions", "quarantine")}
    return {f"{part}/{name}": data for part, folder in folders.items() for name, data in tree(folder).items()} | {
        "predictions/_run.json": layout.run_manifest(run).read_bytes()
    }


def test_processes_that_publish_and_roll_back_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    for number in range(10):
        layout = OutputLayout(tmp_path / str(number))
        stage_and_publish(layout, "run-0", "run-1", "run-2")
        stage(layout, "run-3")
        ready, go = os.pipe()

        def begin(does: Callable[[], object], ready: int = ready) -> int:
            def wait_and_do() -> int:
                os.read(ready, 1)
                return outcome(does)

            return fork(wait_and_do)

        children = [
            begin(lambda layout=layout: publish(layout, DAY, "run-3")),
            begin(lambda layout=layout: rollback(layout, DAY, by="ann")),
            begin(lambda layout=layout: rollback(layout, DAY, by="ben")),
        ]
        os.write(go, b"now")
        published, *rolled_back = [wait_for(child) for child in children]
        os.close(ready)
        os.close(go)

        assert rolled_back == [0, 0], "there are two steps back"
        log = log_of(layout)
        assert [replaced for _, _, replaced in log] == [None, *(run for _, run, _ in log[:-1])]
        assert ((PUBLISHED, "run-3", "run-2") in log) == (published == 0)
        shown = log[-1][1]
        require_whole(layout, shown, {run for _, run, _ in log} - {shown})


# The command line


def test_the_command_rolls_back(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    stage_and_publish(layout, "run-1", "run-2")

    assert main([str(layout.root), DAY, "--reason", "too many reds"]) == 0

    assert capsys.readouterr().out == "2026-01-01 shows run run-1 again; run run-2 is kept in the history\n"
    last = moves(layout, DAY)[-1]
    assert last.reason == "too many reds"
    assert "@" in last.by

    assert main([str(layout.root), DAY, "--run", "run-1"]) == 0
    assert capsys.readouterr().out == "2026-01-01 shows run run-1 already\n"
    assert main([str(layout.root), DAY, "--run", "run-2"]) == 0
    assert published_run(layout, DAY) == "run-2"


def test_the_command_lists_what_readers_saw(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    stage_and_publish(layout, "run-1", "run-2")
    rollback(layout, DAY, by="ann@desk", reason="too many reds")
    times = [move.at[:19].replace("T", " ") for move in moves(layout, DAY)]
    before = tree(layout.root)

    assert main([str(layout.root), DAY, "--list"]) == 0

    assert capsys.readouterr().out == (
        "published  run-1\n"
        "kept       run-2\n"
        "back       nowhere\n"
        "\n"
        "when (UTC)           what         run    instead of  by        why\n"
        f"{times[0]}  published    run-1  -           -\n"
        f"{times[1]}  published    run-2  run-1       -\n"
        f"{times[2]}  rolled back  run-1  run-2       ann@desk  too many reds\n"
    )
    assert tree(layout.root) == before


def test_the_command_says_what_cannot_be(layout: OutputLayout, capsys: pytest.CaptureFixture[str]) -> None:
    stage_and_publish(layout, "run-1")

    assert main([str(layout.root), DAY]) == 1
    assert "nothing to roll back to" in capsys.readouterr().err
    assert main([str(layout.root), "../up", "--list"]) == 1
    assert "cannot name a partition" in capsys.readouterr().err
    assert main(["s3://bucket/predictions", DAY]) == 1
    assert "is a URL" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([])


def test_a_journal_tells_who_and_why(layout: OutputLayout) -> None:
    """What finishes a crash writes down who began it."""
    stage_and_publish(layout, "run-1", "run-2")
    with a_failing_disk(), pytest.raises(PublishError):
        rollback(layout, DAY, by="ann@desk", reason="why")
    assert json.loads(layout.journal(DAY).read_bytes())["by"] == "ann@desk"

    rollback(layout, DAY, by="ben@desk")

    assert [(move.by, move.reason) for move in moves(layout, DAY)][2:] == [("ann@desk", "why")]
