# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.evidence.parity import Parity, ParityLimits, compare, require_parity


def scores(*rows: list[float]) -> dict[str, Any]:
    return {"scores": np.array(rows, np.float32)}


def test_the_largest_difference_counts_absolute_and_relative() -> None:
    found = compare(scores([0.5, 0.25], [0.1, 0.9]), scores([0.5, 0.5], [0.1, 0.8]))

    assert found.max_difference == pytest.approx(0.25)
    assert found.max_relative_difference == pytest.approx(0.5)
    assert found.label_agreement == 1.0


def test_the_worst_output_counts_and_only_expected_ones() -> None:
    expected = {"a": np.zeros((2, 1)), "b": np.array([1, 2]), "said": np.array(["x", "y"], object)}
    answers = {"a": np.array([[0.0], [3.0]]), "b": np.array([1, 2]), "said": np.array(["x", "z"]), "more": np.ones(2)}

    assert compare(answers, expected) == Parity(3.0, pytest.approx(3e6), 0.5)


def test_labels_are_the_place_of_the_largest_score() -> None:
    assert compare(scores([0.4, 0.6], [0.2, 0.8]), scores([0.9, 0.1], [0.2, 0.8])).label_agreement == 0.5


def test_equal_infinities_and_nans_are_equal_but_a_new_nan_breaks_every_limit() -> None:
    odd = scores([np.inf, np.nan], [-np.inf, 1.0])
    assert compare(odd, odd).max_difference == 0.0

    with pytest.raises(ValidationError, match=r"numbers differ by up to nan"):
        require_parity(scores([np.nan, 0.0]), scores([1.0, 0.0]), ParityLimits(max_difference=1e9), "model")


def test_every_broken_limit_is_told_with_its_number() -> None:
    limits = ParityLimits(max_difference=0.1, max_relative_difference=0.01, min_label_agreement=1.0)

    with pytest.raises(ValidationError) as refusal:
        require_parity(scores([0.4, 0.6]), scores([0.9, 0.1]), limits, "model at batch size 2")

    assert str(refusal.value) == (
        "model at batch size 2: numbers differ by up to 0.5 (limit 0.1) and relative to what is expected by up to 5 "
        "(limit 0.01) and 0.0% of the labels agree (limit 100.0%)"
    )


def test_an_output_that_is_missing_or_of_another_shape() -> None:
    with pytest.raises(ValidationError, match="model: there is no output 'scores'; there is: a"):
        require_parity({"a": np.zeros(1)}, scores([1.0]), ParityLimits(), "model")
    with pytest.raises(ValidationError, match=r"the output scores has the shape \(1, 2\), expected is \(1, 1\)"):
        compare(scores([1.0, 2.0]), scores([1.0]))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.floats(0, 1000, width=16))
def test_a_shift_is_found_in_whole(values: list[float], shift: float) -> None:
    expected = {"y": np.array(values, np.float64)}
    found = compare({"y": expected["y"] + shift}, expected)

    assert found.max_difference == pytest.approx(shift, abs=1e-6)
    assert not found.faults(ParityLimits(max_difference=shift + 1e-6))
