# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.baseline import Baseline, choose
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from tests.spark.staging import a_manifest


@pytest.fixture
def layout(tmp_path: Path) -> OutputLayout:
    return OutputLayout(tmp_path)


def publish(layout: OutputLayout, *partitions: str, **fields: Any) -> None:
    """Published partitions as far as a baseline looks at them: their run manifests."""
    for partition in partitions:
        folder = layout.published(partition)
        folder.mkdir(parents=True)
        a_manifest(f"run-{partition}", layout, partition=partition, **fields).write(folder / RUN_FILE)


def days(first: int, last: int) -> list[str]:
    """Of January 2026; the first is a Thursday."""
    return [f"2026-01-{day:02d}" for day in range(first, last + 1)]


@pytest.mark.parametrize(
    ("rule", "partitions", "words"),
    [
        ("previous", ["2026-01-14"], "the previous published partition"),
        (" previous ", ["2026-01-14"], "the previous published partition"),
        ("same_weekday", ["2026-01-08"], "the previous published Thursday"),
        ("trailing:3", days(12, 14), "the last 3 published partitions together"),
        ("trailing:1", ["2026-01-14"], "the last 1 published partitions together"),
        ("trailing:100", days(1, 14), "the last 100 published partitions together"),
        ("pinned:2026-01-03", ["2026-01-03"], "the pinned partition"),
        ("pinned: 2026-01-20", ["2026-01-20"], "the pinned partition"),
    ],
)
def test_the_rules(layout: OutputLayout, rule: str, partitions: list[str], words: str) -> None:
    publish(layout, *days(1, 15), "2026-01-20")  # the 15th has been published before: it is not its own baseline

    found = choose(layout, "2026-01-15", rule)

    assert (list(found.partitions), found.rule, str(found)) == (partitions, words, words)


def test_the_figures_of_several_partitions_are_added(layout: OutputLayout) -> None:
    publish(layout, "2026-01-01", labels={"red": 2, "blue": 1}, score_histogram=(0,) * 19 + (3,))
    publish(layout, "2026-01-02", labels={"red": 5}, score_histogram=(1, *(0,) * 18, 4))

    found = choose(layout, "2026-01-03", "trailing:7")

    assert found.labels == {"red": 7, "blue": 1}
    assert found.score_histogram == (1, *(0,) * 18, 7)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("previous", "no earlier published partition"),
        ("same_weekday", "no earlier published Thursday"),
        ("trailing:7", "no earlier published partition"),
        ("pinned:2025-12-01", "the pinned partition 2025-12-01 is not published"),
        ("pinned:2026-01-15", "the pinned partition 2026-01-15 is the one that is judged"),
    ],
)
def test_a_first_day_has_no_baseline_and_says_why(layout: OutputLayout, rule: str, why: str) -> None:
    publish(layout, "2026-01-15", "2026-01-22")

    assert choose(layout, "2026-01-15", rule) == Baseline(why)


def test_an_output_folder_that_is_not_there_yet_has_no_baseline(tmp_path: Path) -> None:
    assert choose(OutputLayout(tmp_path / "nowhere"), "2026-01-01") == Baseline("no earlier published partition")


def broken(layout: OutputLayout, partition: str, text: str | bytes) -> None:
    publish(layout, partition)
    file = layout.published(partition) / RUN_FILE
    file.write_bytes(text.encode() if isinstance(text, str) else text)


def test_partitions_that_cannot_serve_are_named_and_passed_over(layout: OutputLayout) -> None:
    publish(layout, "2026-01-01")
    broken(layout, "2026-01-02", "{")
    broken(layout, "2026-01-03", '{"format": 1, "state": "finished"}')
    broken(layout, "2026-01-04", b"\xff\xfe")
    publish(layout, "2026-01-05", labels={})
    publish(layout, "2026-01-06", score_histogram=(1, 2))
    publish(layout, "2026-01-07", labels={"red": "many"})

    found = choose(layout, "2026-01-08", "previous")

    assert found.partitions == ("2026-01-01",)
    assert [reason.split(":")[0] for reason in found.skipped] == list(reversed(days(2, 7)))
    assert "2026-01-05: it has no predicted row" in found.skipped
    assert "2026-01-06: its run manifest has no label counts or no score histogram" in found.skipped
    assert "2026-01-07: its run manifest has counts that are no counts" in found.skipped
    assert str(found).startswith("the previous published partition (not used: 2026-01-07: its run manifest")


def test_a_pinned_partition_that_cannot_serve_has_no_substitute(layout: OutputLayout) -> None:
    publish(layout, "2026-01-01")
    broken(layout, "2026-01-02", "{")

    found = choose(layout, "2026-01-08", "pinned:2026-01-02")

    assert (found.partitions, found.rule) == ((), "the pinned partition 2026-01-02 cannot serve")
    assert "is not JSON" in found.skipped[0]


def test_manifests_of_the_first_version_serve(layout: OutputLayout) -> None:
    publish(layout, "2026-01-01")
    file = layout.published("2026-01-01") / RUN_FILE
    data = json.loads(file.read_text())
    for name in ("source", "latency_buckets", "slowest", "started", "finished", "replays"):
        del data[name]
    file.write_text(json.dumps(data))

    assert choose(layout, "2026-01-02").partitions == ("2026-01-01",)


@pytest.mark.parametrize(
    ("partition", "rule", "message"),
    [
        ("2026-01-02", "yesterday", "there is no rule 'yesterday'; use previous, same_weekday, trailing:7 or pinned:"),
        ("2026-01-02", "previous:3", "there is no rule 'previous:3'"),
        ("2026-01-02", "pinned:", "there is no rule 'pinned:'"),
        ("2026-01-02", "pinned:../etc", "cannot name a partition"),
        ("2026-01-02", "trailing", "'trailing' says not how many partitions"),
        ("2026-01-02", "trailing:0", "'trailing:0' says not how many partitions"),
        ("2026-01-02", "trailing:a few", "says not how many partitions"),
        ("2026-01-02", "None", "there is no rule 'None'"),
        ("week-5", "same_weekday", "needs partitions that are dates such as 2026-01-31, but this one is 'week-5'"),
        ("20260105", "same_weekday", "needs partitions that are dates"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(layout: OutputLayout, partition: str, rule: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        choose(layout, partition, rule)


def test_partitions_that_are_no_dates_have_no_weekday(layout: OutputLayout) -> None:
    publish(layout, "2026-01-08", "2026-01-14-late", "20260108", "2026-01")

    assert choose(layout, "2026-01-15", "same_weekday").partitions == ("2026-01-08",)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(days(1, 6))), st.sampled_from(days(1, 6)), st.integers(1, 4))
def test_a_baseline_is_earlier_and_as_late_as_can_be(
    tmp_path_factory: pytest.TempPathFactory, published: Set[str], partition: str, count: int
) -> None:
    layout = OutputLayout(tmp_path_factory.mktemp("days"))
    publish(layout, *published)

    found = choose(layout, partition, f"trailing:{count}")

    earlier = sorted(one for one in published if one < partition)
    assert list(found.partitions) == earlier[-count:]
    assert sum(found.labels.values()) == 2 * len(found.partitions)
