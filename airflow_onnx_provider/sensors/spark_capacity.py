# SPDX-License-Identifier: Apache-2.0
"""Sensor: has the cluster room for the job?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.capacity.fit import Needs
from airflow_onnx_provider.sensors.waiting import DEFERRABLE, WaitingSensor
from airflow_onnx_provider.triggers.spark_capacity import SparkCapacityTrigger, look
from airflow_onnx_provider.triggers.waiting import Look

if TYPE_CHECKING:
    from airflow.sdk import Context


class SparkCapacitySensor(WaitingSensor):
    """Wait until a plan fits into what the cluster has free.

    Needed are ``slots`` times ``task_cpus`` cores, the memory of all executors with their overhead, their GPUs, and
    one worker with room for one executor. What the cluster does not tell (memory of a ``local`` master) is not waited
    for. A cluster that is not healthy, and one that does not answer, count as "not yet".

    Returns ``master``, ``cores``, ``memory_mb`` and ``gpus``: what was free. Fails without retry when ``timeout``
    (seconds) is over, saying what it saw, and at once if more cores are needed than the whole cluster has. On a cluster
    that grows only under demand, don't wait: submit.

    :param plan: output of an inference task with ``dry_run=True``, as ``task.output`` or as JSON. (templated)
    :param cores: cores that must be free, instead of the plan's. (templated)
    :param memory_mb: MiB that must be free over all workers, instead of the plan's. (templated)
    :param gpus: GPUs that must be free, instead of the plan's. (templated)
    :param conn_id: Spark connection, type ``spark`` or ``spark_cluster``. (templated)
    :param deferrable: wait in the triggerer, without a worker slot; default: Airflow's setting
        ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("plan", "cores", "memory_mb", "gpus", "conn_id")

    def __init__(
        self,
        *,
        plan: Mapping[str, Any] | str | XComArg | None = None,
        cores: int | str | None = None,
        memory_mb: int | str | None = None,
        gpus: int | str | None = None,
        conn_id: str = "spark_default",
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan: Any = plan  # once rendered, no XComArg any more
        self.cores = cores
        self.memory_mb = memory_mb
        self.gpus = gpus
        self.conn_id = conn_id
        self.deferrable = deferrable

    def look(self, context: Context) -> Look:
        """Ask the cluster."""
        return look(self.conn_id, self._needs())

    def trigger(self, context: Context, deadline: float) -> SparkCapacityTrigger:
        """Asks the same cluster."""
        return SparkCapacityTrigger(self.conn_id, asdict(self._needs()), self.poke_interval, deadline)

    def missed(self, context: Context) -> str:
        """That there was no room."""
        return "no room"

    def _needs(self) -> Needs:
        by_hand = {name: getattr(self, name) for name in ("cores", "memory_mb", "gpus")}
        by_hand = {name: _whole(value, name) for name, value in by_hand.items() if value not in {None, ""}}
        if not self.plan and not by_hand:
            raise BadInputError("nothing to wait for: give a plan, or cores, memory_mb or gpus")
        return replace(Needs.of_plan(self.plan) if self.plan else Needs(), **by_hand)


def _whole(value: int | str, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name}: expected a whole number, got {value!r}") from error
