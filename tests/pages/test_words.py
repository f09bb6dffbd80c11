# SPDX-License-Identifier: Apache-2.0
"""Words for numbers."""

from __future__ import annotations

import pytest

from airflow_onnx_provider.pages import words


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "not measured"), (0.0021, "2.1 ms"), (3.187, "3.19 s"), (99.6, "1 min 40 s"), (86_400, "24.0 h")],
)
def test_a_time_is_in_the_unit_that_a_person_would_use(value: float | None, shown: str) -> None:
    assert words.seconds(value) == shown


def test_numbers_have_thousands_separators_and_say_what_they_count() -> None:
    assert words.count(1_234_567, "row") == "1,234,567 rows"
    assert words.count(1, "row") == "1 row"
    assert words.count(2, "batch", "batches") == "2 batches"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed([]) == ""


def test_only_visible_characters_are_shown() -> None:
    assert words.clean("abc\u202etxt\n\x00") == "abc�txt �"
    assert words.clean("x" * 300) == "x" * 200 + "…"
