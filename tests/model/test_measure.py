# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.measure import measure
from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.sweep import Space
from tests.runtime.tiny import plain_picture, write_version

QUICK = Space(threads=(1, 2), batch_sizes=(1, 4), decoders=("full", "scaled"), arenas=(True, False), seconds=0.01)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def address(store: ModelStore, tmp_path: Path) -> str:
    return store.add(tmp_path / "version", write_version(tmp_path / "version"))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(plain_picture((number, 0, 0), (40, 30)))
    return folder


def test_speeds_are_kept_in_the_manifest_for_this_type_of_cpu(
    store: ModelStore, address: str, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = measure(address, pictures=pictures, space=QUICK, store=store, stage=Stage(logging.getLogger()))
    speeds = store.manifest(address).speed
    # The decoder "scaled" has no golden pictures here to prove itself on, and is left out.
    assert {(row["threads"], row["batch"], row["decoder"], row["arena"]) for row in speeds} == {
        (threads, batch, "full", arena) for threads in (1, 2) for batch in (1, 4) for arena in (True, False)
    }
    assert {row["cpu"] for row in speeds} == {cpu_type()}
    assert all(row["images_per_second"] > 0 and row["decode_included"] for row in speeds)
    assert result["best"] == store.manifest(address).best_speed(cpu_type())
    assert "left out: profile: the decoder 'scaled'" in caplog.text


def test_a_second_measurement_takes_the_place_of_the_first(store: ModelStore, address: str, pictures: Path) -> None:
    one = Space(threads=(1,), batch_sizes=(1,), decoders=("full",), arenas=(True,), seconds=0.01)
    for _ in range(2):
        measure(address, pictures=pictures, space=one, store=store, stage=Stage(logging.getLogger()))
    assert len(store.manifest(address).speed) == 1


def test_pictures_are_needed_to_measure_a_model_that_takes_them(store: ModelStore, address: str) -> None:
    with pytest.raises(BadInputError, match="takes pictures; give a folder"):
        measure(address, pictures=None, space=QUICK, store=store, stage=Stage(logging.getLogger()))


def test_an_unknown_part_of_the_space_is_named() -> None:
    with pytest.raises(BadInputError, match=r"unknown \['cores'\]"):
        Space.from_dict({"cores": [1]})
