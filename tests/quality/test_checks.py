from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, ChecksFailedError
from airflow_onnx_provider.quality.checks import CHECKS, CheckResult, RunFigures, require_passed, run_checks

GOOD = RunFigures(
    rows_in=100,
    predicted=98,
    quarantined={"empty_file": 2},
    staged_predicted=98,
    staged_quarantined=2,
    null_rows=0,
    labels={"shoe": 50, "bag": 48},
    known_labels=("shoe", "bag", "hat"),
    mean_score=0.9,
    baseline={"shoe": 52, "bag": 46},
    baseline_name="2025-12-31",
)


def failed(figures: RunFigures, settings: dict[str, Any] | None = None) -> list[str]:
    return [result.name for result in run_checks(figures, settings) if not result.passed]


def result_of(name: str, figures: RunFigures, settings: dict[str, Any] | None = None) -> CheckResult:
    return next(result for result in run_checks(figures, settings) if result.name == name)


def test_a_good_day_passes_every_check() -> None:
    results = run_checks(GOOD)

    assert [result.name for result in results] == list(CHECKS)
    assert [result.passed for result in results] == [True] * len(CHECKS)
    assert {result.severity for result in results} == {"error"}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("row_books", {"rows_in": 101}),
        ("row_books", {"staged_predicted": 97}),
        ("row_books", {"staged_quarantined": 3}),
        (
            "quarantine_rate",
            {"predicted": 90, "staged_predicted": 90, "quarantined": {"a": 10}, "staged_quarantined": 10},
        ),
        ("nulls", {"null_rows": 1}),
        ("unknown_labels", {"known_labels": ("bag", "hat"), "baseline": None}),
        ("mean_confidence", {"mean_score": 0.49}),
        ("mean_confidence", {"mean_score": None}),
        ("mean_confidence", {"mean_score": float("nan")}),
        ("label_drift", {"baseline": {"shoe": 80, "bag": 20}}),
    ],
)
def test_what_breaks_one_check_and_no_other(name: str, change: dict[str, Any]) -> None:
    assert failed(replace(GOOD, **change)) == [name]


@pytest.mark.parametrize(
    ("name", "settings", "change"),
    [
        ("quarantine_rate", {"max": 0.02}, {}),
        ("quarantine_rate", {"max": 0}, {"rows_in": 98, "quarantined": {}, "staged_quarantined": 0}),
        ("nulls", {"max": 3}, {"null_rows": 3}),
        ("unknown_labels", {}, {"known_labels": ()}),
        ("unknown_labels", {"max": 50}, {"known_labels": ("bag",)}),
        ("mean_confidence", {"min": 0.9}, {}),
        ("label_drift", {"max": 0.31}, {"baseline": {"shoe": 80, "bag": 20}}),
        ("label_drift", {}, {"baseline": None, "baseline_name": None}),
    ],
)
def test_a_limit_that_is_just_kept(name: str, settings: dict[str, Any], change: dict[str, Any]) -> None:
    assert failed(replace(GOOD, **change), {name: settings}) == []


def test_an_empty_day_is_no_good_day() -> None:
    empty = replace(GOOD, rows_in=0, predicted=0, staged_predicted=0, quarantined={}, staged_quarantined=0, labels={})

    assert "quarantine_rate" in failed(empty)


def test_a_verdict_has_its_numbers_in_words() -> None:
    books = result_of("row_books", replace(GOOD, staged_predicted=97))
    drift = result_of("label_drift", replace(GOOD, baseline={"shoe": 80, "bag": 20}))
    rate = result_of("quarantine_rate", GOOD)

    assert books.actual == "98 + 2 in the manifest, 97 + 2 in the files"
    assert drift.expected == "at most 20.00% of the rows moved to another label since 2025-12-31"
    assert drift.actual == "28.98%"
    assert rate.actual == "2.00% (empty_file 2)"


