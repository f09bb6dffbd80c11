# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.answers import Answers
from airflow_onnx_provider.runtime.copies import INPUT_FIELDS, Copies
from airflow_onnx_provider.runtime.manifest import TensorSpec
from airflow_onnx_provider.runtime.outcomes import MAX_ERROR_LENGTH, Outcomes, outcome_schema

KEPT = [pa.field("key", pa.int64())]
SCORES = TensorSpec("scores", "float", ("batch", 2))
WORD = TensorSpec("word", "string", ("batch",))
ANSWERS = Answers(("no", "yes"), SCORES, 1, (WORD,))

BROKEN = RowError("decode", "not_an_image", "no known picture format")


def arrow(first: int, rows: int) -> pa.RecordBatch:
    """Rows with their numbers as keys, and a column that nobody asked for."""
    return pa.RecordBatch.from_pydict({"more": ["x"] * rows, "key": list(range(first, first + rows))})


def answers_to(rows: list[int], padding: int = 0) -> list[np.ndarray]:
    """An answer by which each row is known again, and padding behind them."""
    share = np.array([(row % 10) / 10 for row in rows] + [9.0] * padding, np.float32)
    words = np.array([f"row {row}" for row in rows] + ["padding"] * padding, object)
    return [np.stack([1 - share, share], axis=1), words]


def predicted(row: int) -> dict[str, Any]:
    share = np.float32((row % 10) / 10)
    score = float(max(np.float32(1) - share, share))
    label = "yes" if share > np.float32(1) - share else "no"
    answer = {"label": label, "score": score, "top_k": [{"label": label, "score": score}], "word": f"row {row}"}
    return {"key": row, "outcome": "predicted", **answer, "stage": None, "reason": None, "error": None}


def quarantined(row: int, error: RowError = BROKEN) -> dict[str, Any]:
    nothing = dict.fromkeys(("label", "score", "top_k", "word"))
    fault = {"stage": error.stage, "reason": error.reason, "error": str(error)}
    return {"key": row, "outcome": "quarantined", **nothing, **fault}


def test_a_row_is_predicted_or_quarantined() -> None:
    outcomes = Outcomes(KEPT, ANSWERS)
    outcomes.arrive(arrow(0, 2))
    outcomes.quarantine(0, BROKEN)
    outcomes.predict(np.array([1]), answers_to([1], padding=3))
    (batch,) = outcomes.finished()

    assert batch.to_pylist() == [quarantined(0), predicted(1)]
    assert batch.schema == outcome_schema(KEPT, ANSWERS)


def test_a_batch_waits_for_its_last_row_and_for_those_before_it() -> None:
    outcomes = Outcomes(KEPT, ANSWERS)
    outcomes.arrive(arrow(0, 2))
    outcomes.arrive(arrow(2, 1))
    outcomes.predict(np.array([2, 0]), answers_to([2, 0]))
    assert list(outcomes.finished()) == []

    outcomes.predict(np.array([1]), answers_to([1]))

    assert [batch["key"].to_pylist() for batch in outcomes.finished()] == [[0, 1], [2]]
    assert list(outcomes.finished()) == []


def test_a_batch_of_faults_alone_has_all_columns() -> None:
    outcomes = Outcomes(KEPT, ANSWERS)
    outcomes.arrive(arrow(0, 3))
    for row in range(3):
        outcomes.quarantine(row, BROKEN)
    (batch,) = outcomes.finished()

    assert batch.to_pylist() == [quarantined(row) for row in range(3)]
    assert batch.schema == outcome_schema(KEPT, ANSWERS)


def test_empty_batches_leave_no_trace() -> None:
    outcomes = Outcomes(KEPT, ANSWERS)
    for first, rows in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]:
        outcomes.arrive(arrow(first, rows))
    outcomes.predict(np.array([0, 1]), answers_to([0, 1]))

    assert [batch.num_rows for batch in outcomes.finished()] == [1, 1]


