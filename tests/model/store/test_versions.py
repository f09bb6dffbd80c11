# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import Address, check_name, split_address
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    MODEL_NAME,
    Golden,
    ModelManifest,
    sha256_of_file,
)
from airflow_onnx_provider.runtime.session import load_model
from tests.runtime.tiny import golden_file, manifest_of, write_onnx, write_version


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    """A local store, and one in an object store (fsspec's, in memory)."""
    if request.param == "folder":
        return ModelStore(tmp_path / "store")
    return ModelStore(ObjectStoragePath(f"memory://bucket-{tmp_path.name}/models"))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, ModelManifest]:
    """A finished version that is in no store yet."""
    folder = tmp_path / "made"
    return folder, write_version(folder)


def names_below(path: Any) -> list[str]:
    """Names in a model's folder, temporary ones included; left out is what is always there."""
    return [name for name in storage.names(path) if name not in {"_claims", ".lock"}]


def test_a_version_is_kept_under_its_name_and_content(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    folder, manifest = made
    address = store.add(folder, manifest)

    assert address == f"{store.root}/colours/{manifest.version}"
    assert store.manifest(address) == manifest
    with store.local(address) as local:
        assert (local / MODEL_NAME).read_bytes() == (folder / MODEL_NAME).read_bytes()
        assert load_model(local, manifest.digest).golden_difference <= 1e-5


def test_a_store_keeps_a_copy(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    folder, manifest = made
    address = store.add(folder, manifest)
    shutil.rmtree(folder)

    with store.local(address) as local:
        manifest.verify_files(local)
        assert ModelManifest.read(local) == manifest


def test_a_download_is_removed_afterwards(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    with store.local(store.add(*made)) as local:
        assert local.is_dir()

    assert local.exists() == isinstance(store.root, Path)


def test_the_same_version_twice_is_one_version(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    folder, manifest = made
    first = store.add(folder, manifest)

    assert store.add(folder, replace(manifest, origin={"source": "elsewhere"})) == first
    assert store.manifest(first) == manifest
    assert names_below(store.root / "colours") == [manifest.version]


def test_writers_of_the_same_version_at_once_end_as_one(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    addresses: list[str] = []
    start = threading.Barrier(4)

    def write(number: int) -> None:
        folder = tmp_path / f"made-{number}"
        manifest = write_version(folder)
        start.wait()
        addresses.append(store.add(folder, manifest))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(addresses) == 4
    assert len(set(addresses)) == 1
    assert names_below(store.root / "colours") == [Path(addresses[0]).name]
    with store.local(addresses[0]) as local:
        assert local == Path(addresses[0])


def test_a_file_that_is_not_what_the_manifest_says_is_not_added(
    store: ModelStore, made: tuple[Path, ModelManifest]
) -> None:
    folder, manifest = made
    (folder / MODEL_NAME).write_bytes(b"another model")

    with pytest.raises(DigestMismatchError, match=MODEL_NAME):
        store.add(folder, manifest)
    assert names_below(store.root / "colours") == []


@pytest.mark.parametrize("which", [0, 1], ids=["model", "golden rows"])
def test_a_file_that_was_changed_in_the_store_is_found(
    store: ModelStore, made: tuple[Path, ModelManifest], which: int
) -> None:
    address, name = store.add(*made), list(made[1].all_files)[which]
    kept: Any = store.root / "colours" / made[1].version
    for part in name.split("/"):
        kept = kept / part
    kept.write_bytes(kept.read_bytes() + b"\0")

    with pytest.raises(DigestMismatchError, match=f"{name} is not the file that was recorded"), store.local(address):
        pass


def test_a_version_that_is_not_there(store: ModelStore) -> None:
    with pytest.raises(BadInputError, match=r"there is no model version at .*/colours/0123456789ab"):
        store.manifest(f"{store.root}/colours/0123456789ab")


def test_a_manifest_that_is_not_json(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    address = store.add(*made)
    manifest: Any = store.root / "colours" / made[1].version / MANIFEST_NAME
    manifest.write_bytes(b"{half")

    with pytest.raises(BadInputError, match=r"manifest.json is not JSON"):
        store.manifest(address)


def test_what_was_found_out_is_recorded(store: ModelStore, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    write_onnx(folder / MODEL_NAME)
    manifest = manifest_of(folder)
    address = store.add(folder, manifest)
    golden = tmp_path / "golden.npz"
    golden.write_bytes(b"rows")

    proved = replace(manifest, checks={"parity": {}}, golden=Golden(sha256_of_file(golden), 1e-4))
    assert store.record(address, lambda known: proved, golden) == proved

    assert store.manifest(address) == proved
    with store.local(address) as local:
        assert (local / golden_file(proved)).read_bytes() == b"rows"


def test_a_record_cannot_change_the_model(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    address = store.add(*made)

    with pytest.raises(BadInputError, match="holds another model than colours"):
        store.record(address, lambda known: replace(known, labels=("a", "b", "c")))
    assert store.manifest(address) == made[1]


def test_a_record_that_is_cut_off_leaves_the_version_usable(
    store: ModelStore, made: tuple[Path, ModelManifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validating a second time, with other inputs, must not be able to break what a worker is about to load."""
    address = store.add(*made)
    golden = tmp_path / "golden.npz"
    golden.write_bytes(b"other rows")
    real = storage.write

    def dies_after_the_rows(path: Any, data: bytes) -> None:
        real(path, data)
        if path.name.endswith(".npz"):
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write", dies_after_the_rows)
    with pytest.raises(KeyboardInterrupt):
        store.record(address, lambda known: replace(known, golden=Golden(sha256_of_file(golden), 1e-4)), golden)
    monkeypatch.undo()

    with store.local(address) as local:
        ModelManifest.read(local).verify_files(local)


RECIPE = {"stage": "convert", "source": "ab12", "opset": 18}


def test_a_result_is_remembered_by_everything_that_decided_it(
    store: ModelStore, made: tuple[Path, ModelManifest]
) -> None:
    result = {"model": store.add(*made), "version": made[1].version, "digest": made[1].digest}
    assert store.recall("colours", RECIPE) is None

    store.remember("colours", RECIPE, result)

    assert store.recall("colours", dict(reversed(RECIPE.items()))) == result
    assert store.recall("colours", {**RECIPE, "opset": 17}) is None
    assert store.recall("other", RECIPE) is None


def test_a_result_whose_version_is_gone_is_forgotten(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    store.remember("colours", RECIPE, {"model": store.add(*made)})
    manifest: Any = store.root / "colours" / made[1].version / MANIFEST_NAME
    manifest.unlink()

    assert store.recall("colours", RECIPE) is None


def test_a_store_that_moved_gives_addresses_at_its_new_place(tmp_path: Path, made: tuple[Path, ModelManifest]) -> None:
    old = ModelStore(tmp_path / "old")
    old.remember("colours", RECIPE, {"model": old.add(*made)})
    (tmp_path / "old").rename(tmp_path / "new")

    recalled = ModelStore(tmp_path / "new").recall("colours", RECIPE)

    assert recalled is None or recalled["model"] == f"{tmp_path / 'new'}/colours/{made[1].version}"


def test_a_copy_that_fails_leaves_no_half_version(
    tmp_path: Path, made: tuple[Path, ModelManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path / "store")
    real = shutil.copyfile
    copied: list[str] = []

    def full_disk(source: Path, target: Path) -> Any:
        if copied:
            raise OSError(28, "No space left on device")
        copied.append(str(source))
        return real(source, target)

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        store.add(*made)
    assert names_below(store.root / "colours") == []

    monkeypatch.undo()
    with store.local(store.add(*made)) as local:
        assert ModelManifest.read(local) == made[1]


def test_an_upload_that_fails_leaves_no_version(
    made: tuple[Path, ModelManifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(ObjectStoragePath("memory://bucket-broken/models"))
    real = storage.upload

    def broken(source: Path, target: Any) -> None:
        if target.name.endswith(".npz"):
            raise OSError("connection reset")
        real(source, target)

    monkeypatch.setattr(storage, "upload", broken)
    with pytest.raises(OSError, match="connection reset"):
        store.add(*made)
    monkeypatch.undo()

    address = f"{store.root}/colours/{made[1].version}"
    with pytest.raises(BadInputError, match="there is no model version"):
        store.manifest(address)
    with store.local(store.add(*made)) as local:
        made[1].verify_files(local)


def test_files_in_the_store_can_be_read_by_other_users(tmp_path: Path, made: tuple[Path, ModelManifest]) -> None:
    store = ModelStore(tmp_path / "store")
    address = Path(store.add(*made))
    store.record(str(address), lambda known: known)

    assert address.stat().st_mode & 0o055 == 0o055
    assert (address / MANIFEST_NAME).stat().st_mode & 0o044 == 0o044
    assert json.loads((address / MANIFEST_NAME).read_text())["version"] == made[1].version


@pytest.mark.parametrize("name", ["", ".", "..", "_recipes", "-x", "a/b", "a b", "ä", "x" * 101, "a\n"])
def test_a_name_that_cannot_be_a_folder_is_refused(
    store: ModelStore, made: tuple[Path, ModelManifest], name: str
) -> None:
    with pytest.raises(BadInputError, match="cannot name a model"):
        check_name(name)
    with pytest.raises(BadInputError, match="cannot name a model"):
        store.add(made[0], replace(made[1], name=name))


@pytest.mark.parametrize("name", ["a", "catalog_classifier", "ResNet-50.v2", "7"])
def test_a_name_that_can_be_a_folder(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("/data/models/colours/0123", ("/data/models", "colours", "0123")),
        ("/data/models/colours/0123/", ("/data/models", "colours", "0123")),
        ("/colours/0123", ("/", "colours", "0123")),
        ("s3://bucket/models/colours/0123", ("s3://bucket/models", "colours", "0123")),
    ],
)
def test_an_address_and_its_parts(address: str, parts: tuple[str, str, str]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("/data/models/colours@production", Address("/data/models", "colours", alias="production")),
        ("/data/a@b/colours/0123", Address("/data/a@b", "colours", version="0123")),
        ("s3://aws@bucket/colours@v1", Address("s3://aws@bucket", "colours", alias="v1")),
        ("s3://aws@bucket/models/colours/0123", Address("s3://aws@bucket/models", "colours", version="0123")),
    ],
)
def test_an_address_with_an_alias_or_a_connection(address: str, parts: Address) -> None:
    assert Address.parse(address) == parts


@pytest.mark.parametrize("address", ["s3://aws@bucket", "colours@production", "/data/colours@", "/data/colours@a@b"])
def test_what_only_looks_like_an_alias(address: str) -> None:
    with pytest.raises(BadInputError, match="is no model address"):
        Address.parse(address)


def test_a_record_needs_a_version(store: ModelStore) -> None:
    """An alias may move while a stage is at work: what it found out belongs to the version that it looked at."""
    with pytest.raises(BadInputError, match="follows the alias 'production', which may move at any time"):
        store.record(f"{store.root}/colours@production", lambda known: known)


def test_records_at_once_lose_nothing(tmp_path: Path, made: tuple[Path, ModelManifest]) -> None:
    store = ModelStore(tmp_path / "store")
    address = store.add(*made)
    start = threading.Barrier(4)

    def record(own: int) -> None:
        start.wait()
        for number in range(10):
            store.record(address, lambda known, n=number: replace(known, checks={**known.checks, f"{own}-{n}": True}))

    writers = [threading.Thread(target=record, args=(own,)) for own in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert set(store.manifest(address).checks) == {f"{own}-{number}" for own in range(4) for number in range(10)}


def test_a_record_of_a_version_that_is_gone(store: ModelStore) -> None:
    with pytest.raises(BadInputError, match="there is no model version at"):
        store.record(f"{store.root}/colours/0123456789ab", lambda known: known)


def test_a_manifest_in_another_versions_folder(store: ModelStore, made: tuple[Path, ModelManifest]) -> None:
    address = store.add(*made)
    storage.write(store.root / "colours" / "0123456789ab" / MANIFEST_NAME, json.dumps(made[1].to_dict()).encode())

    with pytest.raises(DigestMismatchError, match=f"is that of another version, {made[1].version}"):
        store.manifest(address.replace(made[1].version, "0123456789ab"))


@pytest.mark.parametrize(
    "address", ["", "colours", "colours/0123", "/data/../0123", "/data/_x/0123", "/data/colours/-"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(
        BadInputError, match="is no model address; one looks like <store>/<name>/<version> or <store>/<name>@<alias>"
    ):
        split_address(address)
