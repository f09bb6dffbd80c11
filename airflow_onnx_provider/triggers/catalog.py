"""Trigger: wait for a catalogue partition without a worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_onnx_provider.spark.sources import readiness


class CatalogPartitionTrigger(BaseTrigger):
    """Fires once: when the partition is complete, or when the waiting time is over.

    The event's payload is ``{"complete": bool, "seen": str}``.

    :param folder: of the partition
    :param marker: file name that completes it, or None to wait until it is quiet
    :param stable_seconds: quiet time that counts as complete
    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(
        self, folder: str, marker: str | None, stable_seconds: float, poke_interval: float, deadline: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.folder = folder
        self.marker = marker
        self.stable_seconds = stable_seconds
        self.poke_interval = poke_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which the triggerer makes it anew."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "folder": self.folder,
                "marker": self.marker,
                "stable_seconds": self.stable_seconds,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, sleep, look again; listing a folder happens in a thread, off the triggerer's event loop."""
        while True:
            state = await asyncio.to_thread(readiness, Path(self.folder), self.marker, self.stable_seconds, time.time())
            if state.complete or time.time() >= self.deadline:
                event = {"complete": state.complete, "seen": state.seen}
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(min(self.poke_interval, max(0.1, self.deadline - time.time())))
