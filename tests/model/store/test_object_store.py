# SPDX-License-Identifier: Apache-2.0
"""A store in S3: moto's server over HTTP, reached as in Airflow, by a connection of the type `aws`."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from botocore.exceptions import ClientError

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook, open_version, store_of
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.retention import Keep, collect
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.triggers.model import OnnxModelTrigger
from tests.conftest import set_connection
from tests.model.store.processes import ended, start
from tests.model.store.versions import add_version

NAME = "colours"
BUCKET = "bucket"
SECRET = "do-not-tell"
NOTHING = Keep(last=0, moves=1, days=0)


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, Any]]:
    """The connection to a server of its own."""
    import boto3
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    one_at_a_time, real = threading.Lock(), S3Response.put_object

    def put_object(self: Any) -> Any:
        with one_at_a_time:  # S3 looks and writes in one step, moto's threads in two
            return real(self)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with mock.patch.object(S3Response, "put_object", put_object):
        server.start()
        host, port = server.get_host_and_port()
        extra = {"endpoint_url": f"http://{host}:{port}", "region_name": "us-east-1"}
        keys = {"aws_access_key_id": "somebody", "aws_secret_access_key": SECRET}
        boto3.client("s3", **extra, **keys).create_bucket(Bucket=BUCKET)
        yield {"conn_type": "aws", "login": "somebody", "password": SECRET, "extra": extra}
        server.stop()


@pytest.fixture(autouse=True)
def connections(aws: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, "s3_models", aws)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelStore:
    """Each test's own folder in the bucket, through the connection of a model store."""
    extra = {"root": f"s3://{BUCKET}/{tmp_path.name}", "storage_conn_id": "s3_models"}
    set_connection(monkeypatch, "models", {"conn_type": "onnx_model_store", "extra": extra})
    return OnnxModelStoreHook("models").get_conn()


def test_an_address_is_enough_to_reach_its_version(store: ModelStore, tmp_path: Path) -> None:
    """What a convert task returns must do for a validate task on another worker, which knows no more than the XCom."""
    version = add_version(store, "a")
    address = f"{store.root}/{NAME}/{version}"

    assert address == f"s3://s3_models@{BUCKET}/{tmp_path.name}/{NAME}/{version}"
    assert SECRET not in address
    with store_of(address).local(address) as folder:
        assert (folder / MODEL_NAME).read_text() == "a" * 50
        assert ModelManifest.read(folder).version == version
    assert not folder.exists()
    Aliases(store, NAME).point("production", version, by="ana")
    assert open_version(f"{store.root}/{NAME}@production")[1] == address


def test_what_others_wrote_is_seen_at_once(store: ModelStore) -> None:
    """fsspec remembers listings; a worker that looked too early must not stay blind."""
    other = store_of(f"{store.root}/{NAME}/000000000000")
    assert store.versions(NAME) == ()
    with pytest.raises(BadInputError, match="was never pointed at a version"):
        store.resolve(f"{store.root}/{NAME}@production")

    version = add_version(other, "a")
    Aliases(other, NAME).point("production", version, by="ana")

    assert store.versions(NAME) == (version,)
    assert store.names() == (NAME,)
    assert store.manifest(f"{store.root}/{NAME}@production").version == version


def test_the_button_in_the_ui(store: ModelStore) -> None:
    assert OnnxModelStoreHook("models").test_connection() == (True, f"{store.root} can be written and read")
    assert storage.names(store.root) == []