def test_a_verdict_as_a_line_and_as_json() -> None:
    result = CheckResult("nulls", "warn", False, "at most 0 rows with null or NaN", "3")

    assert str(result) == "nulls: WARNING; expected at most 0 rows with null or NaN, found 3"
    assert str(replace(result, severity="error")).startswith("nulls: FAILED; ")
    assert str(replace(result, passed=True)).startswith("nulls: passed; ")
    assert result.to_dict() == {
        "name": "nulls",
        "severity": "warn",
        "passed": False,
        "expected": "at most 0 rows with null or NaN",
        "actual": "3",
    }


def test_a_check_that_is_set_to_none_does_not_run() -> None:
    names = [result.name for result in run_checks(GOOD, {"label_drift": None, "nulls": None})]

    assert names == ["row_books", "quarantine_rate", "unknown_labels", "mean_confidence"]


def test_the_books_cannot_be_switched_off() -> None:
    with pytest.raises(BadInputError, match="row_books cannot be switched off"):
        run_checks(GOOD, {"row_books": None})


def test_the_books_cannot_be_turned_into_a_warning() -> None:
    with pytest.raises(BadInputError, match="row_books"):
        run_checks(GOOD, {"row_books": {"severity": "warn"}})


def test_templates_give_numbers_as_strings() -> None:
    assert failed(GOOD, {"quarantine_rate": {"max": "0.01"}}) == ["quarantine_rate"]
    assert failed(GOOD, {"quarantine_rate": {"max": "0.02"}}) == []
    assert failed(replace(GOOD, null_rows=2), {"nulls": {"max": "2"}}) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nuls": {}}, r"there is no nuls; there is row_books, quarantine_rate, nulls"),
        ({"nulls": {"min": 3}}, r"nulls knows max, severity, got min"),
        ({"mean_confidence": {"max": 1}}, r"mean_confidence knows min, severity, got max"),
        ({"row_books": {"max": 3}}, r"row_books knows severity, got max"),
        ({"nulls": {"severity": "fatal"}}, r"nulls: severity is warn or error, got 'fatal'"),
        ({"nulls": {"max": "a few"}}, r"nulls: max must be a number, got 'a few'"),
        ({"nulls": {"max": ""}}, r"nulls: max must be a number, got ''"),
        ({"nulls": {"max": None}}, r"nulls: max must be a number, got None"),
        ({"nulls": {"max": [1]}}, r"nulls: max must be a number, got \[1\]"),
        ({"nulls": {"max": "nan"}}, r"nulls: max must be a number, got 'nan'"),
        ({"nulls": 3}, r"nulls"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        run_checks(GOOD, settings)


def test_settings_are_left_as_they_were() -> None:
    settings = {"nulls": {"max": 1, "severity": "warn"}}
    run_checks(GOOD, settings)

    assert settings == {"nulls": {"max": 1, "severity": "warn"}}


def test_nothing_is_raised_for_a_good_run() -> None:
    assert require_passed(run_checks(GOOD), "run-1") is None


def test_every_failed_check_is_in_the_message() -> None:
    bad = replace(GOOD, rows_in=200, null_rows=4, mean_score=0.1)

    with pytest.raises(ChecksFailedError) as caught:
        require_passed(run_checks(bad, {"nulls": {"severity": "warn"}}), "run run-1 of partition 2026-01-01")

    first, *lines = str(caught.value).splitlines()
    assert first == "3 of 6 checks failed for run run-1 of partition 2026-01-01, nothing was published:"
    assert [line.split(";")[0] for line in lines] == [
        "  - row_books: FAILED",
        "  - nulls: WARNING",
        "  - mean_confidence: FAILED",
    ]


def test_warnings_alone_stop_nothing() -> None:
    results = run_checks(replace(GOOD, null_rows=4), {"nulls": {"severity": "warn"}})

    assert failed(replace(GOOD, null_rows=4)) == ["nulls"]
    assert require_passed(results, "run-1") is None
