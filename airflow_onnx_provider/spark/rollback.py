# SPDX-License-Identifier: Apache-2.0
"""Give a partition back the rows that it had before, byte for byte: as a function and as a command line.

``python -m airflow_onnx_provider.spark.rollback <output> <partition>`` is the whole of it.
"""

from __future__ import annotations

import argparse
import getpass
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.spark.history import PARTS, ROLLED_BACK, Move, kept, moves, way_back
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout, check_partition, local_path
from airflow_onnx_provider.spark.publish import base_run, published_run
from airflow_onnx_provider.spark.swap import changing, finish, swap

COMMAND = "python -m airflow_onnx_provider.spark.rollback"


@dataclass(frozen=True)
class RolledBack:
    """What a call of :func:`rollback` led to.

    :param run: the run that is now published
    :param replaced: the run that was left and is kept in the history; None if nothing was
    :param changed: False if the run was published already
    """

    partition: str
    run: str
    replaced: str | None
    changed: bool


def rollback(
    layout: OutputLayout, partition: str, run: str | None = None, *, by: str = "", reason: str | None = None
) -> RolledBack:
    """Let readers see an earlier version again: predictions, quarantine and manifest, the very same files.

    The version that is left goes to the history, so that naming its run brings it back. Only folders are renamed,
    journaled as in publishing: readers never see a mixture, and what a crash cuts off is finished by the next rollback
    or publishing of this partition.

    :param run: which; default: the one that the published run took the place of. A second rollback without a run goes
        one step further back, never to what was rolled back
    :param by: who does it, for the log
    :param reason: in words, for the log
    :raises BadInputError: if the partition is not published, there is nothing before, or the version is not whole or
        not in the history
    :raises PublishError: if the system refuses a step: the next try goes on from there
    """
    if base_run(layout, check_partition(partition)) is None:
        raise BadInputError(_nothing_published(layout, partition))
    with changing(layout, partition, f"{partition} is not rolled back yet"):
        finished = finish(layout, partition)
        if finished and finished.action == ROLLED_BACK and run in (None, finished.run):
            return RolledBack(partition, finished.run, finished.replaced, changed=True)
        current = published_run(layout, partition)
        if current is None:
            raise BadInputError(_nothing_published(layout, partition))
        if current == run:
            return RolledBack(partition, run, None, changed=False)
        target = _version(layout, partition, current, run)
        swap(layout, partition, Move.now(ROLLED_BACK, target, current, by, reason))
        return RolledBack(partition, target, current, changed=True)


def _version(layout: OutputLayout, partition: str, current: str, wanted: str | None) -> str:
    """The run to go back to, which is in the history and whole."""
    there, way = kept(layout, partition), way_back(layout, partition, current)
    if not there:
        raise BadInputError(
            f"run {current} is the only version of {partition} that there is: nothing to roll back to. Run the day "
            f"again, and what is published then takes its place. If nobody may read its rows until then, move "
            f"{layout.published(partition)} and {layout.quarantine(partition)} out of {layout.root}."
        )
    if wanted is None and not way:
        raise BadInputError(
            f"run {current} is the earliest version of {partition} that there is: no rollback goes further. Its "
            f"history has {', '.join(there)}; name the run that shall be published."
        )
    run = way[0] if wanted is None else wanted
    if run not in there:
        raise BadInputError(f"run {run} is not in the history of {partition}, which has {', '.join(there)}")
    version = layout.history(partition, run)
    missing = [part for part in (f"predictions/{RUN_FILE}", *PARTS) if not (version / part).exists()]
    if missing:
        raise BadInputError(
            f"{version} is not whole: it lacks {', '.join(missing)}. Restore it, or name another run: "
            f"{', '.join(other for other in there if other != run) or 'there is none'}"
        )
    return run


def _nothing_published(layout: OutputLayout, partition: str) -> str:
    days = layout.published_partitions()
    found = f"{len(days)}, from {days[0]} to {days[-1]}" if days else "none"
    return f"{partition} is not published below {layout.root}: nothing to roll back. Partitions that are: {found}"


def story(layout: OutputLayout, partition: str) -> str:
    """What readers of a partition saw, and what can be had back, as a table for people."""
    current = published_run(layout, partition)
    way = way_back(layout, partition, current) if current else ()
    lines = [
        f"published  {current or 'nothing'}",
        f"kept       {', '.join(kept(layout, partition)) or 'nothing'}",
        f"back       {' → '.join(way) or 'nowhere'}",
    ]
    head = ("when (UTC)", "what", "run", "instead of", "by", "why")
    rows = [
        (move.at[:19].replace("T", " "), move.action, move.run, move.replaced or "-", move.by or "-", move.reason or "")
        for move in moves(layout, partition)
    ]
    if rows:
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        cells = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))
        lines += ["", *cells]
    return "\n".join(lines)


def person() -> str:
    """Who is at the command line, as ``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description="Let readers see an earlier version of a partition again"
    )
    parser.add_argument("output", help="output folder, below which ds=<partition> lies")
    parser.add_argument("partition", help="such as 2026-01-31")
    parser.add_argument("--run", help="of the history; default: the one before; again: one step further back")
    parser.add_argument("--reason", help="for the log")
    parser.add_argument("--list", action="store_true", help="show what readers saw and what is kept; change nothing")
    given = parser.parse_args(arguments)
    try:
        layout = OutputLayout(local_path(given.output, "output"))
        if given.list:
            print(story(layout, check_partition(given.partition)))
            return 0
        done = rollback(layout, given.partition, given.run, by=person(), reason=given.reason)
    except OnnxProviderError as error:
        print(error, file=sys.stderr)
        return 1
    if done.changed:
        print(f"{done.partition} shows run {done.run} again; run {done.replaced} is kept in the history")
    else:
        print(f"{done.partition} shows run {done.run} already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
