# SPDX-License-Identifier: Apache-2.0
"""One version of a partition takes the place of another in journaled renames: a crash in between is finished later."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark.history import PUBLISHED, Move, moment, record
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: fcntl.h, fs.h
CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def changing(layout: OutputLayout, partition: str, undone: str) -> Iterator[None]:
    """Let one process at a time change which versions a partition has; the lock goes with the process that holds it.

    :param undone: what is not done yet if the system refuses a step
    :raises PublishError: if it does
    """
    path = layout.journal(partition).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise PublishError(
            f"{undone}: {error.filename2 or error.filename or layout.root}: {error.strerror or error}. No row is "
            "lost, and readers never see half of a run; once that is mended, the next try goes on from this step."
        ) from error


def swap(layout: OutputLayout, partition: str, move: Move) -> None:
    """Let ``move.run`` take the place of ``move.replaced``, which goes to the history; then write the move down.

    A run to publish comes from staging, one to roll back to from the history, in both cases with its predictions and
    its quarantine. Where the file system can exchange two folders, the published one is never absent. Between the
    renames there may be no quarantine, but never that of another run. For callers that hold the partition's lock.

    :raises PublishError: if something lies where a version has to go
    """
    entry = {name: value for name, value in asdict(move).items() if name != "replaced"}
    write_json(layout.journal(partition), {**entry, "replaces": move.replaced})
    _carry_out(layout, partition, move)


def finish(layout: OutputLayout, partition: str) -> Move | None:
    """Finish the swap that a crash has cut off, if any. For callers that hold the partition's lock."""
    if move := interrupted(layout, partition):
        _carry_out(layout, partition, move)
    return move


def interrupted(layout: OutputLayout, partition: str) -> Move | None:
    """The swap that has begun and not ended."""
    try:
        entry = json.loads(layout.journal(partition).read_bytes())
    except FileNotFoundError:
        return None
    replaced = entry.pop("replaces")
    if "key" not in entry:  # of a time without a log
        return Move(PUBLISHED, entry["run"], replaced, "", None, moment(), key=entry["run"])
    return Move(replaced=replaced, **entry)


def run_of(file: Path) -> str | None:
    """The run that a published manifest or a journal names; None if there is none."""
    try:
        return str(json.loads(file.read_bytes())["run"])
    except FileNotFoundError:
        return None


def _carry_out(layout: OutputLayout, partition: str, move: Move) -> None:
    """Every step looks whether it was done before, so the sequence can start again after a crash at any point."""
    published, quarantine = layout.published(partition), layout.quarantine(partition)
    home = layout.staging(move.run) if move.action == PUBLISHED else layout.history(partition, move.run)
    predictions, shown = home / "predictions", published / RUN_FILE
    if move.replaced is not None:
        history = layout.history(partition, move.replaced)
        # The quarantine moves first: once the new predictions are in place, nothing may tell the old one from the new.
        if (home / "quarantine").is_dir():
            _move(quarantine, history / "quarantine")
        begin = predictions.is_dir() and run_of(shown) == move.replaced
        if begin and not _exchange(predictions, published):
            _move(published, history / "predictions")
        if run_of(shown) == move.run:
            _move(predictions, history / "predictions")  # after an exchange, the old rows
    _move(predictions, published)
    _move(home / "quarantine", quarantine)
    if run_of(shown) != move.run:
        raise PublishError(
            f"run {move.run} was to take its place in {published}, but its rows are gone from {home}. Put them back, "
            f"or remove {layout.journal(partition)} to give it up."
        )
    if move.action == PUBLISHED:
        shutil.rmtree(home, ignore_errors=True)
    else:
        with suppress(OSError):  # an earlier try has removed it, or somebody has put something there
            home.rmdir()
    record(layout, partition, move)
    layout.journal(partition).unlink(missing_ok=True)


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
