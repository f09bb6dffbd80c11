# SPDX-License-Identifier: Apache-2.0
"""Names such as ``candidate`` and ``production`` for a model's versions, with their history.

An alias is an append-only log: ``<store>/<name>/_aliases/<alias>/000012.json`` is its twelfth move, and the highest
number is what holds. A move is written whole or not at all and only if its number is free, so the pointer and its
history are one thing, and of two who move an alias at once one comes after the other.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError, ValidationError
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import check_alias, check_name
from airflow_onnx_provider.model.store.claims import claimed
from airflow_onnx_provider.model.store.storage import TRIES, StorePath
from airflow_onnx_provider.runtime.manifest import ModelManifest

if TYPE_CHECKING:
    from airflow_onnx_provider.model.store.versions import ModelStore

FOLDER = "_aliases"
ENTRY = re.compile(r"(\d{6,})\.json")


class AliasMovedError(BadInputError):
    """The alias names another version than its mover expected; nothing was moved."""


@dataclass(frozen=True)
class Move:
    """One entry of an alias's log.

    :param number: from 1, without gaps
    :param version: what the alias names from here on
    :param digest: of that version
    :param previous: the version before, None at first
    :param by: who did it
    :param at: when, ISO 8601 in UTC, by the mover's clock
    :param reason: in words, or None
    :param restores: for a rollback, the number of the move that it went back to
    :param key: tells this move from every other
    """

    number: int
    version: str
    digest: str
    previous: str | None
    by: str
    at: str
    reason: str | None = None
    restores: int | None = None
    key: str = ""

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.at)

    @property
    def origin(self) -> int:
        """The number of the move that gave the alias this version: its own, or what a rollback went back to."""
        return self.number if self.restores is None else self.restores


@dataclass(frozen=True)
class Pointed:
    """What a call for a move came to.

    :param move: the move that holds
    :param changed: False if the alias named that version already, so that nothing was written
    """

    move: Move
    changed: bool


class Aliases:
    """The aliases of one model.

    :param name: of the model
    """

    def __init__(self, store: ModelStore, name: str) -> None:
        self.store = store
        self.name = check_name(name)
        self.home = store.root / name

    def names(self) -> tuple[str, ...]:
        """All aliases, sorted."""
        return tuple(alias for alias in storage.names(self.home / FOLDER) if self.last(alias))

    def all(self) -> dict[str, str]:
        """Alias to the version that it names."""
        moves = {alias: self.last(alias) for alias in storage.names(self.home / FOLDER)}
        return {alias: move.version for alias, move in moves.items() if move}

    def version(self, alias: str) -> str | None:
        """The version that the alias names, None if it was never pointed anywhere."""
        move = self.last(alias)
        return move.version if move else None

    def last(self, alias: str) -> Move | None:
        """The move that holds."""
        return last_move(self.home, alias)

    def history(self, alias: str) -> tuple[Move, ...]:
        """All moves, oldest first."""
        return tuple(_read(self.home, alias, number) for number in _numbers(self.home, alias))

    def point(
        self, alias: str, version: str, *, by: str, expected: str | None = None, reason: str | None = None
    ) -> Pointed:
        """Let the alias name ``version``; if it does already, nothing is written.

        :param by: who does it, for the history
        :param expected: the version that the alias must name now, ``""`` for none yet; None: whatever it names
        :raises BadInputError: if there is no such version
        :raises ValidationError: if it was never validated
        :raises DigestMismatchError: if its files are not what its manifest says
        :raises AliasMovedError: if ``expected`` is given and does not hold
        """
        check_name(version)

        def wanted(last: Move | None) -> _Target | Move:
            if last and last.version == version:
                return last
            held = last.version if last else ""
            if expected is not None and held != expected:
                raise AliasMovedError(
                    f"{self.name}@{alias} names {held or 'nothing'}, not {expected or 'nothing'} as expected: somebody "
                    f"else moved it{f' ({last.by}, {last.at})' if last else ''}. Nothing was changed."
                )
            return _Target(version)

        return self._move(alias, wanted, by=by, reason=reason)

    def rollback(self, alias: str, *, by: str, expected: str | None = None, reason: str | None = None) -> Pointed:
        """Let the alias name what it named before the version that it names now; a second rollback goes one further.

        :param expected: the version to leave, which the alias must name now; None: whatever it names
        :raises BadInputError: if there is nothing before, or the version before is not in the store any more
        :raises AliasMovedError: if ``expected`` is given and does not hold
        """

        def before(last: Move | None) -> _Target | Move:
            held = last.version if last else ""
            if expected is not None and held != expected:
                raise AliasMovedError(
                    f"{self.name}@{alias} names {held or 'nothing'}, not {expected} as expected: nothing to roll back"
                )
            if last is None:
                raise BadInputError(
                    f"{self.name}@{alias} was never pointed at a version: there is nothing to roll back"
                )
            if last.origin == 1:
                raise BadInputError(
                    f"{self.name}@{alias} names {held}, the first version that it ever named: there is nothing before. "
                    "Promote another version instead."
                )
            number = _read(self.home, alias, last.origin - 1).origin
            return _Target(_read(self.home, alias, number).version, number)

        return self._move(alias, before, by=by, reason=reason)

    def _move(self, alias: str, decide: _Decide, *, by: str, reason: str | None) -> Pointed:
        """Append what ``decide`` makes of the move that holds, and ask again if somebody else was faster."""
        check_alias(alias)
        for _ in range(TRIES):
            target = decide(self.last(alias))
            if isinstance(target, Move):
                return Pointed(target, changed=False)
            with claimed(self.home, check_name(target.version)):
                digest = self._proved(target.version).digest
                move = self._append(alias, decide, target, Move(0, target.version, digest, None, by, "", reason))
            if move:
                return Pointed(move, changed=True)
        raise OnnxProviderError(f"{self.name}@{alias} could not be moved: others keep moving it")

    def _append(self, alias: str, decide: _Decide, target: _Target, draft: Move) -> Move | None:
        for _ in range(TRIES):
            last = self.last(alias)
            if decide(last) != target:
                return None
            move = replace(
                draft,
                number=last.number + 1 if last else 1,
                previous=last.version if last else None,
                at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                restores=target.restores,
                key=uuid.uuid4().hex[:12],
            )
            path = self.home / FOLDER / alias / f"{move.number:06}.json"
            if storage.create(path, json.dumps(asdict(move), indent=2).encode()):
                return move
        return None

    def _proved(self, version: str) -> ModelManifest:
        with self.store.local(f"{self.store.root}/{self.name}/{version}") as folder:
            manifest = ModelManifest.read(folder)
        if manifest.golden is None:
            raise ValidationError(
                f"{self.name} {version} was never validated, so no alias may name it: run a validate task on it first"
            )
        return manifest


@dataclass(frozen=True)
class _Target:
    version: str
    restores: int | None = None


_Decide = Callable[[Move | None], _Target | Move]
"""The move that holds (if any) to the next one's target, or itself if it will do."""


def last_move(home: StorePath, alias: str) -> Move | None:
    """The move of an alias that holds, None if there is none.

    :param home: the model's folder in its store
    """
    numbers = _numbers(home, check_alias(alias))
    return _read(home, alias, numbers[-1]) if numbers else None


def steps_back(history: tuple[Move, ...]) -> list[Move]:
    """The moves that rollbacks would go back to, one after the other; the one that holds comes first."""
    steps: list[Move] = []
    number = history[-1].origin if history else 0
    while number:
        steps.append(history[number - 1])
        number = history[number - 2].origin if number > 1 else 0
    return steps


def _numbers(home: StorePath, alias: str) -> list[int]:
    found = (ENTRY.fullmatch(name) for name in storage.names(home / FOLDER / check_alias(alias)))
    return sorted(int(entry[1]) for entry in found if entry)


def _read(home: StorePath, alias: str, number: int) -> Move:
    path = home / FOLDER / alias / f"{number:06}.json"
    try:
        data = json.loads(storage.read(path))
        return Move(**{field.name: data[field.name] for field in fields(Move)})
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{path} is no move of an alias: {error!r}. Restore it; it is never changed once made."
        ) from error
