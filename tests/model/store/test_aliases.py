# SPDX-License-Identifier: Apache-2.0
"""Names for versions, their history, and that no two of them get lost in each other."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError, ValidationError
from airflow_onnx_provider.model.store import aliases as aliases_module
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.aliases import Aliases, AliasMovedError, steps_back
from airflow_onnx_provider.model.store.claims import VersionLeavingError, leaving
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from tests.model.store.versions import add_version

NAME = "colours"


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """A local store, and one in an object store (fsspec's, in memory)."""
    if request.param == "folder":
        return ModelStore(tmp_path / "store")
    return ModelStore(ObjectStoragePath(f"memory://bucket-{tmp_path.name}/models"))


@pytest.fixture
def aliases(store: ModelStore) -> Aliases:
    return Aliases(store, NAME)


def test_an_alias_names_a_version_from_when_it_is_pointed_there(store: ModelStore, aliases: Aliases) -> None:
    first, second = add_version(store, "first"), add_version(store, "second")
    assert aliases.version("production") is None

    assert aliases.point("production", first, by="ana", reason="as good as any").changed
    aliases.point("production", second, by="ben")
    aliases.point("candidate", first, by="ana")

    assert aliases.all() == {"candidate": first, "production": second}
    address = f"{store.root}/{NAME}@production"
    assert store.resolve(address) == f"{store.root}/{NAME}/{second}"
    assert store.manifest(address).version == second
    with store.local(address) as folder:
        assert ModelManifest.read(folder).version == second
    moves = aliases.history("production")
    assert [(move.number, move.version, move.previous, move.by) for move in moves] == [
        (1, first, None, "ana"),
        (2, second, first, "ben"),
    ]
    assert moves[0].reason == "as good as any"
    assert moves[1].digest == store.manifest(address).digest
    assert moves[0].moment <= moves[1].moment
    assert moves[0].moment.utcoffset() is not None


def test_pointing_where_it_points_already_is_no_move(store: ModelStore, aliases: Aliases) -> None:
    """A task that is tried again after its move has been made."""
    version = add_version(store, "only")
    done = aliases.point("production", version, by="ana", expected="")

    again = aliases.point("production", version, by="ana", expected="")

    assert again == replace(done, changed=False)
    assert len(aliases.history("production")) == 1


def test_a_move_that_expects_something_else_is_refused(store: ModelStore, aliases: Aliases) -> None:
    first, second, third = (add_version(store, content) for content in ("first", "second", "third"))
    aliases.point("production", first, by="ana", expected="")
    aliases.point("production", second, by="ben", expected=first)

    with pytest.raises(AliasMovedError, match=f"names {second}, not {first} as expected: somebody else moved it .ben"):
        aliases.point("production", third, by="cid", expected=first)
    with pytest.raises(AliasMovedError, match=f"names {second}, not nothing as expected"):
        aliases.point("production", third, by="cid", expected="")
    with pytest.raises(AliasMovedError, match="nothing to roll back"):
        aliases.rollback("production", by="cid", expected=first)
    assert aliases.version("production") == second


def test_two_rollbacks_go_two_steps_back(store: ModelStore, aliases: Aliases) -> None:
    first, second, third, fourth = (add_version(store, content) for content in ("1", "2", "3", "4"))
    for version in (first, second, third):
        aliases.point("production", version, by="ana")

    assert aliases.rollback("production", by="ben", reason="too slow").move.version == second
    assert [move.version for move in steps_back(aliases.history("production"))] == [second, first]
    assert aliases.rollback("production", by="ben").move.version == first
    with pytest.raises(BadInputError, match=f"names {first}, the first version that it ever named: there is nothing"):
        aliases.rollback("production", by="ben")

    aliases.point("production", fourth, by="ana")
    assert aliases.rollback("production", by="ben").move.version == first
    history = aliases.history("production")
    assert [move.version for move in history] == [first, second, third, second, first, fourth, first]
    assert [move.restores for move in history] == [None, None, None, 2, 1, None, 1]
    assert [move.previous for move in history] == [None, first, second, third, second, first, fourth]


def test_nothing_to_roll_back(aliases: Aliases) -> None:
    with pytest.raises(BadInputError, match="colours@production was never pointed at a version"):
        aliases.rollback("production", by="ana")


def test_what_no_alias_may_name(store: ModelStore, aliases: Aliases, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there is no model version at .*/colours/0123456789ab"):
        aliases.point("production", "0123456789ab", by="ana")

    unproved = add_version(store, "unproved", validated=False)
    with pytest.raises(ValidationError, match=f"{unproved} was never validated, so no alias may name it"):
        aliases.point("production", unproved, by="ana")

    changed = add_version(store, "changed")
    storage.write(storage.join(store.root, f"{NAME}/{changed}/{MODEL_NAME}"), b"another model")
    with pytest.raises(DigestMismatchError, match="is not the file that was recorded"):
        aliases.point("production", changed, by="ana")

    leaving_now = add_version(store, "leaving")
    with leaving(aliases.home, leaving_now), pytest.raises(VersionLeavingError, match="is being removed"):
        aliases.point("production", leaving_now, by="ana")

    assert aliases.all() == {}
    assert aliases.point("production", leaving_now, by="ana").changed


@pytest.mark.parametrize("alias", ["", ".", "../x", "-x", "1st", "a b", "a@b", "x" * 51])
def test_a_name_that_cannot_be_an_alias(store: ModelStore, aliases: Aliases, alias: str) -> None:
    with pytest.raises(BadInputError, match="cannot be an alias"):
        aliases.point(alias, "0123456789ab", by="ana")


def test_an_alias_that_names_nothing_is_told(store: ModelStore) -> None:
    with pytest.raises(BadInputError, match=r"the alias 'production' of .*colours was never pointed at a version"):
        store.manifest(f"{store.root}/{NAME}@production")


def test_a_broken_entry_is_told(store: ModelStore, aliases: Aliases) -> None:
    aliases.point("production", add_version(store, "only"), by="ana")
    storage.write(storage.join(aliases.home, "_aliases/production/000001.json"), b'{"number": 1}')
    with pytest.raises(BadInputError, match=r"production/000001.json is no move of an alias"):
        aliases.version("production")


def test_who_is_slower_comes_after(store: ModelStore, aliases: Aliases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the last number and the write of the next one, somebody else moves the alias."""
    first, second, third = (add_version(store, content) for content in ("1", "2", "3"))
    aliases.point("production", first, by="ana")
    real = storage.create
    others: list[str] = [third]

    def overtaken(path: Any, data: bytes) -> bool:
        if "_aliases" in str(path) and others:
            aliases.point("production", others.pop(), by="ben")
        return real(path, data)

    monkeypatch.setattr(aliases_module.storage, "create", overtaken)
    aliases.point("production", second, by="cid")

    assert [(move.version, move.previous) for move in aliases.history("production")] == [
        (first, None),
        (third, first),
        (second, third),
    ]
    others.append(first)
    with pytest.raises(AliasMovedError):
        aliases.point("production", third, by="cid", expected=second)
    assert aliases.version("production") == first


def test_a_request_that_was_repeated_is_one_move(tmp_path: Path) -> None:
    """An object store's answer got lost, its client asked again, and finds what it wrote itself."""
    path = tmp_path / "000001.json"
    assert storage.create(path, b"mine")
    assert storage.create(path, b"mine")
    assert not storage.create(path, b"theirs")
    assert path.read_bytes() == b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["000001.json"]


def test_movers_at_once_make_one_line_of_moves(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    aliases = Aliases(store, NAME)
    versions = [add_version(store, str(number)) for number in range(4)]
    start = threading.Barrier(4)
    made: list[str] = []

    def move(own: str) -> None:
        start.wait()
        for number in range(5):
            target = versions[(versions.index(own) + number) % 4]
            pointed = aliases.point("production", target, by=f"{own}-{number}")
            if pointed.changed:
                made.append(pointed.move.by)

    movers = [threading.Thread(target=move, args=(version,)) for version in versions]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()

    history = aliases.history("production")
    assert sorted(move.by for move in history) == sorted(made)
    assert [move.number for move in history] == list(range(1, len(history) + 1))
    assert [move.previous for move in history[1:]] == [move.version for move in history[:-1]]


class AliasLog(RuleBasedStateMachine):
    """Whatever is moved and rolled back, in whatever order: the log says what a simple stack says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = ModelStore(Path(self.folder.name))
        self.aliases = Aliases(self.store, NAME)
        self.versions = [add_version(self.store, str(number)) for number in range(3)]
        self.stack: list[str] = []
        self.moves: list[str] = []

    @rule(which=st.integers(0, 2))
    def point(self, which: int) -> None:
        version = self.versions[which]
        new = not self.stack or self.stack[-1] != version
        assert self.aliases.point("production", version, by="ana").changed == new
        if new:
            self.stack.append(version)
            self.moves.append(version)

    @precondition(lambda self: len(self.stack) > 1)
    @rule()
    def rollback(self) -> None:
        self.aliases.rollback("production", by="ana")
        self.stack.pop()
        self.moves.append(self.stack[-1])

    @precondition(lambda self: len(self.stack) == 1)
    @rule()
    def rollback_of_the_first(self) -> None:
        with pytest.raises(BadInputError, match="there is nothing before"):
            self.aliases.rollback("production", by="ana")

    @invariant()
    def as_the_stack_says(self) -> None:
        history = self.aliases.history("production")
        assert [move.version for move in history] == self.moves
        assert [move.version for move in steps_back(history)] == self.stack[::-1]
        assert self.aliases.version("production") == (self.stack[-1] if self.stack else None)
        assert all(json.dumps(move.version) for move in history)

    def teardown(self) -> None:
        self.folder.cleanup()


AliasLog.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestAliasLog = AliasLog.TestCase
