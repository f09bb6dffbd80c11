# SPDX-License-Identifier: Apache-2.0
"""The output's disk is full in the middle of a job: one clear sentence, the old rows untouched, nothing left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider import OnnxProviderError
from tests.conftest import set_connection
from tests.faults.books import audit, snapshot, staged
from tests.faults.jobs import DAY, draw_quick_day, publish, running

pytestmark = [pytest.mark.spark, pytest.mark.faults]

ROOM = 24 * 1024
"""Bytes that are left on the full disk: enough to begin, too few to end."""


@pytest.fixture
def disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The output folder as a small disk of its own; the jobs run on this machine alone, which is quicker."""
    set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": "local[2]"})
    folder = home / "predictions"
    folder.mkdir()
    mounted = mount("-t", "tmpfs", "-o", "size=4m", "faults", str(folder))
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)


def fill(disk: Path) -> None:
    state = os.statvfs(disk)
    (disk / "_ballast").write_bytes(bytes(state.f_bavail * state.f_frsize - ROOM))


def test_a_full_disk_ends_the_run_and_leaves_the_day_as_it_was(
    home: Path, disk: Path, colour_model: str, context: dict[str, Any]
) -> None:
    keys = draw_quick_day(home / "catalog", rows=400)
    with running(home, colour_model, context) as job:
        first = job.finish()
    publish(first, context)
    before = snapshot(disk / f"ds={DAY}")
    fill(disk)

    with (
        running(home, colour_model, context, raw=["scores"]) as job,
        pytest.raises(OnnxProviderError, match="(?i)no space left on") as failure,
    ):
        job.finish()

    assert "\n" not in str(failure.value), "one sentence, no traceback"
    assert staged(disk) == []
    assert snapshot(disk / f"ds={DAY}") == before
    assert audit(disk, DAY, keys) == first["run"]

    assert mount("-o", "remount,size=64m", str(disk)).returncode == 0
    with running(home, colour_model, context) as job:
        second = job.finish()
    publish(second, context)
    assert audit(disk, DAY, keys) == second["run"]
