"""Trigger: wait for room on a cluster without a worker slot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.hooks.capacity.fit import Needs, describe
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook


def look(conn_id: str, needs: Needs) -> dict[str, Any]:
    """Whether the needs fit now: ``{"fits": bool, "seen": str, "free": {…}, "error": ""}``.

    A cluster that does not answer has no room, and ``seen`` says why.

    :raises BadInputError: if waiting cannot help
    """
    try:
        cluster = SparkClusterHook(conn_id).capacity()
    except OnnxProviderError as error:
        if not error.retryable:
            raise
        return {"fits": False, "seen": str(error), "free": {}, "error": ""}
    lacking = needs.lacking(cluster)
    return {
        "fits": not lacking,
        "seen": f"{describe(cluster)}: {lacking or 'enough'}",
        "free": {name: getattr(cluster, name) for name in ("master", "cores", "memory_mb", "gpus")},
        "error": "",
    }


class SparkCapacityTrigger(BaseTrigger):
    """Fires once: when the needs fit, when waiting cannot help, or when the waiting time is over.

    The event's payload is that of :func:`look`, with ``error`` set where waiting cannot help. The connection is looked
    up in the triggerer; of it, only the name is stored.

    :param conn_id: Spark connection
    :param needs: fields of :class:`~airflow_onnx_provider.hooks.capacity.fit.Needs`
    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(self, conn_id: str, needs: Mapping[str, int], poke_interval: float, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.needs = dict(needs)
        self.poke_interval = poke_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which the triggerer makes it anew."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "needs": self.needs,
                "poke_interval": self.poke_interval,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, sleep, look again; the cluster is asked in a thread, off the triggerer's event loop.

        That waiting cannot help must be said twice: an Airflow API that is away for a moment looks like a connection
        that does not exist.
        """
        said = ""
        while True:
            try:
                found = await asyncio.to_thread(look, self.conn_id, Needs(**self.needs))
            except OnnxProviderError as error:
                found = {"fits": False, "seen": "", "free": {}, "error": f"{type(error).__name__}: {error}"}
            if found["fits"] or (said and found["error"] == said) or time.time() >= self.deadline:
                yield TriggerEvent(found)  # type: ignore[no-untyped-call]
                return
            said = found["error"]
            self.log.info("%s", found["seen"] or said)
            await asyncio.sleep(min(self.poke_interval, max(0.1, self.deadline - time.time())))