def test_a_long_error_is_cut() -> None:
    outcomes = Outcomes(KEPT, ANSWERS)
    outcomes.arrive(arrow(0, 1))
    outcomes.quarantine(0, RowError("read", "unreadable", "ä" * 10_000))
    (batch,) = outcomes.finished()

    assert batch["error"].to_pylist() == ["ä" * MAX_ERROR_LENGTH]


def test_a_quarantined_row_tells_of_its_input_where_that_is_wanted() -> None:
    outcomes = Outcomes(KEPT, ANSWERS, Copies(largest=4))
    outcomes.arrive(arrow(0, 4))
    outcomes.arrive(arrow(4, 1))
    for row, data in enumerate([b"1234", memoryview(b"12345"), None]):
        outcomes.quarantine(row, BROKEN, data)
    outcomes.predict(np.array([3, 4]), answers_to([3, 4]))
    first, second = outcomes.finished()

    told = [(4, b"1234"), (5, None), (None, None), (None, None)]
    rows = first.to_pylist()
    assert [(row.pop("bytes"), row.pop("copy")) for row in rows] == told
    assert rows == [*(quarantined(row) for row in range(3)), predicted(3)]
    assert second.to_pylist() == [{**predicted(4), "bytes": None, "copy": None}]
    assert second.schema == outcome_schema(KEPT, ANSWERS, INPUT_FIELDS)


def test_a_raw_output_that_is_called_like_a_column_of_the_input_is_refused() -> None:
    answers = Answers((), SCORES, 0, (TensorSpec("copy", "string", ("batch",)),))

    with pytest.raises(BadInputError, match="would have two columns copy; rename"):
        outcome_schema(KEPT, answers, INPUT_FIELDS)


@pytest.mark.parametrize(
    ("kept", "answers", "name"),
    [
        ("outcome", ANSWERS, "outcome"),
        ("label", ANSWERS, "label"),
        ("key", Answers((), SCORES, 0, (TensorSpec("error", "string", ("batch",)),)), "error"),
        ("word", ANSWERS, "word"),
    ],
)
def test_two_columns_of_one_name_are_refused(kept: str, answers: Answers, name: str) -> None:
    with pytest.raises(BadInputError, match=f"would have two columns {name}; rename"):
        outcome_schema([pa.field(kept, pa.string())], answers)


@given(
    sizes=st.lists(st.integers(0, 6), max_size=8),
    bad=st.sets(st.integers(0, 47)),
    batch_size=st.integers(1, 7),
    random=st.randoms(use_true_random=False),
    early=st.integers(0, 8),
)
def test_each_row_leaves_once_in_its_order_however_its_outcomes_come(
    sizes: list[int], bad: set[int], batch_size: int, random: Any, early: int
) -> None:
    """Some Arrow batches arrive before any answer, the others when the answers need them; answers come in any order."""
    edges = [0, *np.cumsum(sizes, dtype=int).tolist()]
    total = edges[-1]
    good = [row for row in range(total) if row not in bad]
    random.shuffle(good)
    events: list[list[int]] = [good[start : start + batch_size] for start in range(0, len(good), batch_size)]
    events += [[row] for row in bad if row < total]
    random.shuffle(events)

    outcomes, left = Outcomes(KEPT, ANSWERS), []
    arrivals = [arrow(start, end - start) for start, end in pairwise(edges)]
    arrived = 0

    def arrive(until: int) -> None:
        nonlocal arrived
        while arrivals and (arrived < until or early > len(sizes)):
            arrived += arrivals[0].num_rows
            outcomes.arrive(arrivals.pop(0))

    for event in events:
        arrive(max(event) + 1)
        if set(event) <= bad:
            outcomes.quarantine(event[0], BROKEN)
        else:
            outcomes.predict(np.array(event), answers_to(event, padding=batch_size - len(event)))
        left += outcomes.finished()
    arrive(total + 1)
    left += outcomes.finished()

    assert [row for batch in left for row in batch.to_pylist()] == [
        quarantined(row) if row in bad else predicted(row) for row in range(total)
    ]
    assert [batch.num_rows for batch in left] == [size for size in sizes if size]
