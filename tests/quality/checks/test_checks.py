# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import ChecksFailedError
from airflow_onnx_provider.quality.baseline import Baseline
from airflow_onnx_provider.quality.checks.contents import Contents
from airflow_onnx_provider.quality.checks.finding import Figures, at_least, at_most
from airflow_onnx_provider.quality.checks.settings import read_settings
from airflow_onnx_provider.quality.judge import require_passed, run_checks
from airflow_onnx_provider.quality.verdict import CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.spark.staging import a_manifest

MANIFEST = a_manifest("run-1", OutputLayout(Path("/out")), quarantined={}, rows_in=2)
GOOD = Figures(MANIFEST, Contents(predicted=2, quarantined=0), Baseline("no earlier published partition"))

rows = st.integers(0, 50)


@settings(deadline=None)
@given(rows_in=rows, predicted=rows, quarantined=rows, in_files=rows, quarantined_in_files=rows)
def test_no_run_passes_whose_books_do_not_balance(
    rows_in: int, predicted: int, quarantined: int, in_files: int, quarantined_in_files: int
) -> None:
    manifest = replace(MANIFEST, rows_in=rows_in, predicted=predicted, quarantined={"empty_file": quarantined})
    figures = replace(GOOD, manifest=manifest, contents=Contents(in_files, quarantined_in_files))
    lenient = read_settings({"quarantine_rate": {"max": 1}})

    failed = [one.name for one in run_checks(figures, lenient) if not one.passed]

    balanced = rows_in == predicted + quarantined and (predicted, quarantined) == (in_files, quarantined_in_files)
    assert ("row_books" in failed) != balanced
    if not balanced:
        with pytest.raises(ChecksFailedError):
            require_passed(run_checks(figures, lenient), "run-1")


@settings(deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 2))
def test_a_value_is_within_the_limit_or_grey_or_failed(value: float, limit: float, tolerance: float) -> None:
    for finding, distance in (
        (at_most(value, limit, tolerance, "", ""), value - limit),
        (at_least(value, limit, tolerance, "", ""), limit - value),
    ):
        assert finding.grey == (distance > 0)
        if distance <= 0:
            assert finding.passed
        if distance > tolerance + 1e-9:
            assert not finding.passed


def test_no_value_is_no_good_value() -> None:
    assert not at_most(float("nan"), 1, 0.5, "", "").passed
    assert not at_least(float("nan"), 1, 0.5, "", "").passed


def test_without_labels_there_is_no_word_of_accuracy() -> None:
    assert "accuracy" not in {one.name for one in run_checks(GOOD, read_settings())}


def test_a_verdict_as_a_line_and_as_json() -> None:
    result = CheckResult("nulls", "warn", False, "at most 0 rows", "3", 3.0, 0.0)

    assert str(result) == "nulls: WARNING; expected at most 0 rows, found 3"
    assert str(replace(result, severity="error")).startswith("nulls: FAILED; ")
    assert str(replace(result, passed=True)).startswith("nulls: passed; ")
    assert str(replace(result, passed=True, grey=True)).startswith("nulls: passed within its tolerance; ")
    assert result.to_dict() == {
        "name": "nulls",
        "severity": "warn",
        "passed": False,
        "expected": "at most 0 rows",
        "actual": "3",
        "value": 3.0,
        "limit": 0.0,
        "grey": False,
    }


def test_nothing_is_raised_for_a_good_run() -> None:
    assert require_passed(run_checks(GOOD, read_settings()), "run-1") is None


def test_every_failed_check_is_in_the_message() -> None:
    bad = Figures(replace(MANIFEST, rows_in=200, mean_score=0.1), Contents(2, 0, nulls=4, unusable=4), Baseline("none"))

    with pytest.raises(ChecksFailedError) as caught:
        require_passed(run_checks(bad, read_settings({"nulls": {"severity": "warn"}})), "run run-1 of 2026-01-01")

    first, *lines = str(caught.value).splitlines()
    assert first == "3 of 8 checks failed for run run-1 of 2026-01-01, nothing was published:"
    assert lines == [
        "  - row_books: FAILED; expected 200 rows in = predicted + quarantined, in the run manifest and in the files, "
        "found 2 + 0 in the manifest, 2 + 0 in the files",
        "  - nulls: WARNING; expected at most 0 rows with a null, or a score that is NaN or infinite, found 4 (4 null)",
        "  - mean_confidence: FAILED; expected a mean score of at least 0.500, found 0.100",
    ]


def test_warnings_alone_stop_nothing() -> None:
    dull = replace(GOOD, contents=Contents(2, 0, nulls=4, unusable=4))
    results = run_checks(dull, read_settings({"nulls": {"severity": "warn"}}))

    assert [one.name for one in results if not one.passed] == ["nulls"]
    assert require_passed(results, "run-1") is None
