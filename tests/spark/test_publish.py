# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark import publish as publishing
from airflow_onnx_provider.spark import swap as swapping
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import Published, base_run, publish, published_run
from airflow_onnx_provider.spark.run_manifest import write_failure
from tests.spark import staging
from tests.spark.crashes import killed_at
from tests.spark.staging import run_in, tree

DAY = "2026-01-01"
MANY = 1000


def stage(layout: OutputLayout, run: str, partition: str = DAY, **told: Any) -> None:
    """Stage a run that is based on what is published now, unless ``told`` says otherwise."""
    staging.stage(layout, run, partition)
    tell(layout, run, **{"replaces": base_run(layout, partition), **told})


def tell(layout: OutputLayout, run: str, **told: Any) -> None:
    manifest = layout.run_manifest(run)
    write_json(manifest, {**json.loads(manifest.read_bytes()), **told})


def publish_and_crash(layout: OutputLayout, run: str, step: int) -> bool:
    """Publish in a process that is killed after ``step`` changes of the disk; False if it came to its end before."""
    return killed_at(step, layout.root, lambda: publish(layout, DAY, run))


def steps_of_a_replacement(tmp_path: Path) -> int:
    """How many changes of the disk the replacement of a published day takes."""
    for step in range(MANY):
        if not publish_and_crash(a_replacement(tmp_path / "counted" / str(step)), "run-2", step):
            return step
    raise AssertionError("publishing never ends")


def a_replacement(folder: Path) -> OutputLayout:
    """The run run-1 published, run-2 based on it and staged."""
    layout = OutputLayout(folder)
    stage(layout, "run-1")
    publish(layout, DAY, "run-1")
    stage(layout, "run-2")
    return layout


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


@pytest.fixture(params=["exchange", "two renames"])
def can_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bool:
    """File systems that can exchange two folders, and those that cannot."""
    if request.param == "exchange":
        require_exchange(tmp_path)
        return True
    monkeypatch.setattr(swapping, "_exchange", lambda one, other: False)
    return False


