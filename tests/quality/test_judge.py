# SPDX-License-Identifier: Apache-2.0
"""Each check against real files: a day that breaks it and nothing else, and a day that just does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError, PublishError, SparkJobError
from airflow_onnx_provider.quality.checks.settings import CHECKS
from airflow_onnx_provider.quality.judge import judge
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from tests.quality.days import CLASSES, Day, Row, ordinary_rows, write_labels

TODAY, YESTERDAY = "2026-01-02", "2026-01-01"
EVERY_CHECK: Mapping[str, Mapping[str, Any]] = {
    "accuracy": {"min": 0.75},
    "recall": {"min": 0.6},
    "freshness": {"max": 24},
    "throughput": {"min": 20},
    "latency": {"max": 50},
}


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path / "predictions")


def with_rows(*changed: tuple[int, Row]) -> list[Row]:
    """An ordinary day's rows with some in the place of others."""
    rows = ordinary_rows()
    for place, row in changed:
        rows[place] = row
    return rows


def of_labels(*counts: int) -> list[Row]:
    """Rows of the four classes in these numbers."""
    labels = [label for label, count in zip(CLASSES, counts, strict=True) for _ in range(count)]
    return [(key, label, score) for (key, _, score), label in zip(ordinary_rows(len(labels)), labels, strict=True)]


def broken(count: int, reason: str = "empty_file") -> list[tuple[str, str]]:
    return [(f"x-{number}.jpg", reason) for number in range(count)]


@dataclass(frozen=True)
class Case:
    """A day after an ordinary one.

    :param day: the one that is judged
    :param before: the published day that it is compared with
    :param wrong: places of labelled rows on which people disagree with the model
    :param settings: beside those of :data:`EVERY_CHECK`
    """

    day: Day = field(default_factory=Day)
    before: Day = field(default_factory=Day)
    wrong: Sequence[int] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def judged(layout: OutputLayout, case: Case) -> CheckRecord:
    case.before.publish(layout, YESTERDAY)
    manifest = case.day.stage(layout, TODAY)
    labels = write_labels(layout.root.parent / "labels.csv", ordinary_rows(), case.wrong)
    return judge(layout, manifest, {**EVERY_CHECK, **case.settings}, labels=str(labels))


ORDINARY = Day()
DULL = Day(rows=ordinary_rows(score=0.42))
FEW_OF_ONE = (125, 125, 125, 25)

