# SPDX-License-Identifier: Apache-2.0
"""What a collection removes, and all that it must not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.store import retention, storage
from airflow_onnx_provider.model.store import versions as store_module
from airflow_onnx_provider.model.store.aliases import Aliases, Move
from airflow_onnx_provider.model.store.claims import REMOVALS, VersionLeavingError, claimed, leaving, marks
from airflow_onnx_provider.model.store.retention import Keep, Known, collect, plan_collection, reasons_to_stay
from airflow_onnx_provider.model.store.versions import ModelStore, StoredVersion
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME, ModelManifest
from tests.model.store.versions import add_version, make_version

NAME = "colours"
NOTHING = Keep(last=0, moves=1, days=0)
"""Keeps what is needed, and not one version more."""


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """A local store, and one in an object store (fsspec's, in memory)."""
    if request.param == "folder":
        return ModelStore(tmp_path / "store")
    return ModelStore(ObjectStoragePath(f"memory://bucket-{tmp_path.name}/models"))


def there(store: ModelStore) -> set[str]:
    return set(store.versions(NAME))


def aged(store: ModelStore, version: str, days: float) -> None:
    """Make a local version as old as that."""
    before = time.time() - days * 86400
    for parent, _, files in os.walk(str(store.root / NAME / version)):
        for file in files:
            os.utime(Path(parent, file), (before, before))


def test_versions_are_told_oldest_first(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    assert store.names() == ()
    assert store.versions(NAME) == ()
    versions = [add_version(store, content) for content in ("a", "b", "c")]
    for days, version in zip((1, 3, 2), versions, strict=True):
        aged(store, version, days)

    assert store.versions(NAME) == (versions[1], versions[2], versions[0])
    store.record(f"{store.root}/{NAME}/{versions[1]}", lambda known: known)
    assert store.versions(NAME)[0] == versions[1], "what was found out about it later makes it no newer"
    assert store.names() == (NAME,)


def test_what_nothing_names_goes(store: ModelStore) -> None:
    named, unnamed = add_version(store, "named"), add_version(store, "unnamed")
    Aliases(store, NAME).point("production", named, by="ana")

    planned = plan_collection(store, NAME, NOTHING)
    assert planned.removed == (unnamed,)
    assert planned.kept == {named: "production names it"}
    assert there(store) == {named, unnamed}, "a plan changes nothing"

    assert collect(store, NAME, NOTHING).removed == (unnamed,)
    assert there(store) == {named}
    assert collect(store, NAME, NOTHING).removed == ()
    left = [path for path in storage.below(store.root / NAME) if unnamed in path]
    assert left == []
    with store.local(f"{store.root}/{NAME}@production"):
        pass


def test_what_an_alias_named_of_late_and_may_go_back_to_stays(store: ModelStore) -> None:
    versions = [add_version(store, str(number)) for number in range(6)]
    aliases = Aliases(store, NAME)
    for version in versions:
        aliases.point("production", version, by="ana")

    collected = collect(store, NAME, Keep(last=0, moves=2, days=0))

    # Two moves back from the one that holds, so that two rollbacks find their versions.
    assert there(store) == set(versions[3:])
    assert collected.kept[versions[3]] == "production named it of late"
    aliases.rollback("production", by="ana")
    aliases.rollback("production", by="ana")
    with pytest.raises(BadInputError, match=f"there is no model version at .*{versions[2]}"):
        aliases.rollback("production", by="ana")


def test_the_newest_and_the_young_stay(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    versions = [add_version(store, str(number)) for number in range(4)]
    for days, version in zip((30, 20, 10, 1), versions, strict=True):
        aged(store, version, days)

    assert plan_collection(store, NAME, Keep(last=2, days=0)).removed == tuple(versions[:2])
    assert plan_collection(store, NAME, Keep(last=0, days=15)).removed == tuple(versions[:2])
    assert plan_collection(store, NAME).removed == (), "by default the last five stay"


def test_what_a_stage_found_in_the_store_counts_as_new(tmp_path: Path) -> None:
    """Each night's run is answered from the store; its version must not go between two of its tasks."""
    store = ModelStore(tmp_path / "store")
    remembered, converted, unused = (add_version(store, content) for content in ("a", "b", "c"))
    store.remember(NAME, {"stage": "convert"}, {"model": f"{store.root}/{NAME}/{remembered}"})
    for version in (remembered, converted, unused):
        aged(store, version, 30)

    store.recall(NAME, {"stage": "convert"})
    add_version(store, "b")

    assert collect(store, NAME, Keep(last=0)).removed == (unused,)


def test_what_a_kept_version_was_made_from_stays(store: ModelStore) -> None:
    source = add_version(store, "converted")
    smaller = add_version(store, "quantized", origin={"parent": source})
    smallest = add_version(store, "pruned", origin={"parent": smaller})
    other = add_version(store, "other", origin={"parent": source})
    Aliases(store, NAME).point("production", smallest, by="ana")

    collected = collect(store, NAME, NOTHING)

    assert collected.removed == (other,)
    assert collected.kept[source] == f"{smaller} was made from it"


def test_what_a_run_manifest_names_stays(store: ModelStore, tmp_path: Path) -> None:
    scored, same_name_elsewhere, unused = (add_version(store, content) for content in ("a", "b", "c"))
    runs = tmp_path / "predictions" / "_runs"
    runs.mkdir(parents=True)
    (runs / "monday.json").write_text(json.dumps({"state": "finished", "model": {"name": NAME, "version": scored}}))
    (runs / "failed.json").write_text(json.dumps({"state": "failed", "error": "no room"}))
    other = tmp_path / "one-run.json"
    other.write_text(json.dumps({"model": {"name": "sizes", "version": same_name_elsewhere}}))

    collected = collect(store, NAME, NOTHING, runs=[tmp_path / "predictions", str(other)])

    assert collected.kept == {scored: "the run manifest monday.json names it"}
    assert set(collected.removed) == {same_name_elsewhere, unused}


@pytest.mark.parametrize("broken", ["misspelt", "not JSON"])
def test_runs_that_cannot_be_read_remove_nothing(store: ModelStore, tmp_path: Path, broken: str) -> None:
    version = add_version(store, "scored, perhaps")
    if broken == "not JSON":
        (tmp_path / "output" / "_runs").mkdir(parents=True)
        (tmp_path / "output" / "_runs" / "monday.json").write_text("{half")

    with pytest.raises(BadInputError, match="runs: .*Nothing was removed"):
        collect(store, NAME, NOTHING, runs=[tmp_path / "output"])
    assert there(store) == {version}


def test_what_is_about_a_removed_version_goes_with_it(store: ModelStore) -> None:
    kept, gone = add_version(store, "kept"), add_version(store, "gone")
    Aliases(store, NAME).point("production", kept, by="ana")
    for version in (kept, gone):
        store.remember(NAME, {"made": version}, {"model": f"{store.root}/{NAME}/{version}"})
        storage.write(storage.join(store.root, f"{NAME}/_archives/{version}-0123.zip"), b"zip")

    collected = collect(store, NAME, NOTHING)

    assert store.recall(NAME, {"made": gone}) is None
    assert store.recall(NAME, {"made": kept})
    assert len(collected.recipes) == len(storage.names(store.root / NAME / "_recipes")) == 1
    assert collected.archives == (f"{gone}-0123.zip",)
    assert storage.names(store.root / NAME / "_archives") == [f"{kept}-0123.zip"]


def test_a_version_whose_folder_is_open_stays(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    version = add_version(store, "read now")
    with store.local(f"{store.root}/{NAME}/{version}") as folder:
        assert collect(store, NAME, NOTHING).kept == {version: "a task is reading it"}
        assert (folder / MANIFEST_NAME).exists()
    assert collect(store, NAME, NOTHING).removed == (version,)


def test_a_reader_that_is_overtaken_gets_what_the_alias_names_now(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look at the alias and its look at the version, the alias moves on and the version is removed."""
    first, second, third = (add_version(store, content) for content in ("1", "2", "3"))
    aliases = Aliases(store, NAME)
    aliases.point("production", first, by="ana")
    real = store_module.last_move

    def slowly(home: Any, alias: str) -> Move | None:
        seen = real(home, alias)
        if seen and seen.version == first:
            for version in (second, third):
                aliases.point("production", version, by="ben")
            assert collect(store, NAME, NOTHING).removed == (first,)
        return seen

    monkeypatch.setattr(store_module, "last_move", slowly)
    with store.local(f"{store.root}/{NAME}@production") as folder:
        assert ModelManifest.read(folder).version == third


def between_plan_and_removal(monkeypatch: pytest.MonkeyPatch, what: Callable[[], Any]) -> None:
    """Let ``what`` happen after a collection has announced what it will remove, before it looks for claims."""
    real = retention.marks

    def late(*arguments: Any) -> Any:
        what()
        return real(*arguments)

    monkeypatch.setattr(retention, "marks", late)


def test_a_version_that_is_promoted_while_it_is_removed(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version, aliases = add_version(store, "wanted"), Aliases(store, NAME)

    def promote() -> None:
        with pytest.raises(VersionLeavingError, match=f"{version} is being removed"):
            aliases.point("production", version, by="ana")
        with pytest.raises(VersionLeavingError):
            add_version(store, "wanted")
        assert store.recall(NAME, {"made": version}) is None

    store.remember(NAME, {"made": version}, {"model": f"{store.root}/{NAME}/{version}"})
    between_plan_and_removal(monkeypatch, promote)

    assert collect(store, NAME, NOTHING).removed == (version,)
    assert aliases.all() == {}
    assert add_version(store, "wanted") == version, "and a later try makes it anew"
    assert aliases.point("production", version, by="ana").changed


def test_a_version_whose_promotion_has_begun(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version = add_version(store, "wanted")
    with claimed(store.root / NAME, version):
        assert collect(store, NAME, NOTHING).kept == {version: "a task is about to name it"}
    assert there(store) == {version}


def test_a_version_that_was_promoted_before_its_removal_was_announced(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim is gone when the collection looks for claims; its name is not."""
    version, aliases = add_version(store, "wanted"), Aliases(store, NAME)
    real = retention.leaving

    def after_the_promotion(home: Any, leaves: str) -> Any:
        aliases.point("production", version, by="ana")
        return real(home, leaves)

    monkeypatch.setattr(retention, "leaving", after_the_promotion)

    assert collect(store, NAME, NOTHING).kept == {version: "production names it"}
    assert there(store) == {version}


def test_the_mark_of_a_collection_that_died_is_cleared(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    version, home = add_version(store, "wanted"), store.root / NAME
    for hours in (2, 0):
        moment = int((datetime.now(UTC) - timedelta(hours=hours)).timestamp())
        storage.create(home / REMOVALS / f"{version}.{moment}.x.json", b"{}")

    assert len(marks(home, REMOVALS)[version]) == 1, "the old one counts no more"
    collect(store, NAME)
    assert len(storage.names(home / REMOVALS)) == 1


def test_what_crashed_tasks_left_goes_after_a_day(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    make_version(tmp_path / "store" / NAME / ".0123456789ab.x7f", "a copy that was cut off")
    make_version(tmp_path / "store" / NAME / "0123456789ab", "an upload that was cut off")
    assert plan_collection(store, NAME).leftovers == ()
    for name in (".0123456789ab.x7f", "0123456789ab"):
        aged(store, name, 2.5)

    assert collect(store, NAME).leftovers == (".0123456789ab.x7f", "0123456789ab")
    assert [name for name in storage.names(store.root / NAME) if "0123456789ab" in name] == []


def test_a_removal_that_takes_too_long_ends(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour its mark counts for nothing, so it must have ended before."""
    version = add_version(store, "spared")
    monkeypatch.setattr(retention, "datetime", _Later)

    assert collect(store, NAME, NOTHING).kept == {version: "the collection took too long; the next one goes on"}


class _Later(datetime):
    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return datetime.now(tz) + timedelta(minutes=31)


@pytest.mark.parametrize("keep", [{"last": -1}, {"moves": 0}, {"days": -1}])
def test_a_rule_that_is_none(keep: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match="keep: last and days cannot be negative"):
        Keep(**keep)


def test_reasons() -> None:
    """The rule itself, without a store: an alias's version of the last days stays even if many moves followed."""
    now = datetime(2026, 1, 31, tzinfo=UTC)
    old = now - timedelta(days=90)
    versions = tuple(StoredVersion(name, old, old) for name in "abcdef")
    moves = tuple(
        Move(number, version, "digest", None, "ana", (now - timedelta(days=days)).isoformat())
        for number, (version, days) in enumerate([("a", 9), ("b", 8), ("c", 1), ("d", 0.5), ("e", 0.1)], 1)
    )
    known = Known(versions, {"c": "f"}, {"production": moves}, {})

    assert reasons_to_stay(known, Keep(last=0, moves=1, days=2), now) == {
        "b": "production named it of late",  # until a day ago
        "c": "production named it of late",
        "d": "production named it of late",
        "e": "production names it",
        "f": "c was made from it",
    }


def test_leaving_ends_with_its_mark(store: ModelStore) -> None:
    version = add_version(store, "spared")
    with leaving(store.root / NAME, version):
        assert marks(store.root / NAME, REMOVALS)
    assert marks(store.root / NAME, REMOVALS) == {}
