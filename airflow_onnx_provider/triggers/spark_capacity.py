# SPDX-License-Identifier: Apache-2.0
"""Trigger: wait for room on a cluster without a worker slot."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_onnx_provider.hooks.capacity.fit import Needs, describe
from airflow_onnx_provider.hooks.spark_cluster import SparkClusterHook
from airflow_onnx_provider.triggers.waiting import Look, WaitingTrigger


def look(conn_id: str, needs: Needs) -> Look:
    """Whether the needs fit now; found are ``master``, ``cores``, ``memory_mb`` and ``gpus``: what is free.

    :raises BadInputError: if waiting cannot help
    :raises OnnxProviderError: if the cluster does not answer
    """
    cluster = SparkClusterHook(conn_id).capacity()
    lacking = needs.lacking(cluster)
    found = {name: getattr(cluster, name) for name in ("master", "cores", "memory_mb", "gpus")}
    return Look(done=not lacking, seen=f"{describe(cluster)}: {lacking or 'enough'}", found=found, error="")


class SparkCapacityTrigger(WaitingTrigger):
    """Waits until the needs fit.

    The connection is looked up in the triggerer; of it, only the name is stored.

    :param conn_id: Spark connection
    :param needs: fields of :class:`~airflow_onnx_provider.hooks.capacity.fit.Needs`
    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(self, conn_id: str, needs: Mapping[str, int], poke_interval: float, deadline: float) -> None:
        super().__init__(poke_interval, deadline)
        self.conn_id = conn_id
        self.needs = dict(needs)

    def look(self) -> Look:
        """Ask the cluster."""
        return look(self.conn_id, Needs(**self.needs))
