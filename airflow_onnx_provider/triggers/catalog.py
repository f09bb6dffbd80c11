# SPDX-License-Identifier: Apache-2.0
"""Trigger: wait for a catalogue partition without a worker slot."""

from __future__ import annotations

import time
from pathlib import Path

from airflow_onnx_provider.spark.sources import readiness
from airflow_onnx_provider.triggers.waiting import Look, WaitingTrigger


def look(folder: str, marker: str | None, stable_seconds: float) -> Look:
    """Whether the partition is complete now; found are ``partition`` and ``folder``."""
    state = readiness(Path(folder), marker, stable_seconds, time.time())
    found = {"partition": Path(folder).name.removeprefix("ds="), "folder": folder}
    return Look(done=state.complete, seen=state.seen, found=found, error="")


class CatalogPartitionTrigger(WaitingTrigger):
    """Waits until the partition is complete.

    :param folder: of the partition
    :param marker: file name that completes it, or None to wait until it is quiet
    :param stable_seconds: quiet time that counts as complete
    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(
        self, folder: str, marker: str | None, stable_seconds: float, poke_interval: float, deadline: float
    ) -> None:
        super().__init__(poke_interval, deadline)
        self.folder = folder
        self.marker = marker
        self.stable_seconds = stable_seconds

    def look(self) -> Look:
        """List the folder."""
        return look(self.folder, self.marker, self.stable_seconds)
