# SPDX-License-Identifier: Apache-2.0
"""Sensor: is the day's catalogue complete?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.sensors.waiting import DEFERRABLE, WaitingSensor
from airflow_onnx_provider.spark.layout import local_path
from airflow_onnx_provider.triggers.catalog import CatalogPartitionTrigger, look
from airflow_onnx_provider.triggers.waiting import Look

if TYPE_CHECKING:
    from airflow.sdk import Context


class CatalogPartitionSensor(WaitingSensor):
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
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.partition = partition
        self.marker = marker
        self.stable_seconds = stable_seconds
        self.deferrable = deferrable

    def look(self, context: Context) -> Look:
        """List the day's folder."""
        return look(self._folder(context), self.marker, self.stable_seconds)

    def trigger(self, context: Context, deadline: float) -> CatalogPartitionTrigger:
        """Lists the same folder."""
        return CatalogPartitionTrigger(
            self._folder(context), self.marker, self.stable_seconds, self.poke_interval, deadline
        )

    def missed(self, context: Context) -> str:
        """Which partition is not complete."""
        return f"the partition {partition_of(context, self.partition)} did not become complete"

    def _folder(self, context: Context) -> str:
        return str(local_path(self.path, "path") / f"ds={partition_of(context, self.partition)}")
