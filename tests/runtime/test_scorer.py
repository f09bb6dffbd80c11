from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.metrics import TaskMetrics
from airflow_onnx_provider.runtime.scorer import (
    MAX_ERROR_LENGTH,
    METRICS,
    OUTCOME_SCHEMA,
    PREDICTED,
    QUARANTINED,
    read_picture,
    score_pictures,
    top_label,
)
from airflow_onnx_provider.runtime.session import LoadedModel
from tests.runtime.tiny import LABELS, PREPROCESSING, plain_picture

COLOURS = [(250, 0, 0), (0, 240, 0), (0, 0, 230), (90, 80, 70), (10, 200, 190), (255, 255, 255), (0, 0, 0)]

BROKEN = {
    "missing.png": None,
    "empty.png": b"",
    "text.png": b"<html>404 Not Found</html>",
    "cut.png": plain_picture((1, 2, 3), (64, 64))[:80],
}
REASONS = {
    "missing.png": ("read", "unreadable"),
    "empty.png": ("decode", "empty_file"),
    "text.png": ("decode", "not_an_image"),
    "cut.png": ("decode", "broken_image"),
}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven good pictures and four kinds of broken ones."""
    folder = tmp_path_factory.mktemp("day")
    for number, colour in enumerate(COLOURS):
        (folder / f"{number}.png").write_bytes(plain_picture(colour))
    for name, data in BROKEN.items():
        if data is not None:
            (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def alone(day: Path, model: LoadedModel) -> dict[str, np.ndarray]:
    """Each good picture's scores when the model is called with that picture alone."""
    return {
        name: model.run(decode_image((day / name).read_bytes(), PREPROCESSING)[np.newaxis])[0]
        for name in (f"{number}.png" for number in range(len(COLOURS)))
    }


def arrow(rows: list[tuple[str, Path]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"key": [key for key, _ in rows], "address": [str(address) for _, address in rows]},
        schema=pa.schema([("key", pa.string()), ("address", pa.string())]),
    )


def outcomes_of(
    batches: list[pa.RecordBatch], model: LoadedModel, batch_size: int, metrics: TaskMetrics | None = None
) -> dict[str, list[dict[str, Any]]]:
    """All rows that leave the scorer, by outcome."""
    found: dict[str, list[dict[str, Any]]] = {PREDICTED: [], QUARANTINED: [], METRICS: []}
    for batch in score_pictures(batches, model, batch_size, metrics or TaskMetrics()):
        assert batch.schema == OUTCOME_SCHEMA
        for row in batch.to_pylist():
            found[row["outcome"]].append(row)
    return found


def test_a_picture_leaves_with_its_label_score_and_provenance(day: Path, model: LoadedModel) -> None:
    (row,) = outcomes_of([arrow([("shoe", day / "1.png")])], model, 8)[PREDICTED]

    assert (row["key"], row["label"]) == ("shoe", "green")
    assert row["score"] == pytest.approx(0.984, abs=0.001)
    assert (row["runtime_version"], row["execution_provider"]) == (model.runtime_version, "CPUExecutionProvider")
    assert {name for name, value in row.items() if value is None} == {"stage", "reason", "error", "address", "metrics"}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_leaves_with_its_reason_and_address(day: Path, model: LoadedModel, name: str) -> None:
    found = outcomes_of([arrow([("k", day / name), ("good", day / "0.png")])], model, 4)

    (row,) = found[QUARANTINED]
    assert (row["key"], row["address"]) == ("k", str(day / name))
    assert (row["stage"], row["reason"]) == REASONS[name]
    assert row["error"]
    assert [row["key"] for row in found[PREDICTED]] == ["good"]


def test_no_rows_still_give_the_metrics_row(model: LoadedModel) -> None:
    found = outcomes_of([], model, 4)

    assert found[PREDICTED] == found[QUARANTINED] == []
    assert json.loads(found[METRICS][0]["metrics"])["rows"] == 0


def test_a_long_error_is_cut(day: Path, model: LoadedModel) -> None:
    address = day / "/".join(["deep" * 20] * 20)

    (row,) = outcomes_of([arrow([("k", address)])], model, 4)[QUARANTINED]

    assert len(row["error"]) <= MAX_ERROR_LENGTH


def test_many_rows_leave_in_several_batches_and_all_leave(day: Path, model: LoadedModel) -> None:
    rows = [(str(number), day / f"{number % 7}.png") for number in range(2_500)]
    sizes = [batch.num_rows for batch in score_pictures([arrow(rows)], model, 64, TaskMetrics())]

    assert sum(sizes) == 2_501
    assert len(sizes) == 3  # bounded memory: rows leave by the thousand


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_each_row_leaves_once_with_the_answer_it_would_get_alone(
    data: st.DataObject, day: Path, model: LoadedModel, alone: dict[str, np.ndarray]
) -> None:
    """For any mix of good and broken rows, cut into any Arrow batches, at any batch size."""
    names = data.draw(st.lists(st.sampled_from([*alone, *BROKEN]), max_size=30), label="rows")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(names)), max_size=6), label="cuts"))
    batch_size = data.draw(st.integers(1, 9), label="batch size")
    rows = [(f"{number}-{name}", day / name) for number, name in enumerate(names)]
    edges = [0, *cuts, len(rows)]
    batches = [arrow(rows[start:end]) for start, end in pairwise(edges)]

    metrics = TaskMetrics()
    found = outcomes_of(batches, model, batch_size, metrics)

    left = Counter(row["key"] for row in found[PREDICTED] + found[QUARANTINED])
    assert left == Counter(key for key, _ in rows)
    for row in found[PREDICTED]:
        scores = alone[row["key"].split("-")[1]]
        assert row["label"] == LABELS[scores.argmax()]
        assert row["score"] == pytest.approx(scores.max(), rel=1e-6)
    for row in found[QUARANTINED]:
        assert (row["stage"], row["reason"]) == REASONS[row["key"].split("-")[1]]

    (reported,) = found[METRICS]
    assert TaskMetrics.from_dict(json.loads(reported["metrics"])) == metrics
    good = sum(name in alone for name in names)
    assert metrics.rows == len(found[PREDICTED]) == good
    assert metrics.batches == -(-good // batch_size)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")

    assert read_picture(str(tmp_path / "a.png")) == b"bytes"


def test_the_best_class_of_each_row() -> None:
    answers = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], dtype=np.float32)

    assert top_label(answers, LABELS) == (["green", "red"], pytest.approx([0.7, 0.5]))
    assert top_label(answers, ())[0] == ["1", "0"]
