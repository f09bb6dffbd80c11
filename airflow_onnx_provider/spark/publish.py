"""From staging to published in journaled renames: a crash in between is finished by the next try.

Of two runs of one day the first to be published wins. The other was based on rows that readers no longer see, so it is
refused: compare, then swap.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import PublishConflictError, PublishError, SparkJobError
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import read_state

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: fcntl.h, fs.h
CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Published:
    """What a call of :func:`publish` led to.

    :param run: the run that is now published
    :param replaced: the run that was there before and is kept in the history, or None
    :param changed: False if the run had been published already
    """

    run: str
    replaced: str | None
    changed: bool


def publish(layout: OutputLayout, partition: str, run: str) -> Published:
    """Make the staged ``run`` the published ``partition``; the version that it replaces goes to the history.

    The steps are idempotent and written down first, so that this call finishes what an earlier one began. Where the
    file system can exchange two folders, the published one is never absent. Between the renames there may be no
    quarantine, but never that of another run. Staged runs that can be published no more are removed.

    :raises PublishConflictError: if a run was published that this one was not based on
    :raises PublishError: if the run has neither been staged nor published, or the system refuses a step: the next
        try goes on from there
    """
    try:
        with _locked(layout, partition):
            return _publish(layout, partition, run)
    except OSError as error:
        raise PublishError(
            f"run {run} is not published yet: {error.filename2 or error.filename or layout.root}: "
            f"{error.strerror or error}. No row is lost, and readers never see half of a run; once that is mended, "
            "the next try goes on from this step."
        ) from error


def _publish(layout: OutputLayout, partition: str, run: str) -> Published:
    finished = _finish_interrupted(layout, partition)
    if finished and finished.run == run:
        return finished
    current = published_run(layout, partition)
    if current == run:
        return Published(run, None, changed=False)
    staging = layout.staging(run)
    require_base(layout, partition, run)
    if not all((staging / part).is_dir() for part in ("predictions", "quarantine")):
        raise PublishError(f"run {run} is not staged below {layout.root}. Run the inference task again.")
    if (_state(layout, run) or {}).get("state") != "finished":
        raise PublishError(f"run {run} did not finish: see {layout.run_manifest(run)}. Run the inference task again.")
    foreign = layout.published(partition) if layout.published(partition).exists() else layout.quarantine(partition)
    if current is None and foreign.exists():
        raise PublishError(
            f"{foreign} belongs to no published run of this provider (there is no {RUN_FILE} in "
            f"{layout.published(partition)}); move it away, or choose another output folder"
        )
    shutil.copyfile(layout.run_manifest(run), staging / "predictions" / RUN_FILE)
    write_json(layout.journal(partition), {"run": run, "replaces": current})
    _carry_out(layout, partition, run, current)
    return Published(run, current, changed=True)


def published_run(layout: OutputLayout, partition: str) -> str | None:
    """The run whose rows readers see, or None."""
    return _run_of(layout.published(partition) / RUN_FILE)


def base_run(layout: OutputLayout, partition: str) -> str | None:
    """What a run that begins now is based on: the published run, or the one whose publishing was cut off."""
    return _run_of(layout.journal(partition)) or published_run(layout, partition)


def require_base(layout: OutputLayout, partition: str, run: str) -> None:
    """Make sure that no run was published that ``run`` does not know of.

    Runs whose manifest does not say what they are based on may replace any.

    :raises PublishConflictError: otherwise, naming both
    """
    current = published_run(layout, partition)
    base = (_state(layout, run) or {}).get("replaces", current)
    if current in (None, run):
        return
    if layout.history(partition, run).exists():
        happened = f"was published and replaced since; run {current} of {partition} is published now"
    elif current != base:
        known = f"run {base}" if base else "an empty partition"
        happened = f"was based on {known}, but run {current} of {partition} was published meanwhile"
    else:
        return
    raise PublishConflictError(
        f"run {run} {happened}. The published rows in {layout.published(partition)} are untouched; clear the "
        f"inference task to run the day again on top of run {current}."
    )


def _run_of(file: Path) -> str | None:
    try:
        return str(json.loads(file.read_bytes())["run"])
    except FileNotFoundError:
        return None


def _state(layout: OutputLayout, run: str) -> dict[str, Any] | None:
    """What a run's manifest says, None if it may still be running. One that cannot be read tells nothing."""
    try:
        return read_state(layout.run_manifest(run))
    except SparkJobError:
        return None


@contextmanager
def _locked(layout: OutputLayout, partition: str) -> Iterator[None]:
    """Let one process at a time publish a partition; the lock goes with the process that holds it."""
    path = layout.journal(partition).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _finish_interrupted(layout: OutputLayout, partition: str) -> Published | None:
    try:
        entry = json.loads(layout.journal(partition).read_bytes())
    except FileNotFoundError:
        return None
    _carry_out(layout, partition, entry["run"], entry["replaces"])
    return Published(entry["run"], entry["replaces"], changed=True)


def _carry_out(layout: OutputLayout, partition: str, run: str, replaces: str | None) -> None:
    """Every step looks whether it was done before, so the sequence can start again after a crash at any point."""
    published, quarantine = layout.published(partition), layout.quarantine(partition)
    staging = layout.staging(run)
    predictions = staging / "predictions"
    if replaces is not None:
        history = layout.history(partition, replaces)
        # The quarantine moves first: once the new predictions are in place, nothing may tell the old one from the new.
        if (staging / "quarantine").is_dir():
            _move(quarantine, history / "quarantine")
        begin = predictions.is_dir() and published_run(layout, partition) == replaces
        if begin and not _exchange(predictions, published):
            _move(published, history / "predictions")
        if published_run(layout, partition) == run:
            _move(predictions, history / "predictions")  # after an exchange, the old rows
    _move(predictions, published)
    _move(staging / "quarantine", quarantine)
    shutil.rmtree(staging, ignore_errors=True)
    for left in _superseded(layout, partition, run):
        shutil.rmtree(left, ignore_errors=True)
    layout.journal(partition).unlink(missing_ok=True)


def _superseded(layout: OutputLayout, partition: str, current: str) -> Iterator[Path]:
    """Staging of the partition's runs that have ended, by failing or because another one was published."""
    for folder in layout.staging(current).parent.glob("*"):
        state = _state(layout, folder.name) or {}
        ended = state.get("state") == "failed" or state.get("replaces", current) != current
        if state.get("partition") == partition and ended:
            yield folder


def _move(source: Path, target: Path) -> None:
    """Rename a folder, unless an earlier try has done so."""
    if not source.is_dir():
        return
    if target.exists():
        raise PublishError(f"cannot move {source} to {target}: something is there that no run put there; move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step, so that neither is ever absent.

    :return: False where the system or the file system cannot: nothing has changed then
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    reason = ctypes.get_errno()
    if reason in CANNOT_EXCHANGE:
        return False
    raise OSError(reason, os.strerror(reason), str(one), None, str(other))