BREAKS = {
    "row_books, a row in that no book knows": ("row_books", Case(ORDINARY.but(told={"rows_in": 403}))),
    "row_books, a predicted row that is in no file": ("row_books", Case(ORDINARY.but(lost=1))),
    "row_books, a quarantined row that is in no file": (
        "row_books",
        Case(ORDINARY.but(told={"quarantined": {"empty_file": 3}, "rows_in": 403})),
    ),
    "unique_keys, two predictions": ("unique_keys", Case(ORDINARY.but(rows=with_rows((4, ordinary_rows()[0]))))),
    "unique_keys, predicted and in quarantine": (
        "unique_keys",
        Case(ORDINARY.but(broken=(("p-0000.jpg", "empty_file"),))),
    ),
    "quarantine_rate": ("quarantine_rate", Case(ORDINARY.but(broken=broken(22)))),
    "quarantine_rate, of one reason": (
        "quarantine_rate",
        Case(ORDINARY.but(broken=broken(5)), settings={"quarantine_rate": {"reasons": {"empty_file": 0.01}}}),
    ),
    "nulls, a label": ("nulls", Case(ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", None, 0.9)))))),
    "nulls, a key": ("nulls", Case(ORDINARY.but(rows=with_rows((0, (None, "bag", 0.9)))))),
    "nulls, a score": ("nulls", Case(ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", "bag", None)))))),
    "nulls, NaN": ("nulls", Case(ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", "bag", float("nan"))))))),
    "nulls, infinity": (
        "nulls",
        Case(ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", "bag", float("inf")))), told={"mean_score": 0.93})),
    ),
    "unknown_labels": ("unknown_labels", Case(ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", "ghost", 0.9)))))),
    "mean_confidence": ("mean_confidence", Case(DULL, DULL)),
    "label_drift": (
        "label_drift",
        Case(ORDINARY.but(rows=of_labels(220, 100, 60, 20)), settings={"accuracy": None, "recall": None}),
    ),
    "label_drift, another metric": (
        "label_drift",
        Case(
            ORDINARY.but(rows=of_labels(160, 120, 80, 40)),
            settings={"accuracy": None, "recall": None, "label_drift": {"metric": "total_variation", "max": 0.1}},
        ),
    ),
    "confidence_drift": ("confidence_drift", Case(ORDINARY.but(rows=ordinary_rows(score=0.78)))),
    "confidence_drift, another metric": (
        "confidence_drift",
        Case(
            ORDINARY.but(rows=ordinary_rows(score=0.78)),
            settings={"confidence_drift": {"metric": "wasserstein", "max": 0.1}},
        ),
    ),
    "accuracy": ("accuracy", Case(wrong=[place for place in range(400) if place % 10 < 3])),
    "recall, the worst class": ("recall", Case(wrong=range(0, 368, 4))),
    "recall, a class with a limit of its own": (
        "recall",
        Case(wrong=range(0, 120, 4), settings={"recall": {"classes": {"hat": "0.9"}}}),
    ),
    "freshness": ("freshness", Case(ORDINARY.but(told={"source": {"newest": "2026-01-01T05:00:00+00:00"}}))),
    "freshness, nothing is known": ("freshness", Case(ORDINARY.but(told={"source": {}}))),
    "throughput": ("throughput", Case(ORDINARY.but(told={"images_per_second": 19.9}))),
    "latency": ("latency", Case(ORDINARY.but(told={"latency_ms": {"p50": 4.0, "p99": 50.1}}))),
}

HOLDS = {
    "an ordinary day": Case(),
    "quarantine_rate at its limit": Case(ORDINARY.but(broken=broken(21), rows=ordinary_rows(399))),
    "quarantine_rate of a reason at its limit": Case(
        ORDINARY.but(broken=broken(4)), settings={"quarantine_rate": {"reasons": {"empty_file": 4 / 404}}}
    ),
    "unique_keys at its limit": Case(
        ORDINARY.but(rows=with_rows((4, ordinary_rows()[0]))), settings={"unique_keys": {"max": "1"}}
    ),
    "nulls at its limit": Case(
        ORDINARY.but(rows=with_rows((0, (None, None, float("nan"))), (1, (None, "hat", 0.9)))),
        settings={"nulls": {"max": 2}},
    ),
    "unknown_labels at its limit": Case(
        ORDINARY.but(rows=with_rows((0, ("p-0000.jpg", "ghost", 0.9)))), settings={"unknown_labels": {"max": 1}}
    ),
    "mean_confidence at its limit": Case(settings={"mean_confidence": {"min": 0.929}}),
    "label_drift of some, but less than the limit": Case(
        ORDINARY.but(rows=of_labels(130, 100, 90, 80)), settings={"accuracy": None, "recall": None}
    ),
    "label_drift that so few rows have by chance": Case(
        ORDINARY.but(rows=of_labels(7, 4, 6, 3), broken=()),
        before=Day(rows=of_labels(4, 6, 3, 7)),
        settings={"accuracy": None, "recall": None},
    ),
    "confidence_drift of some, but less than the limit": Case(ORDINARY.but(rows=ordinary_rows(score=0.925))),
    "accuracy at its limit": Case(wrong=range(100), settings={"recall": {"min": 0.6}}),
    "recall of a class with too few labelled rows": Case(
        wrong=range(0, 368, 4), settings={"recall": {"min": 0.6, "min_rows": 200}}
    ),
    "freshness at its limit": Case(ORDINARY.but(told={"source": {"newest": "2026-01-01T08:00:00+00:00"}})),
    "throughput at its limit": Case(ORDINARY.but(told={"images_per_second": 20.0})),
    "latency at its limit": Case(ORDINARY.but(told={"latency_ms": {"p50": 99.0, "p99": 50.0}})),
    "latency of a day on which all answers were carried over": Case(ORDINARY.but(told={"latency_ms": {}})),
}


@pytest.mark.parametrize(("name", "case"), BREAKS.values(), ids=BREAKS)
def test_a_day_that_breaks_one_check_and_no_other(layout: OutputLayout, name: str, case: Case) -> None:
    record = judged(layout, case)

    assert [one.name for one in record.failed] == [name], "\n".join(map(str, record.results))
    assert record.verdict == "failed"


@pytest.mark.parametrize("case", HOLDS.values(), ids=HOLDS)
def test_a_day_that_breaks_nothing(layout: OutputLayout, case: Case) -> None:
    record = judged(layout, case)

    assert record.failed == ()
    assert record.verdict == "passed", record.grey


def test_every_check_is_in_the_matrix(layout: OutputLayout) -> None:
    assert {name for name, _ in BREAKS.values()} == set(CHECKS)
    assert [one.name for one in judged(layout, Case()).results] == list(CHECKS)


GREY = {
    "quarantine_rate": Case(
        ORDINARY.but(broken=broken(22)), settings={"quarantine_rate": {"max": 0.05, "tolerance": 0.01}}
    ),
    "unique_keys": Case(
        ORDINARY.but(rows=with_rows((4, ordinary_rows()[0]))), settings={"unique_keys": {"tolerance": 1}}
    ),
    "mean_confidence": Case(settings={"mean_confidence": {"min": 0.95, "tolerance": "0.03"}}),
    "label_drift": Case(
        ORDINARY.but(rows=of_labels(220, 100, 60, 20)),
        settings={"accuracy": None, "recall": None, "label_drift": {"tolerance": 1}},
    ),
    "accuracy": Case(wrong=range(104), settings={"recall": None}),
    "recall": Case(wrong=range(0, 280, 4)),
    "latency": Case(
        ORDINARY.but(told={"latency_ms": {"p99": 51.0}}), settings={"latency": {"max": 50, "tolerance": 2}}
    ),
}


@pytest.mark.parametrize(("name", "case"), GREY.items(), ids=GREY)
def test_a_day_that_is_a_case_for_a_person(layout: OutputLayout, name: str, case: Case) -> None:
    """Beyond the limit but within the tolerance; labels are few, so there the interval is tolerated too."""
    record = judged(layout, case)

    assert [one.name for one in record.grey] == [name], "\n".join(map(str, record.results))
    assert (record.failed, record.verdict) == ((), "warned")


def test_a_warning_warns(layout: OutputLayout) -> None:
    slow = ORDINARY.but(told={"images_per_second": 1.0})
    record = judged(layout, Case(slow, settings={"throughput": {"min": 20, "severity": "warn"}}))

    assert [(one.name, one.severity) for one in record.failed] == [("throughput", "warn")]
    assert record.verdict == "warned"


def test_the_first_day_has_nothing_to_compare_with_and_says_so(layout: OutputLayout) -> None:
    record = judge(layout, ORDINARY.stage(layout, TODAY))

    drift = [one for one in record.results if "drift" in one.name]
    assert [one.passed for one in drift] == [True, True]
    assert {one.actual for one in drift} == {"no earlier published partition: nothing to compare with"}
    assert (record.baseline, record.baseline_partitions) == ("no earlier published partition", ())
    assert record.verdict == "passed"


def test_a_run_is_judged_in_the_same_way_once_it_is_published(layout: OutputLayout) -> None:
    before = judged(layout, Case(wrong=[0]))
    publish(layout, TODAY, f"run-{TODAY}")
    labels = str(layout.root.parent / "labels.csv")
    manifest = ORDINARY._manifest(layout, TODAY, f"run-{TODAY}")

    after = judge(layout, manifest, EVERY_CHECK, labels=labels)

    assert (after.results, after.accuracy) == (before.results, before.accuracy)


def test_a_day_without_a_row_fails_and_does_not_crash(layout: OutputLayout) -> None:
    record = judged(layout, Case(Day(rows=(), broken=broken(3))))

    assert [one.name for one in record.failed] == [
        "quarantine_rate",
        "mean_confidence",
        "label_drift",
        "confidence_drift",
        "accuracy",
        "recall",
    ]
    assert result(record, "accuracy").actual.startswith("none of the 400 labelled rows was predicted")


def test_a_record_survives_its_file(layout: OutputLayout) -> None:
    nan = ORDINARY.but(told={"mean_score": float("nan")})
    record = judged(layout, Case(nan, wrong=[1, 2]))
    record.write(layout.checks(record.run))

    text = layout.checks(record.run).read_text()
    assert CheckRecord.read(layout.checks(record.run)) == record
    assert result(record, "mean_confidence").value is None
    assert json.loads(text, parse_constant=pytest.fail)["verdict"] == "failed", "any reader of JSON can read it"


def test_what_is_said_has_its_numbers(layout: OutputLayout) -> None:
    rows = of_labels(220, 100, 60, 20)
    rows[0] = ("p-0000.jpg", None, float("nan"))
    rows[1] = ("p-0002.jpg", "bag", 0.9)
    record = judged(layout, Case(ORDINARY.but(rows=rows, lost=1), wrong=range(20)))

    def said(name: str) -> tuple[str, str]:
        return result(record, name).expected, result(record, name).actual

    assert said("row_books") == (
        "402 rows in = predicted + quarantined, in the run manifest and in the files",
        "400 + 2 in the manifest, 399 + 2 in the files",
    )
    assert said("unique_keys") == ("at most 0 rows with the key of another row", "1, such as p-0002.jpg")
    assert said("nulls") == ("at most 0 rows with a null, or a score that is NaN or infinite", "1 (1 null, 1 NaN)")
    assert said("quarantine_rate")[1] == "0.50% (empty_file 1, not_an_image 1)"
    expected, actual = said("label_drift")
    assert expected == "the labels' shares moved by a PSI of at most 0.250 since 2026-01-01"
    assert actual.endswith("(bag 25.0% → 54.9%, shoe 25.0% → 5.0%, shirt 25.0% → 15.0%)")


@pytest.mark.parametrize(
    ("settings", "rule", "labels", "message"),
    [
        ({"nuls": {}}, "previous", None, "there is no nuls"),
        ({}, "yesterday", None, "baseline: there is no rule 'yesterday'"),
        ({}, "previous", "/nowhere/labels.csv", "labels: there is no /nowhere/labels.csv"),
        ({"recall": {"classes": {"shoo": 0.9}}}, "previous", None, "the model has no class 'shoo'"),
    ],
)
def test_what_a_person_gave_and_cannot_be_used(
    layout: OutputLayout, settings: Mapping[str, Any], rule: str, labels: str | None, message: str
) -> None:
    manifest = ORDINARY.stage(layout, TODAY)

    with pytest.raises(BadInputError, match=message):
        judge(layout, manifest, settings, rule, labels)


def test_a_limit_without_labels_says_that_nothing_was_judged(layout: OutputLayout) -> None:
    record = judge(layout, ORDINARY.stage(layout, TODAY), {"accuracy": {"min": 0.9}, "recall": {"min": 0.5}}, labels="")

    assert {result(record, name).actual for name in ("accuracy", "recall")} == {
        "no labels were given, so nothing was judged"
    }


def test_a_table_for_each_day_may_not_be_there_yet(layout: OutputLayout) -> None:
    manifest = ORDINARY.stage(layout, TODAY)

    record = judge(layout, manifest, {"accuracy": {"min": 0.9}}, labels=f"{layout.root}/{{partition}}.csv")

    (found,) = [one for one in record.results if one.name == "accuracy"]
    assert found.passed
    assert found.actual == f"there are no labels at {layout.root}/{TODAY}.csv, so nothing was judged"


def test_rows_that_are_nowhere_or_cannot_be_read(layout: OutputLayout) -> None:
    manifest = ORDINARY.stage(layout, TODAY)
    file = layout.staging(manifest.run) / "predictions" / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:-100])

    with pytest.raises(SparkJobError, match=f"the files of run {manifest.run} cannot be read: .*run inference again"):
        judge(layout, manifest)

    file.rename(file.with_suffix(".gone"))
    layout.staging(manifest.run).rename(layout.root / "elsewhere")
    with pytest.raises(PublishError, match="neither staged nor published"):
        judge(layout, manifest)


def result(record: CheckRecord, name: str) -> CheckResult:
    return next(one for one in record.results if one.name == name)
