from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime import raw_speed
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.raw_speed import images_per_second, measure_in_child
from airflow_onnx_provider.runtime.session import LoadedModel
from tests.runtime.tiny import plain_picture


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Twenty good pictures, an empty one and a missing one."""
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for path in paths:
        path.write_bytes(plain_picture((200, 10, 10)))
    (tmp_path / "empty.png").touch()
    return [*map(str, paths), str(tmp_path / "empty.png"), str(tmp_path / "missing.png")]


def test_pictures_a_second_of_a_plain_loop(pictures: list[str], model: LoadedModel) -> None:
    began = time.perf_counter()
    rate = images_per_second(pictures, model, batch_size=4)

    assert rate >= len(pictures) / (time.perf_counter() - began)


def test_no_pictures_have_no_speed(model: LoadedModel) -> None:
    assert images_per_second([], model, batch_size=4) == 0.0


def test_a_long_day_is_cut_short(pictures: list[str], model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_speed, "MAX_SECONDS", 0.05)
    began = time.perf_counter()

    assert images_per_second(pictures * 100_000, model, batch_size=4) > 0
    assert time.perf_counter() - began < 2


def test_the_measurement_runs_in_a_process_of_its_own(pictures: list[str], version: Path) -> None:
    digest = ModelManifest.read(version).digest

    assert measure_in_child(pictures, version, digest, threads=1, batch_size=4) > 0


def test_a_measurement_that_fails_gives_the_childs_own_error(pictures: list[str], version: Path) -> None:
    with pytest.raises(BadInputError, match="expected the model 000000000000…"):
        measure_in_child(pictures, version, "0" * 64, threads=1, batch_size=4)