def test_a_service_without_conditional_writes_is_told(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Any = store.root.fs  # type: ignore[attr-defined]
    real = files.pipe_file

    def ignorant(path: str, data: bytes, **kwargs: Any) -> Any:
        return real(path, data)

    monkeypatch.setattr(files, "pipe_file", ignorant)
    fine, said = OnnxModelStoreHook("models").test_connection()
    assert not fine
    assert "it writes over a file when told not to" in said


def test_a_service_that_refuses_conditional_writes(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    files: Any = store.root.fs  # type: ignore[attr-defined]
    real = files.pipe_file

    def old(path: str, data: bytes, **kwargs: Any) -> Any:
        if kwargs:
            raise OSError(errno.ENOSYS, "A header you provided implies functionality that is not implemented") from (
                ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
            )
        return real(path, data)

    monkeypatch.setattr(files, "pipe_file", old)
    path = store.root / "note.json"
    assert storage.create(path, b"first")
    assert not storage.create(path, b"second")
    assert storage.read(path) == b"first"


def test_a_record_beside_another_loses_nothing(store: ModelStore) -> None:
    address = f"{store.root}/{NAME}/{add_version(store, 'a')}"
    others = ["theirs"]

    def mine(manifest: ModelManifest) -> ModelManifest:
        if others:  # somebody records between this task's reading and its writing
            check = others.pop()
            store.record(address, lambda known: replace(known, checks={**known.checks, check: True}))
        return replace(manifest, checks={**manifest.checks, "mine": True})

    assert set(store.record(address, mine).checks) == {"theirs", "mine"}
    assert set(store.manifest(address).checks) == {"theirs", "mine"}


def test_a_file_that_is_missing_or_changed(store: ModelStore) -> None:
    version = add_version(store, "a")
    address = f"{store.root}/{NAME}/{version}"
    kept = storage.join(store.root, f"{NAME}/{version}/{MODEL_NAME}")
    storage.write(kept, b"another model")
    with pytest.raises(DigestMismatchError, match="is not the file that was recorded"), store.local(address):
        pass
    storage.remove(kept)
    with pytest.raises(DigestMismatchError, match="model.onnx is missing"), store.local(address):
        pass
    storage.remove(storage.join(store.root, f"{NAME}/{version}/manifest.json"))
    with pytest.raises(BadInputError, match="there is no model version"), store.local(address):
        pass


def test_movers_at_once(store: ModelStore) -> None:
    versions = [add_version(store, str(number)) for number in range(3)]
    start_together = threading.Barrier(3)
    made: list[str] = []

    def move(own: str) -> None:
        start_together.wait()
        for number in range(3):
            target = versions[(versions.index(own) + number) % 3]
            pointed = Aliases(store, NAME).point("production", target, by=f"{own}-{number}")
            if pointed.changed:
                made.append(pointed.move.by)

    movers = [threading.Thread(target=move, args=(version,)) for version in versions]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()

    history = Aliases(store, NAME).history("production")
    assert sorted(move.by for move in history) == sorted(made)
    assert [move.previous for move in history[1:]] == [move.version for move in history[:-1]]


def test_a_trigger_that_opens_the_store_itself(
    store: ModelStore, aws: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's S3 file system cannot be made on an event loop, and the triggerer is one."""
    set_connection(monkeypatch, "s3_of_the_triggerer", aws)
    extra = {"root": f"s3://{BUCKET}/{tmp_path.name}", "storage_conn_id": "s3_of_the_triggerer"}
    set_connection(monkeypatch, "models", {"conn_type": "onnx_model_store", "extra": extra})
    version = add_version(store, "a")
    awaited = {"name": NAME, "alias": None, "than": None, "since": time.time() - 60}

    async def first() -> Any:
        return await anext(aiter(OnnxModelTrigger("models", awaited, 0.1, time.time() + 30).run()))

    found = asyncio.run(first()).payload
    assert found["found"]["model"] == f"s3://s3_of_the_triggerer@{BUCKET}/{tmp_path.name}/{NAME}/{version}"


def test_a_collection(store: ModelStore) -> None:
    source, gone = add_version(store, "source"), add_version(store, "gone")
    promoted = add_version(store, "promoted", origin={"parent": source})
    Aliases(store, NAME).point("production", promoted, by="ana")
    for version in (promoted, gone):
        store.remember(NAME, {"made": version}, {"model": f"{store.root}/{NAME}/{version}"})

    assert collect(store, NAME, Keep(last=0, moves=1, days=1)).removed == (), "all are younger than a day"
    assert collect(store, NAME, NOTHING).removed == (gone,)

    assert set(store.versions(NAME)) == {source, promoted}
    assert not [path for path in storage.below(store.root / NAME) if gone in path]
    assert store.recall(NAME, {"made": gone}) is None
    assert store.recall(NAME, {"made": promoted})


@pytest.mark.usefixtures("children_end")
def test_processes_at_once(store: ModelStore, tmp_path: Path) -> None:
    """Two add the same version at once, and promote and roll back while one reads and versions are collected."""
    root, go, stop = str(store.root), tmp_path / "go", tmp_path / "stop"
    aliases = Aliases(store, NAME)
    aliases.point("production", add_version(store, "first"), by="first")

    writers = [start(root, "both", f"writer-{number}", go, moves=3) for number in range(2)]
    reader = start(root, "reader", "reader", stop)

    def collect_all_the_while() -> None:
        movers: set[str] = set()
        while len(movers) < 2 and not stop.exists():  # until then, what they added has no name
            time.sleep(0.05)
            movers = {move.by.rpartition("-")[0] for move in aliases.history("production")} - {""}
        while not stop.exists():
            collect(store, NAME, NOTHING)
            time.sleep(0.1)  # the server is in this process too

    collecting = threading.Thread(target=collect_all_the_while)
    go.touch()
    collecting.start()
    said = [ended(writer) for writer in writers]
    stop.touch()
    seen = ended(reader)
    collecting.join()

    history = aliases.history("production")
    made = [by for one in said for by in one["made"]]
    assert sorted(move.by for move in history) == sorted(["first", *made]), "every move exactly once"
    assert [move.previous for move in history[1:]] == [move.version for move in history[:-1]]
    assert set(seen["versions"]) <= {move.version for move in history}
    assert len({one["address"] for one in said}) == 1
