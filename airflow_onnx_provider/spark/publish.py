# SPDX-License-Identifier: Apache-2.0
"""From staging to published, in journaled renames (:mod:`~airflow_onnx_provider.spark.swap`).

Of two runs of one day the first to be published wins. The other was based on rows that readers no longer see, so it is
refused: compare, then swap.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import PublishConflictError, PublishError, SparkJobError
from airflow_onnx_provider.spark.history import PARTS, PUBLISHED, ROLLED_BACK, Move, last_move, moves
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import read_state
from airflow_onnx_provider.spark.swap import changing, finish, run_of, swap


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


def publish(layout: OutputLayout, partition: str, run: str, *, by: str = "", reason: str | None = None) -> Published:
    """Make the staged ``run`` the published ``partition``; the version that it replaces goes to the history.

    The steps are idempotent and written down first, so that this call finishes what an earlier one began. Staged runs
    that can be published no more are removed.

    :param by: who does it, for the log
    :param reason: for the log
    :raises PublishConflictError: if a run was published that this one was not based on
    :raises PublishError: if the run has neither been staged nor published, or the system refuses a step: the next
        try goes on from there
    """
    with changing(layout, partition, f"run {run} is not published yet"):
        published = _publish(layout, partition, run, by, reason)
        for left in _superseded(layout, partition, run):
            shutil.rmtree(left, ignore_errors=True)
    return published


def _publish(layout: OutputLayout, partition: str, run: str, by: str, reason: str | None) -> Published:
    finished = finish(layout, partition)
    if finished and (finished.action, finished.run) == (PUBLISHED, run):
        return Published(run, finished.replaced, changed=True)
    current = published_run(layout, partition)
    if current == run:
        return Published(run, None, changed=False)
    staging = layout.staging(run)
    require_base(layout, partition, run)
    if not all((staging / part).is_dir() for part in PARTS):
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
    swap(layout, partition, Move.now(PUBLISHED, run, current, by, reason))
    return Published(run, current, changed=True)


def published_run(layout: OutputLayout, partition: str) -> str | None:
    """The run whose rows readers see, or None."""
    return run_of(layout.published(partition) / RUN_FILE)


def base_run(layout: OutputLayout, partition: str) -> str | None:
    """What a run that begins now is based on: the published run, or the one whose publishing was cut off."""
    return run_of(layout.journal(partition)) or published_run(layout, partition)


def require_base(layout: OutputLayout, partition: str, run: str) -> None:
    """Make sure that no run was published that ``run`` does not know of, and that it was not published before.

    Runs whose manifest does not say what they are based on may replace any.

    :raises PublishConflictError: otherwise, naming both, and who rolled back if that was why
    """
    current = published_run(layout, partition)
    if current in (None, run):
        return
    base = (_state(layout, run) or {}).get("replaces", current)
    left = next((move for move in reversed(moves(layout, partition)) if move.replaced == run), None)
    if left or layout.history(partition, run).exists():
        ended = f"rolled back {left.author}" if left and left.action == ROLLED_BACK else "published and replaced since"
        happened = f"was {ended}; run {current} of {partition} is published now"
    elif current != base:
        known = f"run {base}" if base else "an empty partition"
        last = last_move(layout, partition)
        how = f"rolled back to {last.author}" if last and last.action == ROLLED_BACK else "published meanwhile"
        happened = f"was based on {known}, but run {current} of {partition} was {how}"
    else:
        return
    raise PublishConflictError(
        f"run {run} {happened}. The published rows in {layout.published(partition)} are untouched; clear the "
        f"inference task to run the day again on top of run {current}."
    )


def _state(layout: OutputLayout, run: str) -> dict[str, Any] | None:
    """What a run's manifest says, None if it may still be running. One that cannot be read tells nothing."""
    try:
        return read_state(layout.run_manifest(run))
    except SparkJobError:
        return None


def _superseded(layout: OutputLayout, partition: str, current: str) -> Iterator[Path]:
    """Staging of the partition's runs that have ended, by failing or because another one was published."""
    for folder in layout.staging(current).parent.glob("*"):
        state = _state(layout, folder.name) or {}
        ended = state.get("state") == "failed" or state.get("replaces", current) != current
        if state.get("partition") == partition and ended:
            yield folder
