from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import Published, publish, published_run
from tests.spark.staging import run_in, stage, tree

DAY = "2026-01-01"


class Crash(BaseException):
    """The process dies here."""


@contextmanager
def crash_at(step: int) -> Iterator[list[str]]:
    """Let ``step`` changes of the disk happen, then die before the next one; gives what happened so far."""
    done: list[str] = []
    places = [(Path, "rename"), (Path, "replace"), (Path, "unlink"), (shutil, "copyfile"), (shutil, "rmtree")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in places:
            real = getattr(owner, name)

            def counted(*args, _real=real, _name=name, **kwargs):
                if len(done) >= step:
                    raise Crash(_name)
                done.append(_name)
                return _real(*args, **kwargs)

            patch.setattr(owner, name, counted)
        yield done


def publish_and_crash(layout: OutputLayout, run: str, step: int) -> bool:
    """True if the publishing was cut off, False if it came to its end in ``step`` changes."""
    try:
        with crash_at(step):
            publish(layout, DAY, run)
    except Crash:
        return True
    return False


def require_complete(layout: OutputLayout, run: str, history: tuple[str, ...]) -> None:
    """``run`` is published whole, each run of ``history`` is kept whole, and nothing is left over."""
    assert published_run(layout, DAY) == run
    assert run_in(layout.published(DAY)) == run
    assert run_in(layout.quarantine(DAY)) == run
    for earlier in history:
        assert run_in(layout.history(DAY, earlier) / "predictions") == earlier
        assert run_in(layout.history(DAY, earlier) / "quarantine") == earlier
    kept = layout.history(DAY, "any").parent
    assert sorted(path.name for path in kept.glob("*")) == sorted(history)
    assert not layout.staging(run).exists()
    assert not layout.journal(DAY).exists()


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "output")


def test_first_run_of_a_day_becomes_visible(layout: OutputLayout) -> None:
    stage(layout, "run-1")

    assert publish(layout, DAY, "run-1") == Published("run-1", None, changed=True)

    require_complete(layout, "run-1", history=())
    assert layout.published_partitions() == [DAY]


def test_a_later_run_replaces_the_day_and_the_old_rows_stay_in_the_history(layout: OutputLayout) -> None:
    for run in ("run-1", "run-2"):
        stage(layout, run)
        result = publish(layout, DAY, run)

    assert result == Published("run-2", "run-1", changed=True)
    require_complete(layout, "run-2", history=("run-1",))


