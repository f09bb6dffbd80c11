# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import ModelManifest
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.raw_speed import Sample, images_per_second, measure_in_child
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


class Counted(LoadedModel):
    """A model that counts the rows it is given."""

    rows = 0

    def __init__(self, model: LoadedModel, batch_size: int) -> None:
        super().__init__(model.manifest, model.session, ExecutionProfile(batch_size=batch_size))

    def run(self, batch: np.ndarray) -> Any:
        self.__dict__["rows"] = self.rows + len(batch)  # the class is frozen
        return super().run(batch)


def test_pictures_a_second_of_a_plain_loop(pictures: list[str], model: LoadedModel) -> None:
    began = time.perf_counter()
    rate = images_per_second(pictures, model)

    assert rate >= len(pictures) / (time.perf_counter() - began)


def test_no_pictures_have_no_speed(model: LoadedModel) -> None:
    assert images_per_second([], model) == 0.0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_every_picture_is_scored_whatever_the_batch(pictures: list[str], model: LoadedModel, batch_size: int) -> None:
    scored = Counted(model, batch_size)
    images_per_second(pictures, scored)

    assert scored.rows == 20


def test_pictures_may_be_given_as_bytes(model: LoadedModel) -> None:
    assert images_per_second([plain_picture((1, 2, 3)), b"broken"], model) > 0


def test_a_long_day_is_cut_short(pictures: list[str], model: LoadedModel) -> None:
    began = time.perf_counter()

    assert images_per_second(itertools.cycle(pictures), model, max_seconds=0.05) > 0
    assert time.perf_counter() - began < 2


def test_the_measurement_runs_in_a_process_of_its_own(pictures: list[str], version: Path) -> None:
    digest = ModelManifest.read(version).digest

    assert measure_in_child(Sample(tuple(pictures)), version, digest, ExecutionProfile(batch_size=4)) > 0


def test_a_measurement_that_fails_gives_the_childs_own_error(pictures: list[str], version: Path) -> None:
    with pytest.raises(BadInputError, match="expected the model 000000000000…"):
        measure_in_child(Sample(tuple(pictures)), version, "0" * 64, ExecutionProfile())


def test_a_picture_that_crashes_the_process_costs_only_the_rest_of_the_measurement(
    tmp_path: Path, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for pydicom reads at the address 0, which the system answers with SIGSEGV."""
    (tmp_path / "pydicom.py").write_text("import ctypes\n\nctypes.string_at(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    good, bad = tmp_path / "good.png", tmp_path / "bad.dcm"
    good.write_bytes(plain_picture((1, 2, 3)))
    bad.write_bytes(bytes(128) + b"DICM")
    digest = ModelManifest.read(version).digest

    late = measure_in_child(Sample((str(good),) * 200 + (str(bad),)), version, digest, ExecutionProfile())
    at_once = measure_in_child(Sample((str(bad),)), version, digest, ExecutionProfile())

    assert late > 0
    assert at_once == 0.0
