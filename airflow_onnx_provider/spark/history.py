# SPDX-License-Identifier: Apache-2.0
"""What readers of a partition saw, one version after the other, and which of those versions are still there.

Each partition has a log, ``<output>/_history/log/ds=<partition>.jsonl``, to which every publishing, rollback and
removal adds one line. Versions from before there was a log are known by their folders.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout

PUBLISHED, ROLLED_BACK, REMOVED = "published", "rolled back", "removed"
PARTS = ("predictions", "quarantine")
"""The folders of a version, in staging and in the history."""


@dataclass(frozen=True)
class Move:
    """One line of a partition's log.

    :param action: ``published``, ``rolled back``, or ``removed`` (from the history)
    :param run: what readers see from here on, or what was removed
    :param replaced: what they saw before, None at first
    :param by: who did it, empty if unknown
    :param reason: in words, or None
    :param at: when, ISO 8601 in UTC, by the clock of whoever did it
    :param key: tells this move from every other, so that finishing it twice writes one line
    """

    action: str
    run: str
    replaced: str | None
    by: str
    reason: str | None
    at: str
    key: str

    @classmethod
    def now(cls, action: str, run: str, replaced: str | None, by: str, reason: str | None = None) -> Move:
        """A move that is made now."""
        return cls(action, run, replaced, by, reason, moment(), uuid.uuid4().hex[:12])

    @property
    def author(self) -> str:
        """Who, when and why, in words."""
        return f"by {self.by or 'somebody'} at {self.at}" + (f": {self.reason}" if self.reason else "")


def moment() -> str:
    """Now, as the log has it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def moves(layout: OutputLayout, partition: str) -> tuple[Move, ...]:
    """A partition's log, oldest first; a line that was cut off, and what is no move, is passed over."""
    try:
        lines = layout.history_log(partition).read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(move for move in map(_move, lines) if move)


def last_move(layout: OutputLayout, partition: str) -> Move | None:
    """What led to what readers see; None without a log."""
    shown = (move for move in reversed(moves(layout, partition)) if move.action != REMOVED)
    return next(shown, None)


def record(layout: OutputLayout, partition: str, move: Move) -> None:
    """Add a move to the log unless it is there. For callers that hold the partition's lock."""
    if any(move.key == earlier.key for earlier in moves(layout, partition)):
        return
    path = layout.history_log(partition)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(move)).encode() + b"\n"
    with path.open("ab") as file:
        if file.tell() and not path.read_bytes().endswith(b"\n"):
            line = b"\n" + line  # a crash cut the line before off
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def kept(layout: OutputLayout, partition: str) -> tuple[str, ...]:
    """The runs whose rows are in the history, the first to be published first."""
    versions = layout.history(partition, "any").parent.glob("*/predictions")
    return tuple(path.parent.name for path in sorted(versions, key=_published_at))


def way_back(layout: OutputLayout, partition: str, current: str) -> tuple[str, ...]:
    """The kept runs that rollbacks would lead to one after the other, the nearest first.

    A rollback leaves what it left, and all above it, out of the way: a second one goes further back. What is published
    or named later lies on top again.

    :param current: the run that is published
    """
    log = [move for move in moves(layout, partition) if move.action != REMOVED]
    there, logged = kept(layout, partition), {run for move in log for run in (move.replaced, move.run)}
    way = [run for run in there if run not in logged]  # from before there was a log
    for move in log:
        if move.replaced and move.replaced not in way:
            way.append(move.replaced)
        if move.action == ROLLED_BACK and move.run in way:
            way = way[: way.index(move.run) + 1]
        else:
            way = [*(run for run in way if run != move.run), move.run]
    below = way[: way.index(current)] if current in way else way
    return tuple(run for run in reversed(below) if run in there)


def _move(line: bytes) -> Move | None:
    try:
        data = json.loads(line)
        return Move(**{field.name: data[field.name] for field in fields(Move)})
    except (ValueError, KeyError, TypeError):
        return None


def _published_at(predictions: Path) -> tuple[int, str]:
    """When a version was published (its manifest was copied then, and renames keep the time); and its run."""
    try:
        return (predictions / RUN_FILE).stat().st_mtime_ns, predictions.parent.name
    except FileNotFoundError:
        return 0, predictions.parent.name
