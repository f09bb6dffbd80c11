# SPDX-License-Identifier: Apache-2.0
"""Answers found again by their content."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime.known import CONTENT, KnownAnswers, content_of, write_known


def answers(*pictures: bytes) -> pa.RecordBatch:
    columns = {
        CONTENT: pa.array([content_of(each) for each in pictures], pa.binary()),
        "label": list(map(repr, pictures)),
    }
    return pa.RecordBatch.from_pydict(columns)


def labels(known: KnownAnswers, *pictures: bytes) -> list[str | None]:
    found, rows = known.find([content_of(each) for each in pictures])
    given = iter(rows.column("label").to_pylist() if rows is not None else [])
    return [next(given) if here else None for here in found]


def test_what_was_answered_before_is_found_whatever_the_order(tmp_path: Path) -> None:
    assert write_known(tmp_path, [answers(b"a", b"b"), answers(), answers(b"c")]) == 3

    assert labels(KnownAnswers(tmp_path), b"c", b"new", b"a", b"c") == ["b'c'", None, "b'a'", "b'c'"]


def test_several_files_are_searched_as_one(tmp_path: Path) -> None:
    """As Spark writes them: each task a range of contents."""
    pictures = sorted((bytes([number]) for number in range(200)), key=content_of)
    for start in range(0, 200, 50):
        write_known(tmp_path, [answers(*pictures[start : start + 50])])

    assert len(list(tmp_path.iterdir())) == 4
    assert labels(KnownAnswers(tmp_path), *pictures) == list(map(repr, pictures))
    assert labels(KnownAnswers(tmp_path), b"none of them") == [None]


@pytest.mark.parametrize("written", [[], [answers()]])
def test_nothing_is_known_on_the_first_day(tmp_path: Path, written: list[pa.RecordBatch]) -> None:
    assert write_known(tmp_path, written) == 0
    assert labels(KnownAnswers(tmp_path), b"a") == [None]


def test_two_attempts_of_one_task_leave_the_same_answers_twice(tmp_path: Path) -> None:
    for _ in range(2):
        write_known(tmp_path, [answers(b"a", b"b")])

    assert labels(KnownAnswers(tmp_path), b"b", b"a") == ["b'b'", "b'a'"]


@given(st.lists(st.binary(max_size=3), unique=True, max_size=30), st.lists(st.binary(max_size=3), max_size=30))
def test_exactly_what_is_known_is_found(there: list[bytes], asked: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_known(Path(folder), [answers(*there)])
        assert labels(KnownAnswers(Path(folder)), *asked) == [repr(each) if each in there else None for each in asked]
