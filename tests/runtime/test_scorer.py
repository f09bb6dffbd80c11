# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.feed import input_columns
from airflow_onnx_provider.runtime.golden import GoldenRows
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.outcomes import outcome_schema
from airflow_onnx_provider.runtime.pictures import read_picture
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.scorer import score_rows
from airflow_onnx_provider.runtime.session import LoadedModel
from tests.runtime.test_feed import cut
from tests.runtime.tiny import FEATURES, OFFERS, PREPROCESSING, TEXTS, TOKENS, VOCABULARY, loaded, plain_picture

COLOURS = [(250, 0, 0), (0, 240, 0), (0, 0, 230), (90, 80, 70), (10, 200, 190), (255, 255, 255), (0, 0, 0)]
BROKEN = {
    b"": ("decode", "empty_file"),
    b"<html>404 Not Found</html>": ("decode", "not_an_image"),
    plain_picture((1, 2, 3), (64, 64))[:80]: ("decode", "broken_image"),
}
PICTURES = [*map(plain_picture, COLOURS), *BROKEN, None]

Outcome = tuple[str, str] | dict[str, np.ndarray]
"""A fault's stage and reason, or what the model answers when it is called directly with that row alone."""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("features"), FEATURES, {"features": np.eye(3, dtype=np.float32)})


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    golden = {"price": np.float32([[1, 2], [3, 1]]), "shop": np.array(["north", "?"], object)}
    return loaded(tmp_path_factory.mktemp("offers"), OFFERS, golden, labels=("buy", "wait"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    golden = {"ids": np.array([[1, 2, 3]]), "mask": np.array([[1, 1, 0]])}
    return loaded(tmp_path_factory.mktemp("texts"), TEXTS, golden, preprocessing=TOKENS)


def scored(
    batches: Sequence[pa.RecordBatch],
    model: LoadedModel,
    given_columns: Any,
    metrics: TaskMetrics | None = None,
    raw: Sequence[str] = (),
    **profile: Any,
) -> list[dict[str, Any]]:
    """All rows that leave the scorer, by a key that counts them."""
    schema = batches[0].schema if batches else pa.schema([("x", pa.string())])
    answers = Answers.of(model.manifest, raw=raw)
    columns = input_columns(model.manifest, given_columns, schema) if batches else {}
    left = score_rows(
        with_keys(batches),
        replace(model, profile=ExecutionProfile(**profile)),
        columns=columns,
        kept=[pa.field("key", pa.int64())],
        answers=answers,
        metrics=metrics or TaskMetrics(),
    )
    rows = []
    for batch in left:
        assert batch.schema == outcome_schema([pa.field("key", pa.int64())], answers)
        rows += batch.to_pylist()
    assert [row["key"] for row in rows] == list(range(sum(batch.num_rows for batch in batches)))
    return rows


def with_keys(batches: Sequence[pa.RecordBatch]) -> Any:
    first = 0
    for batch in batches:
        yield batch.append_column("key", pa.array(range(first, first + batch.num_rows), pa.int64()))
        first += batch.num_rows


def directly(model: LoadedModel, **inputs: Any) -> dict[str, np.ndarray]:
    """The model's own answers to one row."""
    outputs = [spec.name for spec in model.manifest.outputs]
    feeds = {name: np.asarray(values)[np.newaxis] for name, values in inputs.items()}
    return {name: values[0] for name, values in zip(outputs, model.session.run(outputs, feeds), strict=True)}


def require_same(rows: list[dict[str, Any]], expected: Sequence[Outcome], model: LoadedModel) -> None:
    """Every row has its own outcome, and no other one."""
    names = model.manifest.labels or tuple(map(str, range(99)))
    for row, wanted in zip(rows, expected, strict=True):
        if isinstance(wanted, tuple):
            assert (row["outcome"], row["stage"], row["reason"]) == ("quarantined", *wanted)
            assert row["error"]
            assert {row[name] for name in ("label", "score")} == {None}
        else:
            assert (row["outcome"], row["stage"], row["reason"], row["error"]) == ("predicted", None, None, None)
            assert row["score"] == pytest.approx(wanted["scores"].max(), rel=1e-5)
            best = np.flatnonzero(np.isclose(wanted["scores"], wanted["scores"].max(), rtol=1e-5))
            assert row["label"] in {names[number] for number in best}
            for name in set(row) & set(wanted):
                assert row[name] == (wanted[name] if name == "said" else pytest.approx(wanted[name], rel=1e-4))


borders = st.lists(st.integers(0, 9), max_size=5)
profiles = st.fixed_dictionaries({"batch_size": st.integers(1, 9), "decode_threads": st.sampled_from([0, 0, 1, 3])})
few = settings(deadline=None, max_examples=25)


def picture_outcome(model: LoadedModel, picture: bytes | None) -> Outcome:
    if picture is None:
        return ("read", "null_input")
    if picture in BROKEN:
        return BROKEN[picture]
    return directly(model, image=decode_image(picture, PREPROCESSING))


@given(st.lists(st.sampled_from(PICTURES), max_size=25), borders, profiles)
@few
def test_pictures_as_bytes(model: LoadedModel, pictures: list[Any], sizes: list[int], profile: dict[str, int]) -> None:
    batches = cut(pa.RecordBatch.from_pydict({"p": pa.array(pictures, pa.binary())}), sizes)
    metrics = TaskMetrics()
    rows = scored(batches, model, "p", metrics, **profile)

    require_same(rows, [picture_outcome(model, picture) for picture in pictures], model)
    good = sum(row["outcome"] == "predicted" for row in rows)
    assert metrics.rows == good
    assert metrics.batches == -(-good // profile["batch_size"]) == sum(metrics.latency.values())
    assert metrics.wait_seconds >= 0
    assert metrics.peak_memory_mb > 10
    assert metrics.wall_seconds > metrics.inference_seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures as files, by their place in the list; the null one is missing."""
    folder = tmp_path_factory.mktemp("day")
    for number, picture in enumerate(PICTURES):
        if picture is not None:
            (folder / f"{number}.png").write_bytes(picture)
    return folder


@given(st.lists(st.integers(0, len(PICTURES) - 1), max_size=25), borders, profiles)
@few
def test_pictures_as_files(
    model: LoadedModel, folder: Path, numbers: list[int], sizes: list[int], profile: dict[str, int]
) -> None:
    addresses = pa.array([str(folder / f"{number}.png") for number in numbers], pa.string())
    metrics = TaskMetrics()
    rows = scored(cut(pa.RecordBatch.from_pydict({"p": addresses}), sizes), model, "p", metrics, **profile)

    pictures = [PICTURES[number] for number in numbers]
    missing = ("read", "unreadable")
    require_same(rows, [missing if one is None else picture_outcome(model, one) for one in pictures], model)
    assert metrics.wait_seconds >= 0


numbers = st.none() | st.floats(-5, 5, width=32)


@given(st.lists(st.none() | st.lists(numbers, min_size=2, max_size=4), max_size=25), borders, profiles)
@few
def test_one_column_of_arrays(
    features: LoadedModel, arrays: list[Any], sizes: list[int], profile: dict[str, int]
) -> None:
    def outcome(array: list[float | None] | None) -> Outcome:
        if array is None or (len(array) == 3 and None in array):
            return ("read", "null_input")
        return directly(features, features=np.float32(array)) if len(array) == 3 else ("read", "wrong_shape")

    batches = cut(pa.RecordBatch.from_pydict({"f": pa.array(arrays, pa.list_(pa.float32()))}), sizes)
    rows = scored(batches, features, "f", raw=["both", "best"], **profile)

    # With raw outputs and without labels there is no label; the scores stand in the second row of ``both``.
    for row, wanted in zip(rows, map(outcome, arrays), strict=True):
        if isinstance(wanted, tuple):
            assert (row["stage"], row["reason"], row["both"], row["best"]) == (*wanted, None, None)
        else:
            assert np.array(row["both"]) == pytest.approx(wanted["both"], rel=1e-4, abs=1e-6)
            assert row["best"] == np.argmax(row["both"][1])


@given(st.lists(st.tuples(numbers, st.integers(-5, 5), numbers), max_size=25), borders, profiles)
@few
def test_several_columns_as_one_tensor(
    features: LoadedModel, table: list[Any], sizes: list[int], profile: dict[str, int]
) -> None:
    columns = {
        "a": pa.array([row[0] for row in table], pa.float64()),
        "b": pa.array([row[1] for row in table], pa.int8()),
        "c": pa.array([row[2] for row in table], pa.float32()),
    }
    rows = scored(cut(pa.RecordBatch.from_pydict(columns), sizes), features, ["a", "b", "c"], **profile)

    expected = [
        ("read", "null_input") if None in row else directly(features, features=np.float32(row)) for row in table
    ]
    require_same(rows, expected, features)


@given(
    st.lists(st.tuples(numbers, numbers, st.none() | st.sampled_from(["north", "south", "Ä", ""])), max_size=25),
    borders,
    profiles,
)
@few
def test_several_inputs_with_texts(
    offers: LoadedModel, table: list[Any], sizes: list[int], profile: dict[str, int]
) -> None:
    columns = {
        name: pa.array([row[number] for row in table], kind)
        for number, (name, kind) in enumerate([("a", pa.float32()), ("b", pa.float32()), ("s", pa.string())])
    }
    batches = cut(pa.RecordBatch.from_pydict(columns), sizes)
    rows = scored(batches, offers, {"price": ["a", "b"], "shop": "s"}, raw=["said"], **profile)

    expected = [
        ("read", "null_input")
        if None in row
        else directly(offers, price=np.float32(row[:2]), shop=np.array(row[2], object))
        for row in table
    ]
    require_same(rows, expected, offers)


token_cells = st.none() | st.lists(
    st.sampled_from([*range(VOCABULARY), None, VOCABULARY, -VOCABULARY - 1]), max_size=TOKENS.max_length + 2
)


@given(st.lists(token_cells, max_size=25), borders, st.integers(1, 60), st.sampled_from([0, 1]))
@few
def test_token_ids(texts: LoadedModel, cells: list[Any], sizes: list[int], budget: int, threads: int) -> None:
    """An id that the table does not have makes the model fail: that row is set apart, those beside it are scored."""

    def outcome(cell: list[int | None] | None) -> Outcome:
        if cell is None or None in cell:
            return ("read", "null_input")
        if not 1 <= len(cell) <= TOKENS.max_length:
            return ("read", "wrong_length")
        if not all(0 <= token < VOCABULARY for token in cell):  # type: ignore[operator]
            return ("inference", "model_error")
        return directly(texts, ids=np.int64(cell), mask=np.ones(len(cell), np.int64))

    metrics = TaskMetrics()
    batches = cut(pa.RecordBatch.from_pydict({"t": pa.array(cells, pa.list_(pa.int32()))}), sizes)
    rows = scored(batches, texts, "t", metrics, token_budget=budget, decode_threads=threads)

    require_same(rows, [outcome(cell) for cell in cells], texts)
    assert metrics.rows == sum(row["outcome"] == "predicted" for row in rows)
    fed = [cell for cell in cells if isinstance(outcome(cell), dict) or outcome(cell) == ("inference", "model_error")]
    assert metrics.tokens == sum(map(len, fed))
    assert metrics.padding >= 0


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_no_batch_and_no_row(model: LoadedModel, threads: int) -> None:
    assert scored([], model, "p", decode_threads=threads) == []
    empty = pa.RecordBatch.from_pydict({"p": pa.array([], pa.binary())})
    metrics = TaskMetrics()
    assert scored([empty, empty], model, "p", metrics, decode_threads=threads) == []
    assert (metrics.rows, metrics.batches) == (0, 0)
    assert metrics.wait_seconds >= 0


def test_a_single_row(model: LoadedModel) -> None:
    (row,) = scored([pa.RecordBatch.from_pydict({"p": [plain_picture((0, 240, 0))]})], model, "p")

    assert (row["key"], row["outcome"], row["label"]) == (0, "predicted", "green")


def test_rows_leave_while_others_are_still_on_their_way(model: LoadedModel) -> None:
    """A stream of Arrow batches never lies in memory as a whole."""
    arrived = 0

    def source() -> Any:
        nonlocal arrived
        for key in range(200):
            arrived += 1
            yield pa.RecordBatch.from_pydict({"key": [key], "p": [plain_picture((0, 240, 0))]})

    left = score_rows(
        source(),
        replace(model, profile=ExecutionProfile(batch_size=4)),
        columns={"image": ("p",)},
        kept=[pa.field("key", pa.int64())],
        answers=Answers.of(model.manifest),
        metrics=TaskMetrics(),
    )
    furthest = max(arrived - number for number, _ in enumerate(left))

    assert furthest <= 5 * 4


@pytest.mark.parametrize("threads", [0, 1])
def test_a_model_that_fails_on_its_golden_rows_too_ends_the_task(
    texts: LoadedModel, threads: int, no_feed_is_left: Callable[[], bool]
) -> None:
    bad = {"ids": np.array([[VOCABULARY]]), "mask": np.array([[1]])}
    model = replace(texts, golden=GoldenRows(bad, {"scores": np.ones((1, 3), np.float32)}))
    batches = [pa.RecordBatch.from_pydict({"t": [[1], [VOCABULARY]]})] * 20

    assert scored([pa.RecordBatch.from_pydict({"t": [[1]]})], model, "t")[0]["outcome"] == "predicted"
    with pytest.raises(Exception, match="out of data bounds"):
        scored(batches, model, "t", decode_threads=threads, token_budget=8)
    assert no_feed_is_left()


@pytest.mark.parametrize("threads", [0, 1])
def test_a_source_that_breaks_ends_the_task_with_its_own_error(model: LoadedModel, threads: int) -> None:
    def source() -> Any:
        yield pa.RecordBatch.from_pydict({"key": [1], "p": [plain_picture((0, 240, 0))]})
        raise ConnectionResetError("the JVM is gone")

    with pytest.raises(ConnectionResetError, match="the JVM is gone"):
        list(
            score_rows(
                source(),
                replace(model, profile=ExecutionProfile(decode_threads=threads)),
                columns={"image": ("p",)},
                kept=[],
                answers=Answers.of(model.manifest),
                metrics=TaskMetrics(),
            )
        )


@pytest.fixture
def no_feed_is_left() -> Callable[[], bool]:
    def ended() -> bool:
        for thread in threading.enumerate():
            if thread.name == "feed":
                thread.join(2)
        return not any(thread.name == "feed" for thread in threading.enumerate())

    return ended


def test_a_task_that_is_given_up_leaves_no_thread(model: LoadedModel, no_feed_is_left: Callable[[], bool]) -> None:
    batch = pa.RecordBatch.from_pydict({"key": [1], "p": [plain_picture((0, 240, 0))]})
    left = score_rows(
        (batch for _ in range(10**6)),
        replace(model, profile=ExecutionProfile(batch_size=1)),
        columns={"image": ("p",)},
        kept=[],
        answers=Answers.of(model.manifest),
        metrics=TaskMetrics(),
    )
    next(left)
    left.close()  # type: ignore[attr-defined]

    assert no_feed_is_left()


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")

    assert read_picture(str(tmp_path / "a.png")) == b"bytes"
