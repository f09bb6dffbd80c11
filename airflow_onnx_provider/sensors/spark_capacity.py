"""Sensor: has the cluster room for the job?"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.hooks.capacity.fit import Needs
from airflow_onnx_provider.triggers.spark_capacity import SparkCapacityTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context

GRACE = timedelta(minutes=5)


class SparkCapacitySensor(BaseSensorOperator):
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
        plan: Mapping[str, Any] | str | None = None,
        cores: int | str | None = None,
        memory_mb: int | str | None = None,
        gpus: int | str | None = None,
        conn_id: str = "spark_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.cores = cores
        self.memory_mb = memory_mb
        self.gpus = gpus
        self.conn_id = conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once; if there is no room, wait in the triggerer or here."""
        if self.poke(context):
            return self._found["free"]  # type: ignore[no-any-return]
        if self.deferrable:
            self.defer(
                # The trigger gives up by itself and says what it saw; Airflow's own timeout is the safety net.
                timeout=timedelta(seconds=self.timeout) + GRACE,
                trigger=SparkCapacityTrigger(
                    conn_id=self.conn_id,
                    needs=asdict(self._needs()),
                    poke_interval=self.poke_interval,
                    deadline=time.time() + self.timeout,
                ),
                method_name="execute_complete",
            )
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(self._gave_up(self._found["seen"])) from None
        return self._found["free"]  # type: ignore[no-any-return]

    def poke(self, context: Context) -> bool:
        """Whether there is room now."""
        with no_retry_for_bad_input():
            self._found = look(self.conn_id, self._needs())
        self.log.info("%s", self._found["seen"])
        return bool(self._found["fits"])

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Take the trigger's word."""
        if event["error"]:
            raise AirflowFailException(event["error"])
        if not event["fits"]:
            raise AirflowFailException(self._gave_up(event["seen"]))
        self.log.info("%s", event["seen"])
        return event["free"]  # type: ignore[no-any-return]

    def _needs(self) -> Needs:
        by_hand = {name: getattr(self, name) for name in ("cores", "memory_mb", "gpus")}
        by_hand = {name: _whole(value, name) for name, value in by_hand.items() if value not in {None, ""}}
        if not self.plan and not by_hand:
            raise BadInputError("nothing to wait for: give a plan, or cores, memory_mb or gpus")
        return replace(Needs.of_plan(self.plan) if self.plan else Needs(), **by_hand)

    def _gave_up(self, seen: str) -> str:
        return f"no room within {self.timeout:.0f} s: {seen}"


def _whole(value: int | str, name: str) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name}: expected a whole number, got {value!r}") from error
