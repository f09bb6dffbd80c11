"""From staging to published in journaled renames: a crash in between is finished by the next try."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.runtime.manifest import write_json
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout


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

    The steps are idempotent and written down first, so that this call finishes what an earlier one began.

    :raises PublishError: if the run has neither been staged nor published
    """
    with _locked(layout, partition):
        return _publish(layout, partition, run)


def _publish(layout: OutputLayout, partition: str, run: str) -> Published:
    _finish_interrupted(layout, partition)
    current = published_run(layout, partition)
    if current == run:
        return Published(run, None, changed=False)
    staging = layout.staging(run)
    if not (staging / "predictions").is_dir():
        raise PublishError(
            f"run {run} is not staged below {layout.root}"
            + (" any more: it was published and replaced since" if layout.history(partition, run).exists() else "")
            + ". Run the inference task again."
        )
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
    try:
        return str(json.loads((layout.published(partition) / RUN_FILE).read_bytes())["run"])
    except FileNotFoundError:
        return None


@contextmanager
def _locked(layout: OutputLayout, partition: str) -> Iterator[None]:
    """Let one process at a time publish a partition; the lock goes with the process that holds it."""
    path = layout.journal(partition).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _finish_interrupted(layout: OutputLayout, partition: str) -> None:
    try:
        entry = json.loads(layout.journal(partition).read_bytes())
    except FileNotFoundError:
        return
    _carry_out(layout, partition, entry["run"], entry["replaces"])


def _carry_out(layout: OutputLayout, partition: str, run: str, replaces: str | None) -> None:
    """Every step looks whether it was done before, so the sequence can start again after a crash at any point."""
    staging, published, quarantine = layout.staging(run), layout.published(partition), layout.quarantine(partition)
    if replaces is not None:
        history = layout.history(partition, replaces)
        # The quarantine moves first: once the new predictions are in place, nothing may tell the old one from the new.
        if (staging / "quarantine").is_dir():
            _move(quarantine, history / "quarantine")
        if (staging / "predictions").is_dir():
            _move(published, history / "predictions")
    _move(staging / "predictions", published)
    _move(staging / "quarantine", quarantine)
    shutil.rmtree(staging, ignore_errors=True)
    layout.journal(partition).unlink(missing_ok=True)


def _move(source: Path, target: Path) -> None:
    """Rename a folder, unless an earlier try has done so."""
    if not source.is_dir():
        return
    if target.exists():
        raise PublishError(f"cannot move {source} to {target}: something is there that no run put there; move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