def test_publishing_twice_changes_nothing(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    publish(layout, DAY, "run-1")
    before = tree(layout.root)

    assert publish(layout, DAY, "run-1") == Published("run-1", None, changed=False)
    assert tree(layout.root) == before


def test_other_days_are_untouched(layout: OutputLayout) -> None:
    stage(layout, "run-1", "2025-12-31")
    publish(layout, "2025-12-31", "run-1")
    before = tree(layout.published("2025-12-31"))

    stage(layout, "run-2")
    publish(layout, DAY, "run-2")

    assert tree(layout.published("2025-12-31")) == before
    assert run_in(layout.quarantine("2025-12-31")) == "run-1"


def test_a_run_that_nobody_staged_is_refused(layout: OutputLayout) -> None:
    with pytest.raises(PublishError, match=r"run run-9 is not staged .* Run the inference task again"):
        publish(layout, DAY, "run-9")


def test_a_run_that_was_replaced_since_is_refused_and_said_to_be(layout: OutputLayout) -> None:
    for run in ("run-1", "run-2"):
        stage(layout, run)
        publish(layout, DAY, run)

    with pytest.raises(PublishError, match="published and replaced since"):
        publish(layout, DAY, "run-1")
    require_complete(layout, "run-2", history=("run-1",))


def test_a_folder_that_is_not_ours_is_left_alone(layout: OutputLayout) -> None:
    foreign = layout.published(DAY)
    foreign.mkdir(parents=True)
    (foreign / "part-0.parquet").write_bytes(b"somebody's")
    stage(layout, "run-1")
    before = tree(layout.root)

    with pytest.raises(PublishError, match=r"belongs to no published run of this provider"):
        publish(layout, DAY, "run-1")

    assert tree(layout.root) == before


def test_a_quarantine_that_is_not_ours_stops_the_day_before_anything_is_visible(layout: OutputLayout) -> None:
    foreign = layout.quarantine(DAY)
    foreign.mkdir(parents=True)
    (foreign / "part-0.parquet").write_bytes(b"somebody's")
    stage(layout, "run-1")
    before = tree(layout.root)

    with pytest.raises(PublishError, match="move it away"):
        publish(layout, DAY, "run-1")

    assert tree(layout.root) == before


def test_a_run_without_a_manifest_is_not_published(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    layout.run_manifest("run-1").unlink()

    with pytest.raises((PublishError, FileNotFoundError), match=r"run-1"):
        publish(layout, DAY, "run-1")
    assert not layout.published(DAY).exists()


def steps_of_a_replacement(tmp_path: Path) -> int:
    """How many changes of the disk the replacement of a published day takes."""
    layout = OutputLayout(tmp_path / "counted")
    stage(layout, "run-1")
    publish(layout, DAY, "run-1")
    stage(layout, "run-2")
    with crash_at(1000) as done:
        publish(layout, DAY, "run-2")
    return len(done)


def test_a_crash_at_any_step_of_the_first_publishing_is_finished_by_the_next_try(tmp_path: Path) -> None:
    step = 0
    while True:
        layout = OutputLayout(tmp_path / str(step))
        stage(layout, "run-1")
        crashed = publish_and_crash(layout, "run-1", step)

        publish(layout, DAY, "run-1")

        require_complete(layout, "run-1", history=())
        if not crashed:
            break
        step += 1
    assert step >= 5  # copy, journal, two moves, two removals: the fault injection did reach them


def test_a_crash_at_any_step_of_a_replacement_is_finished_by_the_next_try(tmp_path: Path) -> None:
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = OutputLayout(tmp_path / str(step))
        stage(layout, "run-1")
        publish(layout, DAY, "run-1")
        stage(layout, "run-2")
        assert publish_and_crash(layout, "run-2", step)

        publish(layout, DAY, "run-2")

        require_complete(layout, "run-2", history=("run-1",))


def test_after_a_crash_readers_see_one_whole_run_or_nothing(tmp_path: Path) -> None:
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = OutputLayout(tmp_path / str(step))
        stage(layout, "run-1")
        publish(layout, DAY, "run-1")
        stage(layout, "run-2")
        publish_and_crash(layout, "run-2", step)

        assert run_in(layout.published(DAY)) == published_run(layout, DAY)
        assert published_run(layout, DAY) in ("run-1", "run-2", None)
        assert run_in(layout.quarantine(DAY)) in (published_run(layout, DAY), None)


def test_a_new_run_after_a_crash_loses_no_run_that_was_visible(tmp_path: Path) -> None:
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = OutputLayout(tmp_path / str(step))
        stage(layout, "run-1")
        publish(layout, DAY, "run-1")
        stage(layout, "run-2")
        publish_and_crash(layout, "run-2", step)
        began = layout.journal(DAY).exists() or published_run(layout, DAY) == "run-2"

        stage(layout, "run-3")
        publish(layout, DAY, "run-3")

        require_complete(layout, "run-3", history=("run-1", "run-2") if began else ("run-1",))


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 12)), min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_whatever_crashes_in_whatever_order_the_last_run_ends_up_published_whole(tries: list[tuple[int, int]]) -> None:
    """Runs are tried in any order, each try dies after some steps or not; the last one is then tried to its end."""
    with tempfile.TemporaryDirectory() as temporary:
        layout = OutputLayout(Path(temporary))
        seen: set[str] = set()
        for number, step in tries:
            run = f"run-{number}"
            if not layout.run_manifest(run).exists():
                stage(layout, run)
            try:
                publish_and_crash(layout, run, step)
            except PublishError:
                assert layout.history(DAY, run).exists()  # only a run that was replaced since can be refused
            seen |= {published_run(layout, DAY) or ""}
            assert run_in(layout.published(DAY)) == published_run(layout, DAY)
            assert run_in(layout.quarantine(DAY)) in (published_run(layout, DAY), None)

        stage(layout, "run-last")
        publish(layout, DAY, "run-last")

        kept = layout.history(DAY, "any").parent
        history = tuple(path.name for path in kept.glob("*"))
        assert seen - {"", "run-last"} <= set(history)
        require_complete(layout, "run-last", history)