def require_exchange(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as one, tempfile.TemporaryDirectory(dir=tmp_path) as other:
        if not swapping._exchange(Path(one), Path(other)):
            pytest.skip("this file system cannot exchange two folders")


def test_first_run_of_a_day_becomes_visible(layout: OutputLayout) -> None:
    stage(layout, "run-1")

    assert publish(layout, DAY, "run-1") == Published("run-1", None, changed=True)

    require_complete(layout, "run-1", history=())
    assert layout.published_partitions() == [DAY]


def test_a_later_run_replaces_the_day_and_the_old_rows_stay_in_the_history(
    layout: OutputLayout, can_exchange: bool
) -> None:
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

    with pytest.raises(PublishConflictError, match="published and replaced since"):
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


def test_a_folder_that_appears_while_a_publishing_is_cut_off_is_left_alone(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    write_json(layout.journal(DAY), {"run": "run-1", "replaces": None})
    layout.published(DAY).mkdir(parents=True)
    (layout.published(DAY) / "part-0.parquet").write_bytes(b"somebody's")
    before = tree(layout.root)

    with pytest.raises(PublishError, match=r"something is there that no run put there; move it away"):
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


@pytest.mark.parametrize("state", [None, "failed"])
def test_a_run_that_did_not_finish_is_not_published(layout: OutputLayout, state: str | None) -> None:
    stage(layout, "run-1")
    if state:
        tell(layout, "run-1", state=state)
    else:
        layout.run_manifest("run-1").unlink()

    with pytest.raises(PublishError, match=r"run-1 did not finish: see .*run-1\.json"):
        publish(layout, DAY, "run-1")
    assert not layout.published(DAY).exists()


# Two runs of one day


@pytest.mark.parametrize("base", ["run-0", None])
def test_of_two_runs_with_one_base_the_second_to_publish_is_refused(layout: OutputLayout, base: str | None) -> None:
    if base:
        stage(layout, base)
        publish(layout, DAY, base)
    stage(layout, "run-1")
    stage(layout, "run-2")
    publish(layout, DAY, "run-1")
    before = tree(layout.root)

    with pytest.raises(PublishConflictError) as refused:
        publish(layout, DAY, "run-2")

    assert tree(layout.root) == before
    assert not refused.value.retryable
    assert str(refused.value) == (
        f"run run-2 was based on {'run run-0' if base else 'an empty partition'}, but run run-1 of 2026-01-01 was "
        f"published meanwhile. The published rows in {layout.published(DAY)} are untouched; clear the inference task "
        "to run the day again on top of run run-1."
    )


def test_a_run_on_top_of_the_winner_is_published(layout: OutputLayout) -> None:
    stage(layout, "run-1")
    stage(layout, "run-2")
    publish(layout, DAY, "run-1")
    stage(layout, "run-3")

    assert publish(layout, DAY, "run-3").replaced == "run-1"
    require_complete(layout, "run-3", history=("run-1",))


def test_a_day_that_somebody_removed_meanwhile_is_no_conflict(layout: OutputLayout) -> None:
    a_replacement(layout.root)
    for folder in (layout.published(DAY), layout.quarantine(DAY)):
        folder.rename(layout.root / f"_away-{folder.parent.name}")

    assert publish(layout, DAY, "run-2").changed


def test_a_manifest_that_does_not_say_what_it_is_based_on_replaces_any_run(layout: OutputLayout) -> None:
    stage(layout, "run-old")
    manifest = json.loads(layout.run_manifest("run-old").read_bytes())
    del manifest["replaces"]
    write_json(layout.run_manifest("run-old"), manifest)
    stage(layout, "run-1")
    publish(layout, DAY, "run-1")

    assert publish(layout, DAY, "run-old").replaced == "run-1"


def test_a_run_that_begins_after_a_crash_is_based_on_the_run_that_will_be_finished_first(tmp_path: Path) -> None:
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = a_replacement(tmp_path / str(step))
        publish_and_crash(layout, "run-2", step)
        stage(layout, "run-3")

        assert (
            publish(layout, DAY, "run-3").replaced == json.loads(layout.run_manifest("run-3").read_bytes())["replaces"]
        )


def test_of_two_processes_that_publish_at_once_exactly_one_wins(tmp_path: Path) -> None:
    for round_ in range(10):
        layout = a_replacement(tmp_path / str(round_))
        stage(layout, "run-3")
        ready, go = os.pipe()
        children = {}
        for run in ("run-2", "run-3"):
            if not (child := os.fork()):
                code = 99
                try:
                    os.read(ready, 1)
                    publish(layout, DAY, run)
                    code = 0
                except PublishConflictError:
                    code = 4
                finally:
                    os._exit(code)
            children[run] = child
        os.write(go, b"go")
        ended = {run: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for run, child in children.items()}
        os.close(ready)
        os.close(go)

        assert sorted(ended.values()) == [0, 4]
        require_complete(layout, next(run for run, code in ended.items() if code == 0), history=("run-1",))


def test_staging_that_can_be_published_no_more_is_removed(layout: OutputLayout) -> None:
    stage(layout, "lost")
    stage(layout, f"{DAY}-failed")
    write_failure(layout.run_manifest(f"{DAY}-failed"), DAY, BadInputError("no"))
    stage(layout, "other-day", "2025-12-31")
    stage(layout, "running")
    layout.run_manifest("running").unlink()
    stage(layout, "broken")
    layout.run_manifest("broken").write_text("no JSON")
    stage(layout, "run-1")
    stage(layout, "next", replaces="run-1")

    publish(layout, DAY, "run-1")

    left = {path.name for path in layout.staging("any").parent.glob("*")}
    assert left == {"other-day", "running", "broken", "next"}
    with pytest.raises(PublishConflictError, match="run lost was based on an empty partition, but run run-1"):
        publish(layout, DAY, "lost")


# What the system refuses


def test_a_full_disk_leaves_readers_alone_and_the_next_try_finishes(tmp_path: Path) -> None:
    """The copy of the manifest meets a device without space, as the kernel offers one."""
    layout = a_replacement(tmp_path)
    full = layout.staging("run-2") / "predictions" / "_run.json"
    full.symlink_to("/dev/full")
    before = tree(layout.published(DAY)), tree(layout.quarantine(DAY))

    with pytest.raises(PublishError, match=f"run-2 is not published yet: {tmp_path}.*: No space left") as refused:
        publish(layout, DAY, "run-2")

    assert refused.value.retryable
    assert (tree(layout.published(DAY)), tree(layout.quarantine(DAY))) == before
    full.unlink()
    assert publish(layout, DAY, "run-2").changed
    require_complete(layout, "run-2", history=("run-1",))


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_whatever_step_the_system_refuses_the_next_try_finishes(tmp_path: Path, reason: int) -> None:
    for step in range(MANY):
        layout = a_replacement(tmp_path / str(step))
        if not refuse_at(step, layout, reason):
            break
        assert published_run(layout, DAY) in ("run-1", "run-2")
        assert run_in(layout.quarantine(DAY)) in (published_run(layout, DAY), None)

        publish(layout, DAY, "run-2")

        require_complete(layout, "run-2", history=("run-1",))
    assert step >= 5


def refuse_at(step: int, layout: OutputLayout, reason: int) -> bool:
    """Publish run-2 where the system refuses one step with this reason; False if there is no such step."""
    left = step

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == -1:
                raise OSError(reason, os.strerror(reason), str(args[0]))
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "mkdir"), (swapping, "_exchange")):
            patch.setattr(owner, name, refusing(getattr(owner, name)))
        patch.setattr(publishing.shutil, "copyfile", refusing(publishing.shutil.copyfile))
        try:
            publish(layout, DAY, "run-2")
        except PublishError as error:
            assert os.strerror(reason) in str(error)  # noqa: PT017
            assert str(layout.root) in str(error)  # noqa: PT017
            return True
    return False


