# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.golden import GoldenRows, largest_difference
from airflow_onnx_provider.runtime.manifest import ModelManifest
from tests.runtime.tiny import write_golden, write_version

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def manifest(version: Path) -> ModelManifest:
    return ModelManifest.read(version)


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def texts(*values: str) -> np.ndarray:
    return np.array(values, object)


def test_rows_of_several_inputs_there_and_back(tmp_path: Path, manifest: ModelManifest) -> None:
    rows = GoldenRows(
        inputs={"price": numbers(1.5, 2.5), "shop/name:0": texts("Ä & Ö", ""), "ok": np.array([True, False])},
        answers={"scores": np.eye(2, dtype=np.float32), "label": texts("yes", "no")},
        pictures=(b"\x89PNG\0", b"\xff\0\xff"),
    )
    rows.save(tmp_path / "golden.npz")
    back = GoldenRows.load(tmp_path / "golden.npz", manifest)

    for name, values in {**rows.inputs, **rows.answers}.items():
        found = {**back.inputs, **back.answers}[name]
        assert (found.dtype, found.tolist()) == (values.dtype, values.tolist())
    assert back.pictures == rows.pictures
    assert back.rows == 2


def test_many_pictures_stay_in_their_order(tmp_path: Path, manifest: ModelManifest) -> None:
    pictures = tuple(bytes([number]) for number in range(12))
    GoldenRows({"image": np.zeros((12, 4, 4, 3), np.uint8)}, {}, pictures).save(tmp_path / "golden.npz")

    assert GoldenRows.load(tmp_path / "golden.npz", manifest).pictures == pictures


def test_the_file_needs_no_pickle(tmp_path: Path) -> None:
    GoldenRows({"name": texts("a", "bc")}, {"label": texts("x", "y")}).save(tmp_path / "golden.npz")

    with np.load(tmp_path / "golden.npz", allow_pickle=False) as file:
        assert file["input:name"].tolist() == ["a", "bc"]


def test_a_file_from_before_models_had_several_inputs_is_read(tmp_path: Path) -> None:
    manifest = write_version(tmp_path)
    inputs, answers = np.ones((2, 4, 4, 3), np.uint8), np.full((2, 3), 1 / 3, np.float32)
    proved = write_golden(tmp_path, manifest, inputs, answers)
    assert proved.golden is not None
    rows = GoldenRows.load(tmp_path / proved.golden.file, proved)

    assert rows.inputs["image"].tolist() == inputs.tolist()
    assert rows.answers["scores"].tolist() == answers.tolist()
    assert (rows.rows, rows.pictures) == (2, ())


def test_no_rows() -> None:
    assert GoldenRows({}, {}).rows == 0


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        (numbers(1, 2), numbers(1, 2.5), 0.5),
        (numbers(), numbers(), 0.0),
        (numbers(NAN, 1), numbers(NAN, 1), 0.0),
        (numbers(INF, -INF), numbers(INF, -INF), 0.0),
        (numbers(INF), numbers(-INF), INF),
        (numbers(1, 2), numbers(1, 2, 3), INF),
        (np.array([3, 250], np.uint8), np.array([5, 250], np.uint8), 2.0),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (texts("a", "b"), texts("a", "b"), 0.0),
        (texts("a", "b"), texts("a", "c"), INF),
        (texts("1"), numbers(1), INF),
    ],
)
def test_how_far_apart_two_answers_are(found: np.ndarray, expected: np.ndarray, difference: float) -> None:
    assert largest_difference(found, expected) == largest_difference(expected, found) == difference


@given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.data())
def test_not_a_number_is_near_no_number(values: list[float], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    values[place] = 0.0
    other = [*values[:place], NAN, *values[place + 1 :]]

    for tolerance in (0.0, 1.0, INF):
        assert not largest_difference(numbers(*other), numbers(*values)) <= tolerance
        assert not largest_difference(numbers(*values), numbers(*other)) <= tolerance
