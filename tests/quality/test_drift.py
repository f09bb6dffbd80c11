from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.quality.drift import label_share_drift

mixes = st.dictionaries(st.sampled_from(["shoe", "shirt", "bag", "hat"]), st.integers(0, 10**9))
days = mixes.filter(lambda mix: sum(mix.values()) > 0)


@pytest.mark.parametrize(
    ("now", "before", "drift"),
    [
        ({"shoe": 50, "bag": 50}, {"shoe": 500, "bag": 500}, 0.0),
        ({"shoe": 60, "bag": 40}, {"shoe": 50, "bag": 50}, 0.1),
        ({"shoe": 10}, {"bag": 10}, 1.0),
        ({"shoe": 3, "hat": 1}, {"shoe": 4}, 0.25),
        ({}, {}, 0.0),
        ({"shoe": 1}, {}, 1.0),
        ({}, {"shoe": 1}, 1.0),
        ({"shoe": 0}, {}, 0.0),
    ],
)
def test_the_share_of_rows_that_would_have_to_move(now: dict[str, int], before: dict[str, int], drift: float) -> None:
    assert label_share_drift(now, before) == pytest.approx(drift)


@given(mixes, mixes)
def test_drift_is_a_share(now: dict[str, int], before: dict[str, int]) -> None:
    assert -1e-12 <= label_share_drift(now, before) <= 1 + 1e-12


@given(mixes, mixes)
def test_drift_has_no_direction(now: dict[str, int], before: dict[str, int]) -> None:
    assert label_share_drift(now, before) == pytest.approx(label_share_drift(before, now))


@given(days, st.integers(1, 1000))
def test_a_day_of_the_same_mix_has_not_drifted_whatever_its_size(mix: dict[str, int], times: int) -> None:
    assert label_share_drift(mix, {label: rows * times for label, rows in mix.items()}) == pytest.approx(0, abs=1e-12)


@given(days, days, days)
def test_a_detour_is_never_shorter(one: dict[str, int], two: dict[str, int], three: dict[str, int]) -> None:
    direct = label_share_drift(one, three)

    assert direct <= label_share_drift(one, two) + label_share_drift(two, three) + 1e-12
