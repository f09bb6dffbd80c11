# SPDX-License-Identifier: Apache-2.0
"""Samples and labelled rows of models that take columns, several inputs, texts or tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.evidence.columns import draw
from airflow_onnx_provider.model.evidence.samples import load_labelled, load_samples
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.preprocessing import TokenPreprocessing

FEATURES = (TensorSpec("features", "float", ("batch", 3)),)
OFFERS = (TensorSpec("price", "float", ("batch", 2)), TensorSpec("shop", "string", ("batch",)))
IDS = (TensorSpec("ids", "int64", ("batch", "length")), TensorSpec("mask", "int64", ("batch", "length")))


def manifest(inputs: tuple[TensorSpec, ...], **fields: Any) -> ModelManifest:
    given = {"preprocessing": None, "labels": ("no", "yes"), **fields}
    return ModelManifest(name="m", files={}, inputs=inputs, outputs=(), opset=18, domains=("",), **given)


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def inputs_of(path: Path, specs: tuple[TensorSpec, ...], limit: int = 100, **fields: Any) -> Any:
    return load_samples(path, limit, manifest(specs, **fields), "validation").inputs


def test_all_columns_of_a_table_are_the_features_of_one_input(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", a=[1.0, 2.0], b=[3.0, 4.0], label=["no", "yes"], c=[5.0, 6.0])

    found = inputs_of(path, FEATURES)["features"]

    assert found.dtype == np.float32
    assert sorted(found.tolist()) == [[1, 3, 5], [2, 4, 6]]


def test_a_column_an_input_and_lists_are_further_axes(tmp_path: Path) -> None:
    found = inputs_of(parquet(tmp_path / "a.parquet", price=[[1.0, 2.0]], shop=["north"], more=[1]), OFFERS)

    assert found["price"].tolist() == [[1, 2]]
    assert found["shop"].tolist() == ["north"]


def test_token_ids_are_padded_to_the_longest_row_and_masked(tmp_path: Path) -> None:
    tokens = TokenPreprocessing("ids", "mask", max_length=3, pad_id=9)
    found = inputs_of(parquet(tmp_path / "a.parquet", ids=[[1], [1, 2, 3, 4]]), IDS, preprocessing=tokens)

    rows = {tuple(row): tuple(mask) for row, mask in zip(found["ids"].tolist(), found["mask"].tolist(), strict=True)}
    assert rows == {(1, 9, 9): (1, 0, 0), (1, 2, 3): (1, 1, 1)}


def test_rows_are_drawn_over_all_files_and_row_groups_and_always_the_same(tmp_path: Path) -> None:
    for day in range(3):
        parquet(tmp_path / f"ds={day}" / "part.parquet", number=list(range(day * 100, day * 100 + 100)))
    parquet(tmp_path / "_staging" / "part.parquet", number=[-1])

    numbers = draw(tmp_path, 30, "calibration")["number"].to_pylist()

    assert len(set(numbers)) == 30
    assert {number // 100 for number in numbers} == {0, 1, 2}
    assert numbers != sorted(numbers)
    assert numbers == draw(tmp_path, 30, "calibration")["number"].to_pylist()
    assert sorted(draw(tmp_path, 1000, "calibration")["number"].to_pylist()) == list(range(300))


def test_arrays_of_an_archive_are_cast_where_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, ids=np.array([[1, 2]], np.int32), mask=np.ones((1, 2), np.uint8), other=np.zeros(1))

    assert {name: rows.dtype for name, rows in inputs_of(path, IDS).items()} == {"ids": np.int64, "mask": np.int64}


@pytest.mark.parametrize(("labels", "classes"), [(["no", "yes", "no"], [0, 1, 0]), ([1, 0, 1], [1, 0, 1])])
def test_labels_are_names_or_positions(tmp_path: Path, labels: list[Any], classes: list[int]) -> None:
    np.savez(tmp_path / "rows.npz", features=np.eye(3, dtype=np.float32), label=np.array(labels))
    table = parquet(tmp_path / "rows.parquet", features=np.eye(3).tolist(), label=labels)

    assert load_labelled(tmp_path / "rows.npz", manifest(FEATURES)).classes.tolist() == classes
    drawn = load_labelled(table, manifest(FEATURES))
    order = drawn.inputs["features"].argmax(axis=1)
    assert drawn.classes.tolist() == [classes[row] for row in order]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0]}, r"no column 'features' for the input features: float \['batch', 3\], only \['a'\]"),
        ({"features": [["x", "y", "z"]]}, r"validation: .*features"),
        ({"features": [[1.0, 2.0]]}, r"row 0: .* \(1 rows have such faults\)"),
        ({"features": pa.array([], pa.list_(pa.float32()))}, r"has no rows"),
    ],
    ids=["missing", "type", "length", "empty"],
)
def test_a_table_that_does_not_fit(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        inputs_of(parquet(tmp_path / "a.parquet", **columns), FEATURES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(1)}, r"lacks the arrays \['features'\]; the model takes features: float \['batch', 3\]"),
        ({"features": np.zeros((2, 4))}, r"found the shape \[2, 4\], the model takes \['batch', 3\]"),
        ({"features": np.array([["a", "b", "c"]])}, r"found <U1, the model takes float"),
        ({"features": np.zeros((0, 3))}, r"at least 1"),
        ({"features": np.zeros((2, 3)), "label": np.zeros(1)}, r"must have the same number of rows"),
    ],
    ids=["missing", "shape", "type", "empty", "rows"],
)
def test_an_archive_that_does_not_fit(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(BadInputError, match=message):
        inputs_of(tmp_path / "rows.npz", FEATURES)


def test_numbers_that_a_narrower_type_cannot_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", small=np.array([300]))
    with pytest.raises(BadInputError, match="do not fit into the model's int8"):
        inputs_of(tmp_path / "rows.npz", (TensorSpec("small", "int8", ("batch",)),))


def test_an_archive_that_would_run_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", features=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadInputError, match="is no plain numpy archive"):
        inputs_of(tmp_path / "rows.npz", FEATURES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["maybe"], r"labels that the model does not know: \['maybe'\]"), ([2], "classes from 2 to 2, the model knows 0")],
)
def test_labels_that_the_model_does_not_know(tmp_path: Path, labels: list[Any], message: str) -> None:
    np.savez(tmp_path / "rows.npz", features=np.zeros((1, 3)), label=np.array(labels))
    with pytest.raises(BadInputError, match=message):
        load_labelled(tmp_path / "rows.npz", manifest(FEATURES))


def test_rows_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", features=np.zeros((1, 3)))
    with pytest.raises(BadInputError, match="has no array 'label'"):
        load_labelled(tmp_path / "rows.npz", manifest(FEATURES))
    with pytest.raises(BadInputError, match="has no column 'label'"):
        load_labelled(parquet(tmp_path / "a.parquet", features=[[0.0, 0.0, 0.0]]), manifest(FEATURES))


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b,c")
    with pytest.raises(BadInputError, match=r"rows.csv is neither Parquet nor an .npz file; the model takes features"):
        inputs_of(tmp_path / "rows.csv", FEATURES)
    (tmp_path / "rows.parquet").write_text("no parquet")
    with pytest.raises(BadInputError, match="cannot be read as Parquet"):
        inputs_of(tmp_path / "rows.parquet", FEATURES)
