# SPDX-License-Identifier: Apache-2.0
"""Sensor: has a model a new version, or has its alias moved?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook
from airflow_onnx_provider.model.store.address import check_alias, check_name
from airflow_onnx_provider.sensors.waiting import DEFERRABLE, WaitingSensor
from airflow_onnx_provider.triggers.model import Awaited, OnnxModelTrigger, look, moment
from airflow_onnx_provider.triggers.waiting import Look

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxModelSensor(WaitingSensor):
    """Wait until an alias of a model moves, or, without an alias, until the model has a new version.

    New is what came since the run started, or since ``since``; with ``than``, whatever is another version than that.
    A version counts from when it is added, before it is validated; an alias only ever names validated ones.

    Returns ``model`` (the version's address), ``name``, ``version``, ``digest``, ``alias`` (or None), ``previous`` (the
    version before, or None). Fails without retry when ``timeout`` (seconds) is over, saying what it saw. A store that
    does not answer counts as "not yet".

    :param name: of the model. (templated)
    :param alias: which shall move; default: wait for a new version. (templated)
    :param store: connection id of the type ``onnx_model_store``. (templated)
    :param than: a version that is known already, such as an earlier task's ``version``. (templated)
    :param since: ISO 8601 time from which on something is new, such as ``{{ data_interval_start }}``; default: the
        run's start. (templated)
    :param deferrable: wait in the triggerer, without a worker slot; default: Airflow's setting
        ``[operators] default_deferrable``
    """

    template_fields: Sequence[str] = ("name", "alias", "store", "than", "since")

    def __init__(
        self,
        *,
        name: str,
        alias: str | None = None,
        store: str = OnnxModelStoreHook.default_conn_name,
        than: str | None = None,
        since: str | None = None,
        deferrable: bool = DEFERRABLE,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.alias = alias
        self.store = store
        self.than = than
        self.since = since
        self.deferrable = deferrable

    def look(self, context: Context) -> Look:
        """List the alias's moves or the versions."""
        return look(self.store, self._awaited(context))

    def trigger(self, context: Context, deadline: float) -> OnnxModelTrigger:
        """Lists the same from the triggerer."""
        return OnnxModelTrigger(self.store, asdict(self._awaited(context)), self.poke_interval, deadline)

    def missed(self, context: Context) -> str:
        """What did not come."""
        return (
            f"the alias {self.alias!r} of {self.name} did not move" if self.alias else f"{self.name} got no new version"
        )

    def _awaited(self, context: Context) -> Awaited:
        alias = check_alias(self.alias) if self.alias else None
        return Awaited(check_name(self.name), alias, self.than or None, self._start(context))

    def _start(self, context: Context) -> float:
        if self.since:
            try:
                return moment(self.since)
            except ValueError as error:
                raise BadInputError(
                    f"since: expected a time such as 2026-01-31T06:00:00Z, got {self.since!r}"
                ) from error
        started = getattr(context.get("dag_run"), "start_date", None)
        if started:
            return float(started.timestamp())
        self._first_look = getattr(self, "_first_look", None) or time.time()  # a task without a run, as in a test
        return self._first_look
