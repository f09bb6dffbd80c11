# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.answers import TOP_K, Answers
from airflow_onnx_provider.runtime.manifest import ModelManifest, TensorSpec
from tests.runtime.tiny import LABELS

SCORES = TensorSpec("scores", "float", ("batch", 3))
VECTOR = TensorSpec("vector", "float", ("batch", 2))
TABLE = TensorSpec("table", "double", ("batch", 2, 3))
WORD = TensorSpec("word", "string", ("batch",))
OPEN = TensorSpec("boxes", "float", ("batch", "found", 4))

PROBABILITIES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]], np.float32)


def manifest_of(*outputs: TensorSpec, labels: tuple[str, ...] = LABELS) -> ModelManifest:
    return ModelManifest("tiny", {}, (), outputs, 18, ("",), None, labels)


def rows_of(answers: Answers, *outputs: np.ndarray, missing: list[bool] | None = None) -> list[dict[str, Any]]:
    """What the columns say, row by row."""
    kept = answers.reduced(outputs, len(outputs[0]))
    arrays = answers.columns(kept, None if missing is None else np.array(missing))
    assert [array.type for array in arrays] == [each.type for each in answers.fields]
    for array in arrays:
        array.validate(full=True)
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(answers.fields)).to_pylist()


def test_a_classifier_gives_label_and_score() -> None:
    answers = Answers.of(manifest_of(SCORES))

    assert answers.outputs == ("scores",)
    assert rows_of(answers, PROBABILITIES) == [
        {"label": "green", "score": pytest.approx(0.7)},
        {"label": "red", "score": pytest.approx(0.5)},
    ]


def test_without_labels_a_class_is_called_by_its_number() -> None:
    found = rows_of(Answers.of(manifest_of(SCORES, labels=())), PROBABILITIES)

    assert [row["label"] for row in found] == ["1", "0"]


def test_the_best_two_classes() -> None:
    answers = Answers.of(manifest_of(SCORES), top_k=2)
    (row, _) = rows_of(answers, PROBABILITIES)

    assert [(best["label"], round(best["score"], 1)) for best in row["top_k"]] == [("green", 0.7), ("blue", 0.2)]
    assert (row["label"], row["score"]) == (row["top_k"][0]["label"], row["top_k"][0]["score"])


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=1, max_size=9),
    st.integers(1, 5),
    st.data(),
)
def test_the_best_k_are_the_largest_and_of_equal_ones_the_first(
    scores: list[list[int]], k: int, data: st.DataObject
) -> None:
    missing = data.draw(st.none() | st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    labels = tuple("abcde")
    answers = Answers.of(manifest_of(replace(SCORES, shape=("batch", 5)), labels=labels), top_k=k)
    found = rows_of(answers, np.array(scores, np.float32), missing=missing)

    for row, of_row, absent in zip(found, scores, missing or [False] * len(scores), strict=True):
        best = sorted(range(5), key=lambda number: -of_row[number])[:k]
        expected = [{"label": labels[number], "score": float(of_row[number])} for number in best]
        assert row == (
            {"label": None, "score": None, "top_k": None}
            if absent
            else {"label": expected[0]["label"], "score": expected[0]["score"], "top_k": expected}
        )


def test_a_raw_output_is_kept_whole_under_its_name() -> None:
    answers = Answers.of(manifest_of(SCORES, TABLE, WORD), raw=["table", "word"])
    tables = np.arange(12.0).reshape(2, 2, 3)
    found = rows_of(answers, PROBABILITIES, tables, np.array(["x", ""], object))

    assert answers.outputs == ("scores", "table", "word")
    assert [row["table"] for row in found] == tables.tolist()
    assert [row["word"] for row in found] == ["x", ""]
    assert list(found[0]) == ["label", "score", "table", "word"]


def test_the_scores_may_be_kept_whole_too_and_are_asked_for_once() -> None:
    answers = Answers.of(manifest_of(SCORES), raw=["scores"])

    assert answers.outputs == ("scores",)
    assert rows_of(answers, PROBABILITIES)[0] == {
        "label": "green",
        "score": pytest.approx(0.7),
        "scores": pytest.approx([0.1, 0.7, 0.2]),
    }


def test_an_embedding_model_gives_no_label() -> None:
    answers = Answers.of(manifest_of(VECTOR, labels=()), raw=["vector"])

    assert answers.scores is None
    assert rows_of(answers, np.array([[1.0, 2.0]], np.float32)) == [{"vector": [1.0, 2.0]}]


def test_labels_or_top_k_make_it_a_classification_again() -> None:
    assert Answers.of(manifest_of(SCORES), raw=["scores"]).scores == SCORES
    assert Answers.of(manifest_of(SCORES, labels=()), top_k=1, raw=["scores"]).scores == SCORES


def test_the_label_comes_from_the_first_output_that_can_be_one() -> None:
    answers = Answers.of(manifest_of(TABLE, WORD, SCORES, VECTOR))

    assert answers.outputs == ("scores",)


def test_rows_without_an_answer_are_null_in_every_column() -> None:
    answers = Answers.of(manifest_of(SCORES, TABLE, WORD), top_k=1, raw=["table", "word"])
    found = rows_of(answers, PROBABILITIES, np.ones((2, 2, 3)), np.array(["", ""], object), missing=[True, False])

    assert set(found[0].values()) == {None}
    assert None not in found[1].values()


def test_padding_is_cut_off() -> None:
    answers = Answers.of(manifest_of(SCORES, WORD), top_k=1, raw=["word"])
    kept = answers.reduced([PROBABILITIES, np.array(["x", "stale"], object)], 1)

    assert {len(values) for values in kept.values()} == {1}


def test_more_of_the_best_than_an_open_number_of_classes_turns_out_to_be() -> None:
    answers = Answers.of(manifest_of(replace(SCORES, shape=("batch", "classes")), labels=()), top_k=5)
    found = rows_of(answers, PROBABILITIES)

    assert [[best["label"] for best in row["top_k"]] for row in found] == [["1", "2", "0"], ["0", "2", "1"]]


@pytest.mark.parametrize(
    ("outputs", "asked", "message"),
    [
        ([SCORES], {"raw": ["vector"]}, r"there is no output \['vector'\]; it has \['scores'\]"),
        (
            [SCORES, OPEN],
            {"raw": ["boxes"]},
            r"the output boxes \['batch', 'found', 4\] cannot be a column: its axis found",
        ),
        ([TensorSpec("z", "complex64", ("batch",)), SCORES], {"raw": ["z"]}, r"Spark has no type for complex64"),
        (
            [TABLE, WORD],
            {},
            r"no output is float \[batch, classes\].*name outputs to keep with raw=\['table', 'word'\]",
        ),
        ([TABLE], {"raw": ["table"], "top_k": 2}, r"top_k needs an output float \[batch, classes\]"),
        ([SCORES], {"top_k": 4}, r"top_k must lie between 0 and its 3 classes: 4"),
        ([SCORES], {"top_k": -1}, r"top_k must lie between 0 and its 3 classes: -1"),
        ([replace(SCORES, shape=("batch", "classes"))], {"top_k": -1}, r"top_k must lie between 0"),
        ([replace(SCORES, shape=("batch", 4))], {}, r"4 classes, but 3 labels"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(outputs: list[TensorSpec], asked: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        Answers.of(manifest_of(*outputs), **asked)


def test_the_type_of_the_best_classes() -> None:
    assert Answers.of(manifest_of(SCORES), top_k=2).fields[2] == pa.field("top_k", TOP_K)
