# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.batching import Batch, Fault
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.feed import feed, input_columns
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.preprocessing import TokenPreprocessing
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from tests.runtime.tiny import PREPROCESSING, TOKENS, plain_picture

IMAGE = TensorSpec("image", "uint8", ("batch", 4, 4, 3))
FEATURES = TensorSpec("features", "float", ("batch", 3))
PRICE = TensorSpec("price", "float", ("batch", 2))
SHOP = TensorSpec("shop", "string", ("batch",))
IDS, MASK = (TensorSpec(name, "int64", ("batch", "length")) for name in ("ids", "mask"))


def manifest_of(*inputs: TensorSpec, pre: Any = None) -> ModelManifest:
    return ModelManifest("tiny", {}, inputs, (), 18, ("",), pre)


PICTURES = manifest_of(IMAGE, pre=PREPROCESSING)
TABULAR = manifest_of(FEATURES)
OFFERS = manifest_of(PRICE, SHOP)
TEXTS = manifest_of(IDS, MASK, pre=TOKENS)


def schema(**types: pa.DataType) -> pa.Schema:
    return pa.schema(list(types.items()))


NUMBERS = schema(a=pa.float32(), b=pa.float32(), c=pa.int16(), d=pa.float64(), name=pa.string())


@pytest.mark.parametrize(
    ("manifest", "given", "columns"),
    [
        (PICTURES, "file", {"image": ("file",)}),
        (TABULAR, ["a", "b", "c"], {"features": ("a", "b", "c")}),
        (TABULAR, {"features": ["c", "a", "b"]}, {"features": ("c", "a", "b")}),
        (OFFERS, {"shop": "name", "price": ["a", "b"]}, {"shop": ("name",), "price": ("a", "b")}),
        (TEXTS, "tokens", {"ids": ("tokens",)}),
        (TEXTS, {"ids": "tokens"}, {"ids": ("tokens",)}),
    ],
)
def test_which_columns_feed_which_input(manifest: ModelManifest, given: Any, columns: dict[str, Any]) -> None:
    data = schema(file=pa.string(), tokens=pa.list_(pa.int32()))

    assert input_columns(manifest, given, pa.schema([*NUMBERS, *data])) == columns


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()])
def test_pictures_come_as_bytes_or_as_addresses(kind: pa.DataType) -> None:
    assert input_columns(PICTURES, "p", schema(p=kind)) == {"image": ("p",)}


