# SPDX-License-Identifier: Apache-2.0
"""The words of a report."""

from __future__ import annotations

import pytest

from airflow_onnx_provider.quality.reports import words


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.611, "61.1 %"), (0.001, "0.1 %"), (0.00012, "0.012 %"), (0.0000001, "<0.001 %"), (0.0, "0.0 %")],
)
def test_a_small_share_is_not_nothing(share: float, shown: str) -> None:
    assert words.percent(share) == shown


@pytest.mark.parametrize(("change", "shown"), [(0.025, "+2.5"), (-0.025, "−2.5"), (-0.0002, "−0.02"), (0.0, "±0.0")])
def test_a_change_has_its_sign(change: float, shown: str) -> None:
    assert words.points(change) == shown


def test_a_reason_that_is_not_known_stays_readable() -> None:
    assert words.reason("not_an_image") == "files that are no pictures"
    assert words.reason("brand_new_reason") == "brand new reason"


def test_a_time_that_is_none_stays() -> None:
    assert words.moment("2026-01-02T06:00:00+01:00") == "2026-01-02 05:00:00 UTC"
    assert words.moment("yesterday") == "yesterday"


def test_no_line_ends_between_a_number_and_its_unit() -> None:
    assert words.whole("61.0 % of 3 s and 4 rows") == "61.0\u00a0% of 3\u00a0s and 4 rows"
