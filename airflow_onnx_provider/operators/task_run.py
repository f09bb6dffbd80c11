# SPDX-License-Identifier: Apache-2.0
"""Which run a task is about, over all its tries."""

from __future__ import annotations

from typing import Any

from airflow_onnx_provider.spark.layout import OutputLayout, new_run_name
from airflow_onnx_provider.spark.run_manifest import abandon

RUN_KEY = "onnx_run"
"""Where the run's name is kept in Airflow's state of the task, which outlives a try, and a clear as well."""


class TaskRun:
    """The run of one task, by name.

    :param state: Airflow's ``task_state_store``, or None before Airflow 3.3
    :param job_keys: under which the Spark provider keeps the job that a later try goes on waiting for
    """

    def __init__(self, state: Any, job_keys: tuple[str, ...]) -> None:
        self._state, self._job_keys = state, job_keys
        self._begun: tuple[OutputLayout, str, str] | None = None

    @property
    def running(self) -> str | None:
        """The run of an earlier try whose job goes on in the cluster, to be waited for again; else None."""
        if self._state is None or not self._state.get(self._job_keys[0]):
            return None
        return self._state.get(RUN_KEY) or None

    def begin(self, layout: OutputLayout, partition: str, label: str) -> str:
        """Name a run; what an earlier try left, whose driver died with it, is removed.

        :param label: what a person shall recognise the run by
        """
        run = self.running
        if run is None:
            run = f"{partition}-{new_run_name(label)}"
            if self._state is not None:
                if earlier := self._state.get(RUN_KEY):
                    abandon(layout.run_manifest(earlier), partition, layout.staging(earlier))
                self._state.set(RUN_KEY, run)
        self._begun = layout, partition, run
        return run

    def abandon(self) -> None:
        """Close the books of the run that was begun, if any, and remove what it staged: its driver has ended."""
        if self._begun is not None:
            layout, partition, run = self._begun
            abandon(layout.run_manifest(run), partition, layout.staging(run))

    def forget(self) -> None:
        """A finished job must not be found again: the state outlives a clear, which has to run the day anew."""
        if self._state is not None:
            for key in (*self._job_keys, RUN_KEY):
                self._state.delete(key)