@pytest.mark.parametrize(
    ("manifest", "given", "message"),
    [
        (TABULAR, ["a", "b", "x"], r"there is no column x; the data has a, b, c, d, name"),
        (TABULAR, [], r"there is no column for the input features"),
        (OFFERS, "a", r"tiny has the inputs price, shop; say which columns feed each: input={'price': …}"),
        (OFFERS, {"price": ["a", "b"]}, r"has the inputs \['price', 'shop'\], but columns for \['price'\]"),
        (OFFERS, {"price": ["a", "b"], "shop": "name", "size": "c"}, r"but columns for \['price', 'shop', 'size'\]"),
        (TABULAR, ["a", "b"], r"2 columns are a tensor \[batch, 2\], but the input is features: float \[batch, 3\]"),
        (TABULAR, ["a", "b", "name"], r"the column name is string, but the input features: float \[batch, 3\] takes"),
        (OFFERS, {"price": ["a", "b"], "shop": "c"}, r"the column c is smallint, but the input shop: string \[batch\]"),
        (TEXTS, "a", r"column a is float, but ids takes token ids: one column array<int>"),
        (TEXTS, ["c", "c2"], r"there is no column c2"),
        (TEXTS, {"ids": "c", "mask": "c"}, r"has the inputs \['ids'\], but columns for \['ids', 'mask'\]"),
        (PICTURES, "a", r"the column a is float, but the input image: uint8 \[batch, 4, 4, 3\] takes"),
    ],
)
def test_columns_that_do_not_fit_are_refused_by_name(manifest: ModelManifest, given: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        input_columns(manifest, given, NUMBERS)


def test_a_preprocessing_that_does_not_make_what_the_model_takes_is_refused() -> None:
    types = TensorSpec("types", "int64", ("batch", "length"))
    with pytest.raises(BadInputError, match=r"\['ids', 'mask', 'types'\], but its preprocessing makes \['ids', 'mask'"):
        input_columns(manifest_of(IDS, MASK, types, pre=TOKENS), "t", schema(t=pa.list_(pa.int32())))
    for inputs in ([TensorSpec("image", "float", IMAGE.shape)], [TensorSpec("image", "uint8", ("batch", 8, 8, 3))]):
        with pytest.raises(
            BadInputError, match=r"pictures become one input uint8 \[batch, 4, 4, 3\], but it has image"
        ):
            input_columns(manifest_of(*inputs, pre=PREPROCESSING), "p", schema(p=pa.binary()))
    with pytest.raises(BadInputError, match="but it has image: uint8.*, shop: string"):
        input_columns(
            manifest_of(IMAGE, SHOP, pre=PREPROCESSING),
            {"image": "p", "shop": "s"},
            schema(p=pa.binary(), s=pa.string()),
        )


Fed = tuple[dict[int, dict[str, Any]], dict[int, tuple[str, str]], list[Batch]]


def fed(
    batches: Iterable[pa.RecordBatch],
    manifest: ModelManifest,
    given: Any,
    metrics: TaskMetrics | None = None,
    **profile: Any,
) -> Fed:
    """What each row was fed as, what is wrong with each other row, and the model batches."""
    batches = list(batches)
    columns = input_columns(manifest, given, batches[0].schema)
    values: dict[int, dict[str, Any]] = {}
    faults: dict[int, tuple[str, str]] = {}
    made: list[Batch] = []
    arrived = 0
    for event in feed(batches, manifest, columns, ExecutionProfile(**profile), metrics or TaskMetrics()):
        match event:
            case Batch():
                made.append(event)
                for place, row in enumerate(event.rows.tolist()):
                    assert row not in {*values, *faults}
                    assert row < arrived, "a row comes after the Arrow batch that it is in"
                    values[row] = {name: np.array(tensor[place]) for name, tensor in event.feeds.items()}
            case Fault():
                assert event.row not in {*values, *faults}
                assert event.row < arrived
                faults[event.row] = (event.error.stage, event.error.reason)
            case _:
                arrived += event.num_rows
    assert sorted([*values, *faults]) == list(range(arrived))
    return values, faults, made


def cut(batch: pa.RecordBatch, sizes: Sequence[int]) -> list[pa.RecordBatch]:
    """The same rows in slices of these sizes, and a last one with the rest."""
    edges = np.minimum(np.cumsum([0, *sizes]), batch.num_rows).tolist()
    return [batch.slice(start, stop - start) for start, stop in zip(edges, [*edges[1:], batch.num_rows], strict=True)]


COLOURS = [(250, 0, 0), (0, 240, 0), (0, 0, 230), (90, 80, 70), (255, 255, 255)]
FILES = [*map(plain_picture, COLOURS), None, b"", b"<html>"]
PICTURE_FAULTS = {None: ("read", "null_input"), b"": ("decode", "empty_file"), b"<html>": ("decode", "not_an_image")}


@given(
    st.lists(st.sampled_from(FILES), max_size=25),
    st.lists(st.integers(0, 9), max_size=5),
    st.integers(1, 7),
    st.integers(0, 3),
    st.sampled_from([pa.binary(), pa.large_binary()]),
)
@settings(deadline=None, max_examples=50)
def test_pictures_as_bytes(
    files: list[bytes | None], sizes: list[int], batch_size: int, threads: int, kind: pa.DataType
) -> None:
    batches = cut(pa.RecordBatch.from_pydict({"p": pa.array(files, kind)}), sizes)
    values, faults, made = fed(batches, PICTURES, "p", batch_size=batch_size, decode_threads=threads)

    assert {row: files[row] for row in faults} == {
        row: file for row, file in enumerate(files) if file in PICTURE_FAULTS
    }
    assert all(fault == PICTURE_FAULTS[files[row]] for row, fault in faults.items())
    for row, found in values.items():
        assert np.array_equal(found["image"], decode_image(files[row] or b"", PREPROCESSING))
    assert list(values) == sorted(values)
    assert all(len(batch.feeds["image"]) == len(batch.rows) <= batch_size for batch in made)


def test_pictures_as_files(tmp_path: Path) -> None:
    for number, file in enumerate(FILES):
        if file is not None:
            (tmp_path / f"{number}.png").write_bytes(file)
    (tmp_path / "folder").mkdir()
    files = [str(tmp_path / f"{number}.png") for number in range(len(FILES))]
    addresses = pa.array([*files, None, str(tmp_path / "folder"), *files * 20])
    metrics = TaskMetrics()
    values, faults, _ = fed(cut(pa.RecordBatch.from_pydict({"p": addresses}), [3, 4, 0]), PICTURES, "p", metrics)

    for row in range(5):
        assert np.array_equal(values[row]["image"], decode_image(FILES[row] or b"", PREPROCESSING))
    assert {row: fault for row, fault in faults.items() if row < 10} == {
        5: ("read", "unreadable"),
        6: ("decode", "empty_file"),
        7: ("decode", "not_an_image"),
        8: ("read", "null_input"),
        9: ("read", "unreadable"),
    }
    assert len(values) == 5 * 21
    assert metrics.read_seconds > 0
    assert metrics.decode_seconds > 0


def test_tensors_in_the_place_of_pictures() -> None:
    pixels = decode_image(FILES[0] or b"", PREPROCESSING)
    batch = pa.RecordBatch.from_pydict({"p": pa.array([pixels.ravel().tolist()], pa.list_(pa.uint8()))})
    values, _, _ = fed([batch], PICTURES, "p")

    assert np.array_equal(values[0]["image"], pixels)


offers = st.lists(
    st.tuples(
        st.none() | st.floats(-100, 100, width=32), st.integers(-9, 9), st.none() | st.sampled_from(["north", "Ä", ""])
    ),
    max_size=25,
)


@given(offers, st.lists(st.integers(0, 9), max_size=5), st.integers(1, 7))
@settings(deadline=None, max_examples=50)
def test_several_inputs_of_several_columns(rows: list[Any], sizes: list[int], batch_size: int) -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "shop": pa.array([row[2] for row in rows], pa.string()),
            "price": pa.array([row[0] for row in rows], pa.float32()),
            "count": pa.array([row[1] for row in rows], pa.int16()),
        }
    )
    given_columns = {"price": ["price", "count"], "shop": "shop"}
    values, faults, made = fed(cut(batch, sizes), OFFERS, given_columns, batch_size=batch_size)

    assert faults == {row: ("read", "null_input") for row, values in enumerate(rows) if None in values}
    for row, found in values.items():
        assert (found["price"].tolist(), found["shop"].item()) == (list(rows[row][:2]), rows[row][2])
    assert list(values) == sorted(values)
    assert all(len(tensor) <= batch_size for one in made for tensor in one.feeds.values())


