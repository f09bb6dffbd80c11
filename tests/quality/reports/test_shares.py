# SPDX-License-Identifier: Apache-2.0
"""Which of many labels are shown."""

from __future__ import annotations

import pytest

from airflow_onnx_provider.quality.reports.shares import confusion_of, label_shares, mixed_up, moved, telling
from airflow_onnx_provider.quality.verdict import Accuracy
from tests.quality.reports.runs import ACCURACY


def test_shares_are_of_each_days_own_rows() -> None:
    red, blue = label_shares({"red": 3, "blue": 1}, {"red": 50, "blue": 50})

    assert (red.label, red.share, red.before, red.change) == ("red", 0.75, 0.5, 0.25)
    assert blue.change == -0.25
    assert moved([red, blue]) == 0.25


def test_a_rare_label_that_moved_is_shown_among_the_frequent_ones() -> None:
    now = {f"frequent {number:03}": 1_000 - number for number in range(200)}
    before = {**now, "gone": 20_000}
    shown = [one.label for one in telling(label_shares(now, before), 9)]

    assert len(shown) == 9
    assert "gone" in shown
    assert shown[0] == "frequent 000"


def test_without_a_baseline_the_most_frequent_are_shown() -> None:
    shares = label_shares({"a": 1, "b": 3, "c": 2}, {})

    assert [one.label for one in telling(shares, 2)] == ["b", "c"]


def test_the_labels_with_the_most_mistakes_are_shown() -> None:
    confusion = confusion_of(ACCURACY, 2)

    assert confusion.labels == ("blue", "red")
    assert confusion.all_labels == 3
    assert confusion.cells == {("blue", "blue"): 35, ("red", "red"): 50, ("blue", "red"): 5}
    assert mixed_up(ACCURACY)[0] == ("blue", "red", 5)


@pytest.mark.parametrize("most", [1, 25])
def test_labelled_rows_without_a_mistake(most: int) -> None:
    confusion = confusion_of(Accuracy(5, 0, 5, 0.5, 1.0, {"a": (5, 5)}, (("a", "a", 5),)), most)

    assert confusion.labels == ("a",)