# Killed at any step


def test_a_crash_at_any_step_of_the_first_publishing_is_finished_by_the_next_try(tmp_path: Path) -> None:
    for step in range(MANY):
        layout = OutputLayout(tmp_path / str(step))
        stage(layout, "run-1")
        crashed = publish_and_crash(layout, "run-1", step)
        assert published_run(layout, DAY) in ("run-1", None)

        publish(layout, DAY, "run-1")

        require_complete(layout, "run-1", history=())
        if not crashed:
            break
    assert step >= 10  # copy, journal, two moves, and removals: the kills did reach them


def test_a_crash_at_any_step_of_a_replacement_shows_one_whole_run_and_is_finished_by_the_next_try(
    tmp_path: Path, can_exchange: bool
) -> None:
    for step in range(MANY):
        layout = a_replacement(tmp_path / str(step))
        rows = {run: whole(layout, run) for run in ("run-1", "run-2")}
        crashed = publish_and_crash(layout, "run-2", step)

        shown = published_run(layout, DAY)
        assert shown in (("run-1", "run-2") if can_exchange else ("run-1", "run-2", None))
        assert run_in(layout.published(DAY)) == shown
        assert run_in(layout.quarantine(DAY)) in (shown, None)

        assert publish(layout, DAY, "run-2").run == "run-2"

        require_complete(layout, "run-2", history=("run-1",))
        assert rows["run-1"] == tree(layout.history(DAY, "run-1"))
        assert rows["run-2"] == whole(layout, "run-2")
        if not crashed:
            break
    assert step >= 15


def whole(layout: OutputLayout, run: str) -> dict[str, bytes]:
    """A run's files with their bytes, published or staged; the copy of its manifest is no row of a staged run."""
    if published_run(layout, DAY) == run:
        parts = {"predictions": layout.published(DAY), "quarantine": layout.quarantine(DAY)}
    else:
        parts = {part: layout.staging(run) / part for part in ("predictions", "quarantine")}
    found = {f"{part}/{name}": data for part, folder in parts.items() for name, data in tree(folder).items()}
    return {**found, "predictions/_run.json": layout.run_manifest(run).read_bytes()}


def test_the_try_that_finishes_a_crash_says_what_was_replaced(tmp_path: Path) -> None:
    layout = a_replacement(tmp_path)
    write_json(layout.journal(DAY), {"run": "run-2", "replaces": "run-1"})
    (layout.staging("run-2") / "predictions" / "_run.json").write_bytes(layout.run_manifest("run-2").read_bytes())

    assert publish(layout, DAY, "run-2") == Published("run-2", "run-1", changed=True)


def test_a_new_run_after_a_crash_loses_no_run_that_was_visible(tmp_path: Path) -> None:
    left: set[str | None] = set()
    for step in range(steps_of_a_replacement(tmp_path)):
        layout = a_replacement(tmp_path / str(step))
        publish_and_crash(layout, "run-2", step)
        last = base_run(layout, DAY)
        left.add(last)

        stage(layout, "run-3")
        publish(layout, DAY, "run-3")

        assert published_run(layout, DAY) == "run-3"
        require_complete(layout, "run-3", history=("run-1", "run-2") if last == "run-2" else ("run-1",))
    assert left == {"run-1", "run-2"}, "crashes before and after the new run could be seen"


def test_a_reader_that_looks_all_the_time_always_finds_a_run(tmp_path: Path) -> None:
    require_exchange(tmp_path)
    layout = OutputLayout(tmp_path / "output")
    stage(layout, "run-0")
    publish(layout, DAY, "run-0")
    seen, done = {published_run(layout, DAY)}, threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(published_run(layout, DAY))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 40):
        stage(layout, f"run-{number}")
        publish(layout, DAY, f"run-{number}")
    done.set()
    reader.join()

    assert None not in seen


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 25)), min_size=1, max_size=8))
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
            except PublishConflictError:
                assert published_run(layout, DAY) != run
            seen |= {published_run(layout, DAY) or ""}
            assert run_in(layout.published(DAY)) == published_run(layout, DAY)
            assert run_in(layout.quarantine(DAY)) in (published_run(layout, DAY), None)

        stage(layout, "run-last")
        publish(layout, DAY, "run-last")

        kept = layout.history(DAY, "any").parent
        history = tuple(path.name for path in kept.glob("*"))
        assert seen - {"", "run-last"} <= set(history)
        require_complete(layout, "run-last", history)
