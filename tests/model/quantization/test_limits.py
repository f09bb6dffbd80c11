# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.quantization.limits import Measurement, QuantizeLimits, choose

ORIGINAL = Measurement("original", accuracy=0.95, speedup=1.0, images_per_second=100, size_bytes=1000)
STATIC = Measurement("static", accuracy=0.945, speedup=2.5, images_per_second=250, size_bytes=260)
DYNAMIC = Measurement("dynamic", accuracy=0.95, speedup=0.2, images_per_second=20, size_bytes=250)


def test_the_faster_of_two_acceptable_variants_goes_on() -> None:
    chosen, reason = choose([ORIGINAL, STATIC, replace(DYNAMIC, speedup=1.5)], QuantizeLimits())

    assert chosen == STATIC
    assert reason.startswith(
        "static goes on. static: accuracy 0.950 → 0.945, 2.50 times the speed, 74% smaller: accept"
    )


def test_a_variant_that_is_too_slow_is_rejected_with_its_number() -> None:
    chosen, reason = choose([ORIGINAL, DYNAMIC], QuantizeLimits())

    assert chosen == ORIGINAL
    assert reason.startswith("the original goes on. dynamic: ")
    assert "rejected, is too slow (limit 1)" in reason


def test_a_variant_that_is_too_inaccurate_is_rejected_with_its_number() -> None:
    chosen, reason = choose([ORIGINAL, replace(STATIC, accuracy=0.2)], QuantizeLimits())

    assert chosen == ORIGINAL
    assert "rejected, loses 0.750 (limit 0.01)" in reason


def test_both_faults_are_told() -> None:
    _, reason = choose([ORIGINAL, replace(DYNAMIC, accuracy=0.1)], QuantizeLimits())

    assert "rejected, loses 0.850 (limit 0.01) and is too slow (limit 1)" in reason


def test_limits_that_are_just_kept_are_kept() -> None:
    limits = QuantizeLimits(max_accuracy_drop=0.25, min_speedup=2.5)
    just = [replace(ORIGINAL, accuracy=1.0), replace(STATIC, accuracy=0.75)]
    assert choose(just, limits)[0].variant == "static"

    # 0.95 - 0.94 is a little more than 0.01 in binary.
    assert choose([ORIGINAL, replace(STATIC, accuracy=0.94)], QuantizeLimits())[0].variant == "static"


def test_a_better_variant_than_the_original_is_welcome() -> None:
    assert choose([ORIGINAL, replace(STATIC, accuracy=1.0)], QuantizeLimits(max_accuracy_drop=0.0))[0].accuracy == 1.0


def test_without_a_variant_the_original_goes_on() -> None:
    assert choose([ORIGINAL], QuantizeLimits())[0] == ORIGINAL


def test_remarks_stand_beside_the_numbers_or_in_their_place() -> None:
    remarks = {"int4": "cannot be made: it has no matrix product", "static": "in float: Conv_3"}
    _, reason = choose([ORIGINAL, STATIC], QuantizeLimits(), remarks)

    assert "static (in float: Conv_3): accuracy 0.950 → 0.945" in reason
    assert reason.endswith("; int4: cannot be made: it has no matrix product")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "int8"}, "mode must be one of static, dynamic, float16, int4, auto, none, got 'int8'"),
        ({"calibrations": ("minmax", "guess")}, "calibrations must be some of minmax, percentile, entropy, got"),
        ({"calibrations": ()}, "calibrations must be some of"),
        ({"calibration_rows": 0}, "calibration_rows must be at least 1, got 0"),
        ({"budget_seconds": 0}, "budget_seconds must be more than 0, got 0"),
        ({"block_size": 48}, "block_size must be 16, 32, 64, 128 or 256, got 48"),
    ],
)
def test_limits_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        QuantizeLimits(**given)
