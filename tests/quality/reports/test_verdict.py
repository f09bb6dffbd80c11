# SPDX-License-Identifier: Apache-2.0
"""The verdict in one line."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_onnx_provider.quality.reports.verdict import verdict_of
from tests.quality.reports.runs import a_record, a_result, some_facts, unjudged

FAILED = a_result("label_drift", passed=False, expected="a PSI of at most 0.25", actual="0.41")


def test_a_run_whose_checks_passed_may_be_published() -> None:
    verdict = verdict_of(some_facts())

    assert (verdict.level, verdict.headline) == ("good", "Checks passed · may be published")
    assert verdict.why == (
        "All 2 checks passed. Each of the 1,200 rows was predicted or is in quarantine with a reason."
    )
    assert verdict.remarks == ()


def test_a_failed_check_comes_with_what_was_found_and_what_was_expected() -> None:
    verdict = verdict_of(some_facts(a_record(a_result(), FAILED)))

    assert (verdict.level, verdict.headline) == ("stop", "Checks failed · not published")
    assert verdict.why == "1 of 2 checks failed, so nobody should rely on these rows."
    assert [remark.text for remark in verdict.remarks] == ["Label drift: found 0.41; expected a PSI of at most 0.25."]


def test_a_warning_and_a_tolerance_are_to_be_looked_at() -> None:
    warned = a_result("latency", severity="warn", passed=False)
    grey = a_result("mean_confidence", grey=True)
    verdict = verdict_of(some_facts(a_record(a_result(), grey, warned), place="published"))

    assert (verdict.level, verdict.headline) == ("care", "Passed with warnings · published")
    assert verdict.why == (
        "1 of 3 checks gave a warning and 1 of 3 checks passed only thanks to its tolerance: nothing stands in the "
        "way, but look at it."
    )
    assert [remark.text.split(":")[0] for remark in verdict.remarks] == ["Latency", "Mean confidence"]
    assert verdict.remarks[1].text.startswith("Mean confidence: passed only within its tolerance; found 1 %; expected")


def test_a_run_that_nobody_judged() -> None:
    verdict = verdict_of(unjudged(some_facts()))

    assert (verdict.level, verdict.headline) == ("care", "Not judged yet · not published yet")
    assert "nobody should rely on them" in verdict.why


@pytest.mark.parametrize(
    ("record", "place", "headline"),
    [
        (a_record(FAILED), "published", "Checks failed · published all the same"),
        (a_record(), "published", "Checks passed · published"),
        (a_record(), "replaced", "Checks passed · replaced since by another run"),
        (a_record(), "rolled back", "Checks passed · rolled back since"),
        (a_record(FAILED), "removed", "Checks failed · its rows have been removed"),
    ],
)
def test_where_the_rows_are_is_part_of_it(record: Any, place: str, headline: str) -> None:
    assert verdict_of(some_facts(record, place=place)).headline == headline


def test_books_that_do_not_balance_stop_any_run() -> None:
    verdict = verdict_of(some_facts(predicted=1_000))

    assert verdict.level == "stop"
    assert verdict.remarks[0].text == (
        "The books do not balance: 1,200 rows in, but 1,000 predicted and 12 in quarantine."
    )
