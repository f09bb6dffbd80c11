"""Sensor: is the day's catalogue complete?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.spark.layout import local_path
from airflow_onnx_provider.spark.sources import Readiness, readiness
from airflow_onnx_provider.triggers.catalog import CatalogPartitionTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

GRACE = timedelta(minutes=5)


class CatalogPartitionSensor(BaseSensorOperator):
    """Wait until ``<path>/ds=<partition>/`` is complete: its marker file is there, or it has been quiet for a while.

    Returns ``partition`` and ``folder``. Fails without retry when ``timeout`` (seconds) is over, saying what it saw.

    :param path: catalogue folder. (templated)
    :param partition: of the data; default: decided by the run. (templated)
    :param marker: file that its writer adds last; None: wait for quiet instead. (templated)
    :param stable_seconds: without a marker, seconds without a new or changed file that count as complete
    :param deferrable: wait in the triggerer, without a worker slot; default: Airflow's setting
        ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("path", "partition", "marker")

    def __init__(
        self,
        *,
        path: str,
        partition: str | None = None,
        marker: str | None = "_SUCCESS",
        stable_seconds: float = 300.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.partition = partition
        self.marker = marker
        self.stable_seconds = stable_seconds
        self.deferrable = deferrable

    def execute(self, context: Context) -> dict[str, str]:
        """Look once; if that is not enough, wait in the triggerer or here."""
        with no_retry_for_bad_input():
            partition, folder = self._target(context)
        if self._look(folder).complete:
            return {"partition": partition, "folder": str(folder)}
        if self.deferrable:
            self.defer(
                # The trigger gives up by itself and says what it saw; Airflow's own timeout is the safety net.
                timeout=timedelta(seconds=self.timeout) + GRACE,
                trigger=CatalogPartitionTrigger(
                    folder=str(folder),
                    marker=self.marker,
                    stable_seconds=self.stable_seconds,
                    poke_interval=self.poke_interval,
                    deadline=time.time() + self.timeout,
                ),
                method_name="execute_complete",
            )
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(self._gave_up(partition, self._look(folder).seen)) from None
        return {"partition": partition, "folder": str(folder)}

    def poke(self, context: Context) -> bool:
        """Whether the partition is complete now."""
        return self._look(self._target(context)[1]).complete

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, str]:
        """Take the trigger's word."""
        partition, folder = self._target(context)
        if not event["complete"]:
            raise AirflowFailException(self._gave_up(partition, event["seen"]))
        self.log.info("%s", event["seen"])
        return {"partition": partition, "folder": str(folder)}

    def _target(self, context: Context) -> tuple[str, Path]:
        partition = partition_of(context, self.partition)
        return partition, local_path(self.path, "path") / f"ds={partition}"

    def _look(self, folder: Path) -> Readiness:
        state = readiness(folder, self.marker, self.stable_seconds, time.time())
        self.log.info("%s", state.seen)
        return state

    def _gave_up(self, partition: str, seen: str) -> str:
        return f"the partition {partition} did not become complete within {self.timeout:.0f} s: {seen}"
