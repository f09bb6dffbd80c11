# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.checks.settings import CHECKS, Options, read_settings

BY_DEMAND = {"recall", "freshness", "throughput", "latency"}


def test_without_a_word_every_check_runs_that_needs_no_limit_of_a_persons() -> None:
    assert list(read_settings()) == [name for name in CHECKS if name not in BY_DEMAND]
    assert {options.severity for options in read_settings().values()} == {"error"}


def test_the_order_is_that_of_the_checks_whatever_was_given_first() -> None:
    given = {"latency": {"max": 50}, "nulls": {}, "recall": {"classes": {"bag": 0.5}}}

    assert list(read_settings(given)) == [name for name in CHECKS if name not in {"freshness", "throughput"}]


def test_none_switches_a_check_off() -> None:
    assert "label_drift" not in read_settings({"label_drift": None, "latency": None})


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("nulls", {"max": "2"}, Options(limit=2)),
        ("nulls", {"tolerance": "1.5", "severity": "warn"}, Options("warn", 0, 1.5)),
        ("mean_confidence", {}, Options(limit=0.5)),
        ("label_drift", {}, Options(limit=0.25, choice="psi")),
        ("label_drift", {"metric": "jensen_shannon"}, Options(limit=0.2, choice="jensen_shannon")),
        ("label_drift", {"metric": "total_variation", "max": "0.1"}, Options(limit=0.1, choice="total_variation")),
        ("confidence_drift", {"metric": "wasserstein"}, Options(limit=0.1, choice="wasserstein")),
        ("quarantine_rate", {"reasons": {"empty_file": "0.01"}}, Options(limit=0.05, each={"empty_file": 0.01})),
        ("accuracy", {}, Options()),
        ("recall", {"classes": {"bag": "0.5"}, "min_rows": "7"}, Options(each={"bag": 0.5}, min_rows=7)),
        ("latency", {"max": "50", "percentile": "p50"}, Options(limit=50, choice="p50")),
        ("latency", {"max": 50}, Options(limit=50, choice="p99")),
    ],
)
def test_what_was_given_is_read_and_may_be_text_as_templates_give_it(
    name: str, given: dict[str, Any], options: Options
) -> None:
    assert read_settings({name: given})[name] == options


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nuls": {}}, r"there is no nuls; there is row_books, unique_keys, quarantine_rate, nulls"),
        ({"nulls": {"min": 3}}, r"nulls knows max, tolerance, severity, got min"),
        ({"mean_confidence": {"max": 1}}, r"mean_confidence knows min, tolerance, severity, got max"),
        ({"row_books": {"max": 3}}, r"row_books knows severity, got max"),
        ({"row_books": {"tolerance": 3}}, r"row_books knows severity, got tolerance"),
        ({"row_books": None}, r"row_books cannot be switched off"),
        ({"row_books": {"severity": "warn"}}, r"row_books cannot be switched off"),
        ({"nulls": {"severity": "fatal"}}, r"nulls: severity is warn or error, got 'fatal'"),
        ({"nulls": {"max": "a few"}}, r"nulls: max must be a number, got 'a few'"),
        ({"nulls": {"max": ""}}, r"nulls: max must be a number, got ''"),
        ({"nulls": {"max": None}}, r"nulls: max must be a number, got None"),
        ({"nulls": {"max": [1]}}, r"nulls: max must be a number, got \[1\]"),
        ({"nulls": {"max": "nan"}}, r"nulls: max must be a number, got 'nan'"),
        ({"nulls": {"max": True}}, r"nulls: max must be a number, got True"),
        ({"nulls": {"tolerance": -1}}, r"nulls: tolerance must not be negative, got -1"),
        ({"nulls": 3}, r"nulls: expected a dict of settings or None, got 3"),
        ({"label_drift": {"metric": "wasserstein"}}, r"label_drift: metric is one of psi, jensen_shannon, total_var"),
        ({"confidence_drift": {"metric": "PSI"}}, r"confidence_drift: metric is one of psi, .*, got 'PSI'"),
        ({"quarantine_rate": {"reasons": {"empty_file": "few"}}}, r"reasons: empty_file must be a number, got 'few'"),
        ({"quarantine_rate": {"reasons": ["empty_file"]}}, r"reasons: expected a dict of name to limit"),
        ({"recall": {"min_rows": 5}}, r"recall needs min or classes"),
        ({"freshness": {"severity": "warn"}}, r"freshness needs max"),
        ({"latency": {"max": 3, "percentile": "p95"}}, r"latency: percentile is one of p99, p90, p50, got 'p95'"),
        (["nulls"], r"expected a dict of check name to settings"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(given: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_settings(given)


def test_settings_are_left_as_they_were() -> None:
    given = {"nulls": {"max": 1, "severity": "warn"}}
    read_settings(given)

    assert given == {"nulls": {"max": 1, "severity": "warn"}}
