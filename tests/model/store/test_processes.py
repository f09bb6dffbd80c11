# SPDX-License-Identifier: Apache-2.0
"""One store, many processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from tests.model.store.processes import NAME, ended, start
from tests.model.store.versions import add_version


@pytest.mark.usefixtures("children_end")
def test_readers_never_see_a_missing_or_mixed_version(tmp_path: Path) -> None:
    """Three processes promote and roll back, two collect at once what is not named, three load the alias throughout."""
    root, stop = str(tmp_path / "store"), tmp_path / "stop"
    store = ModelStore(tmp_path / "store")
    aliases = Aliases(store, NAME)
    aliases.point("production", add_version(store, "first"), by="first")

    writers = [start(root, "writer", f"writer-{number}", stop) for number in range(3)]
    readers = [start(root, "reader", f"reader-{number}", stop) for number in range(3)]
    collectors = [start(root, "collector", f"collector-{number}", stop) for number in range(2)]
    made = [by for writer in writers for by in ended(writer)["made"]]
    stop.touch()
    seen = [ended(reader) for reader in readers]
    removed = {version for collector in collectors for version in ended(collector)["removed"]}

    history = aliases.history("production")
    assert sorted(move.by for move in history) == sorted(["first", *made]), "every move exactly once"
    assert len(made) == 3 * 12
    assert [move.previous for move in history[1:]] == [move.version for move in history[:-1]]
    assert {version for reader in seen for version in reader["versions"]} <= {move.version for move in history}
    assert removed, "the collections were no idle bystanders"
    assert history[-1].version not in removed - set(store.versions(NAME))
    with store.local(f"{root}/{NAME}@production") as folder:
        assert folder.name == history[-1].version


@pytest.mark.usefixtures("children_end")
def test_tasks_that_add_the_same_version_at_once_end_with_one(tmp_path: Path) -> None:
    root, go = str(tmp_path / "store"), tmp_path / "go"

    adders = [start(root, "adder", f"adder-{number}", go) for number in range(4)]
    go.touch()
    addresses = {ended(adder)["address"] for adder in adders}

    store = ModelStore(tmp_path / "store")
    assert len(addresses) == 1
    assert addresses == {f"{root}/{NAME}/{version}" for version in store.versions(NAME)}
    checks = store.manifest(addresses.pop()).checks
    assert set(checks) == {f"adder-{one}-{number}" for one in range(4) for number in range(5)}, "no record was lost"
