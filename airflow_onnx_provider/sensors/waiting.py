# SPDX-License-Identifier: Apache-2.0
"""What all sensors share: look once, then wait in the triggerer or in the worker, and say what was seen."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf
from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.triggers.waiting import Look, WaitingTrigger, patient

if TYPE_CHECKING:
    from airflow.sdk import Context

DEFERRABLE = conf.getboolean("operators", "default_deferrable", fallback=False)
"""Airflow's own default of ``deferrable``."""

GRACE = timedelta(minutes=5)
"""The trigger gives up by itself and says what it saw; Airflow's own timeout, this much later, is the safety net."""


class WaitingSensor(BaseSensorOperator):
    """Returns what it found; fails without retry when the time is over, saying what it saw, or if waiting cannot help.

    A subclass says how to look, with which trigger, and in ``missed`` what did not happen. It takes ``deferrable`` and
    keeps it as an attribute.
    """

    deferrable: bool
    _last: Look

    @abstractmethod
    def look(self, context: Context) -> Look:
        """Look once.

        :raises OnnxProviderError: if it cannot look; waiting goes on where a retry can help
        """

    @abstractmethod
    def trigger(self, context: Context, deadline: float) -> WaitingTrigger:
        """What looks on from the triggerer.

        :param deadline: seconds since the epoch
        """

    @abstractmethod
    def missed(self, context: Context) -> str:
        """What did not happen, as the beginning of a sentence that goes on with the time."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Look once; if that is not enough, wait in the triggerer or here."""
        if self.poke(context):
            return self._last["found"]
        if self.deferrable:
            self.defer(
                timeout=timedelta(seconds=self.timeout) + GRACE,
                trigger=self.trigger(context, time.time() + self.timeout),
                method_name="execute_complete",
            )
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(self._gave_up(context, self._last["seen"])) from None
        return self._last["found"]

    def poke(self, context: Context) -> bool:
        """Whether it is there now."""
        with no_retry_for_bad_input():
            self._last = patient(self.look, context)
        self.log.info("%s", self._last["seen"])
        return self._last["done"]

    def execute_complete(self, context: Context, event: Look) -> dict[str, Any]:
        """Take the trigger's word."""
        if event["error"]:
            raise AirflowFailException(event["error"])
        if not event["done"]:
            raise AirflowFailException(self._gave_up(context, event["seen"]))
        self.log.info("%s", event["seen"])
        return event["found"]

    def _gave_up(self, context: Context, seen: str) -> str:
        return f"{self.missed(context)} within {self.timeout:.0f} s: {seen}"
