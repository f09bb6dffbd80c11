# SPDX-License-Identifier: Apache-2.0
"""Who comes to name a version and who is about to remove it: one of them sees the other.

Both leave a mark first and look for the other's marks then. Whoever names a version (an alias, a stage that found its
result in the store) looks for removals after its claim is written, and gives up if there is one. Whoever removes looks
for claims, and then for names, after its removal is written, and spares what it finds. So either the name is seen in
time, or it is never given. This needs no locks, only that a file that was written is seen by the next listing, which
local folders and today's object stores promise.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.storage import StorePath

CLAIMS = "_claims"
REMOVALS = "_removals"
ABANDONED = {CLAIMS: timedelta(days=1), REMOVALS: timedelta(hours=1)}
"""After this time a mark is taken for that of a process that died; nothing that is marked takes as long."""


class VersionLeavingError(OnnxProviderError):
    """The version is being removed at this moment; a later try finds it gone, or spared."""


@contextmanager
def claimed(home: StorePath, version: str) -> Iterator[None]:
    """Keep a version from being removed while a name for it is made.

    :param home: the model's folder in its store
    :raises VersionLeavingError: if its removal has begun
    """
    with _mark(home, CLAIMS, version):
        if leaving := sorted(marks(home, REMOVALS).get(version, ())):
            raise VersionLeavingError(
                f"{home / version} is being removed ({REMOVALS}/{leaving[0]}). Try again, or make the version anew. "
                "The mark of a collection that died is cleared by the next one an hour later."
            )
        yield


@contextmanager
def leaving(home: StorePath, version: str) -> Iterator[datetime]:
    """Announce that a version will be removed; what is inside still has to look for :func:`marks` of claims.

    :return: until when the removal must have happened
    """
    with _mark(home, REMOVALS, version):
        yield datetime.now(UTC) + ABANDONED[REMOVALS] / 2


def marks(home: StorePath, kind: str) -> dict[str, tuple[str, ...]]:
    """Version to the names of its marks, those of processes that died left out.

    :param kind: :data:`CLAIMS` or :data:`REMOVALS`
    """
    return _by_version(home, kind, dead=False)


def clear_abandoned(home: StorePath) -> None:
    """Remove the marks of processes that died."""
    for kind in (CLAIMS, REMOVALS):
        for names in _by_version(home, kind, dead=True).values():
            for name in names:
                storage.remove(home / kind / name)


def _by_version(home: StorePath, kind: str, *, dead: bool) -> dict[str, tuple[str, ...]]:
    oldest = datetime.now(UTC) - ABANDONED[kind]
    found: dict[str, tuple[str, ...]] = {}
    for name in storage.names(home / kind):
        version, _, rest = name.partition(".")
        moment = rest.partition(".")[0]
        if not version or not moment.isdigit():
            continue  # a file that is still being written
        if (datetime.fromtimestamp(int(moment), UTC) < oldest) == dead:
            found[version] = (*found.get(version, ()), name)
    return found


@contextmanager
def _mark(home: StorePath, kind: str, version: str) -> Iterator[None]:
    now = datetime.now(UTC)
    mark = home / kind / f"{version}.{int(now.timestamp())}.{uuid.uuid4().hex[:8]}.json"
    storage.create(mark, json.dumps({"at": now.isoformat(timespec="seconds"), "process": os.getpid()}).encode())
    try:
        yield
    finally:
        storage.remove(mark)
