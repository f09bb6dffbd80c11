# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.runtime import copies as module
from airflow_onnx_provider.runtime.copies import COPY, Copies, within_limits


def test_a_small_input_is_copied_and_a_large_one_is_not() -> None:
    copies = Copies(largest=3)

    assert [copies.of(data) for data in (b"", b"123", b"1234", memoryview(b"12"))] == [b"", b"123", None, b"12"]


def test_a_dicom_file_is_never_copied() -> None:
    """Whoever may read the quarantine need not be one who may read a patient's name."""
    assert Copies(largest=1000).of(bytes(128) + b"DICM" + b"Mustermann^Erika") is None


def test_nothing_is_copied_where_copies_are_switched_off() -> None:
    assert Copies(largest=0).of(b"") is None


@given(sizes=st.lists(st.integers(0, 60), max_size=60), largest=st.integers(0, 50))
def test_copies_end_before_they_are_many(sizes: list[int], largest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_COPIES", 20)
        patch.setattr(module, "MOST_COPIED_BYTES", 300)
        copies = Copies(largest)
        kept = [copy for size in sizes if (copy := copies.of(bytes(size))) is not None]

    assert len(kept) <= 20
    assert sum(map(len, kept)) <= 300
    assert all(len(copy) <= largest for copy in kept)
    if largest and len(sizes) <= 20 and sum(sizes) <= 300:
        assert [len(copy) for copy in kept] == [size for size in sizes if size <= largest]


def test_a_file_tells_its_size_and_a_small_one_is_copied(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"123")
    (tmp_path / "large").write_bytes(b"1234")
    copies = Copies(largest=3)

    assert copies.of_file(str(tmp_path / "small")) == (3, b"123")
    assert copies.of_file(str(tmp_path / "large")) == (4, None)
    for nowhere in (tmp_path, tmp_path / "missing", "https://host/a.jpg", "\0"):
        assert copies.of_file(str(nowhere)) == (None, None)


def test_what_a_task_copied_over_several_calls_is_no_more_than_one_call_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COPIES", 2)
    cells = [[None, None], [b"a", None], [b"b", b"c"], [b"d"], []]
    batches = [
        pa.record_batch({"key": pa.array(range(len(some)), pa.int64()), COPY: pa.array(some, pa.binary())})
        for some in cells
    ]

    left = list(within_limits(batches))

    assert [batch[COPY].to_pylist() for batch in left] == [[None, None], [b"a", None], [b"b", None], [None], []]
    assert [batch["key"] for batch in left] == [batch["key"] for batch in batches]
    assert {str(batch.schema) for batch in left} == {str(batches[0].schema)}