TOKEN_FAULTS = {"null_input", "wrong_length"}
token_cells = st.none() | st.lists(st.none() | st.integers(0, 19), max_size=TOKENS.max_length + 3)


def token_fault(row: list[int | None] | None) -> str | None:
    if row is None or None in row:
        return "null_input"
    return None if 1 <= len(row) <= TOKENS.max_length else "wrong_length"


@given(
    st.lists(token_cells, max_size=30),
    st.lists(st.integers(0, 9), max_size=5),
    st.integers(1, 80),
    st.sampled_from([pa.int32(), pa.int64(), pa.int16()]),
)
@settings(deadline=None, max_examples=80)
def test_token_ids(rows: list[Any], sizes: list[int], budget: int, kind: pa.DataType) -> None:
    """Null, empty, too long, null inside; in slices of one Arrow array, whose offsets do not begin at 0."""
    batches = cut(pa.RecordBatch.from_pydict({"t": pa.array(rows, pa.list_(kind))}), sizes)
    metrics = TaskMetrics()
    values, faults, made = fed(batches, TEXTS, "t", metrics, token_budget=budget)

    wrong = {row: token_fault(cell) for row, cell in enumerate(rows)}
    assert faults == {row: ("read", reason) for row, reason in wrong.items() if reason}
    for row, found in values.items():
        count, width = len(rows[row]), len(found["ids"])
        assert found["ids"].tolist() == rows[row] + [TOKENS.pad_id] * (width - count)
        assert found["mask"].tolist() == [1] * count + [0] * (width - count)
        assert found["ids"].dtype == found["mask"].dtype == np.int64
    assert all(len(batch.rows) == 1 or batch.feeds["ids"].size <= budget for batch in made)
    assert metrics.tokens == sum(len(rows[row]) for row in values)
    assert metrics.padding == sum(batch.feeds["ids"].size for batch in made) - metrics.tokens


def test_lengths_are_gathered_over_many_arrow_batches() -> None:
    """One long and one short text in each Arrow batch: together they fill batches of one length each."""
    batches = [pa.RecordBatch.from_pydict({"t": [[1] * 12, [2]]}) for _ in range(10)]
    _, _, made = fed(batches, TEXTS, "t", token_budget=120)

    assert [batch.feeds["ids"].shape for batch in made] == [(10, 8), (10, 12)]


def test_the_window_is_bounded() -> None:
    batches = [pa.RecordBatch.from_pydict({"t": [[1] * 8]}) for _ in range(200)]
    arrived = most = 0
    profile = ExecutionProfile(token_budget=8)
    for event in feed(batches, TEXTS, {"ids": ("t",)}, profile, TaskMetrics()):
        arrived += 1 if isinstance(event, pa.RecordBatch) else -len(event.rows)
        most = max(most, arrived)

    assert most == 64


def test_a_null_row_may_hide_values_behind_it() -> None:
    """Arrow allows a null list to cover values; they belong to nobody."""
    null = pa.array([False, True, False])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4, 5], pa.int32()), pa.array([1, 2, None, 4, 5]), mask=null)
    values, faults, _ = fed([pa.RecordBatch.from_pydict({"t": lists})], TEXTS, "t")

    assert faults == {1: ("read", "null_input")}
    assert {row: found["ids"][: found["mask"].sum()].tolist() for row, found in values.items()} == {0: [1, 2], 2: [5]}


def test_an_id_that_the_models_type_cannot_hold_is_a_fault_and_no_other_id() -> None:
    ids = TensorSpec("ids", "int32", ("batch", "length"))
    batch = pa.RecordBatch.from_pydict({"t": [[5], [2**32 + 5], [7]]})
    values, faults, _ = fed([batch.slice(0, 0), batch], manifest_of(ids, pre=TokenPreprocessing("ids")), "t")

    assert faults == {1: ("read", "out_of_range")}
    assert {row: found["ids"][0] for row, found in values.items()} == {0: 5, 2: 7}


@pytest.mark.parametrize("manifest", [PICTURES, TABULAR, TEXTS])
def test_nothing_comes_of_nothing(manifest: ModelManifest) -> None:
    assert list(feed([], manifest, {"ids": ("t",)}, ExecutionProfile(), TaskMetrics())) == []
