# SPDX-License-Identifier: Apache-2.0
"""Trigger: wait for a model's new version, or for its alias to move, without a worker slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.triggers.waiting import Look, WaitingTrigger


@dataclass(frozen=True)
class Awaited:
    """What is waited for.

    :param name: of the model
    :param alias: the alias that shall move; None: a new version
    :param than: a version: fires at another one; None: ``since`` decides
    :param since: seconds since the epoch: fires at a move or a version from then on
    """

    name: str
    alias: str | None
    than: str | None
    since: float

    def look(self, store: ModelStore) -> Look:
        """Whether it has come.

        Found are the version's ``model`` (address), ``name``, ``version`` and ``digest``, the ``alias`` (or None), and
        the version before as ``previous`` (or None).
        """
        found, seen = self._move(store, self.alias) if self.alias else self._version(store)
        if found is None:
            return Look(done=False, seen=seen, found={}, error="")
        address = f"{store.root}/{self.name}/{found['version']}"
        found = {"model": address, "name": self.name, "digest": store.manifest(address).digest, **found}
        return Look(done=True, seen=seen, found=found, error="")

    def _move(self, store: ModelStore, alias: str) -> tuple[dict[str, Any] | None, str]:
        last = Aliases(store, self.name).last(alias)
        if last is None:
            return None, f"{self.name}@{alias} was never pointed at a version"
        seen = f"{self.name}@{alias} names {last.version} since {last.at}"
        new = last.version != self.than if self.than else last.moment.timestamp() >= self.since
        return {"version": last.version, "alias": alias, "previous": last.previous} if new else None, seen

    def _version(self, store: ModelStore) -> tuple[dict[str, Any] | None, str]:
        versions = store.stored(self.name)
        if not versions:
            return None, f"{self.name} has no version yet"
        newest = versions[-1]
        added = newest.added.astimezone(UTC).isoformat(timespec="seconds")
        seen = f"the newest version of {self.name} is {newest.version}, added {added}"
        # Object stores tell whole seconds.
        new = newest.version != self.than if self.than else newest.added.timestamp() >= int(self.since)
        before = versions[-2].version if len(versions) > 1 else None
        return {"version": newest.version, "alias": None, "previous": before} if new else None, seen


def look(store_conn_id: str, awaited: Awaited) -> Look:
    """Whether it has come, see :meth:`Awaited.look`. A store that does not answer has nothing new.

    :raises OnnxProviderError: if waiting cannot help
    """
    store = OnnxModelStoreHook(store_conn_id).get_conn()
    try:
        return awaited.look(store)
    except OnnxProviderError:
        raise
    except Exception as error:  # each object store's client has errors of its own
        seen = f"{store.root} does not answer: {type(error).__name__}: {error}"
        return Look(done=False, seen=seen, found={}, error="")


class OnnxModelTrigger(WaitingTrigger):
    """Waits until it has come.

    The connection is looked up in the triggerer; of it, only the name is stored.

    :param store_conn_id: connection of the type ``onnx_model_store``
    :param awaited: fields of :class:`Awaited`
    :param poke_interval: seconds between two looks
    :param deadline: when to give up, seconds since the epoch
    """

    def __init__(self, store_conn_id: str, awaited: Mapping[str, Any], poke_interval: float, deadline: float) -> None:
        super().__init__(poke_interval, deadline)
        self.store_conn_id = store_conn_id
        self.awaited = dict(awaited)

    def look(self) -> Look:
        """List the alias's moves or the versions."""
        return look(self.store_conn_id, Awaited(**self.awaited))


def moment(text: str) -> float:
    """An ISO 8601 time, UTC if it does not say, in seconds since the epoch.

    :raises ValueError: if it is none
    """
    given = datetime.fromisoformat(text)
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
