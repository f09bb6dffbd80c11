# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.exposition import (
    LATENCY_BOUNDS,
    last_published,
    latency_histogram,
    registry_of,
    write_textfile,
)
from airflow_onnx_provider.quality.verdict import Accuracy, CheckRecord, CheckResult
from airflow_onnx_provider.runtime.metrics import BUCKETS_PER_DECADE, latency_bounds
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.run_manifest import RunManifest
from tests.spark.staging import a_manifest, stage

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def manifest(**fields: Any) -> RunManifest:
    return a_manifest(fields.pop("run", "run-1"), OutputLayout(Path("/predictions")), **fields)


def record(*results: CheckResult, accuracy: Accuracy | None = None) -> CheckRecord:
    return CheckRecord("run-1", "2026-01-01", "2026-01-01T10:00:00+00:00", "none", (), results, accuracy)


BOOKS = CheckResult("row_books", "error", passed=True, expected="3", actual="2 + 1")
DRIFT = CheckResult("label_drift", "error", passed=False, expected="≤ 0.2", actual="0.3", value=0.3, limit=0.2)


def series(of: RunManifest, judged: CheckRecord | None = None, published: float | None = None) -> Series:
    """Name and labels (without the two that all have) to value, as Prometheus would read it."""
    text = generate_latest(registry_of(of, judged, "catalog", published)).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert (labels.pop("onnx_job"), labels.pop("model")) == ("catalog", "colours")
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def at(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"onnx_run_{name}", frozenset(labels.items())


def test_what_a_judged_run_shows() -> None:
    shown = series(
        manifest(finished="2026-01-01T10:00:00+00:00", carried=1, seconds={"job": 9.0, "read": 0.5}),
        record(BOOKS, DRIFT, accuracy=Accuracy(rows=10, missing=0, correct=9, low=0.6, high=0.98)),
    )

    assert shown[at("rows", outcome="predicted")] == 2
    assert shown[at("rows", outcome="quarantined")] == 1
    assert shown[at("quarantined_rows", reason="not_an_image")] == 1
    assert shown[at("carried_rows")] == 1
    assert shown[at("duration_seconds", part="job")] == 9
    assert shown[at("worker_seconds", part="read")] == 0.5
    assert shown[at("peak_memory_bytes")] == 120 * 2**20
    assert shown[at("verdict")] == 2
    assert shown[at("check_passed", check="row_books")] == 1
    assert shown[at("check_passed", check="label_drift")] == 0
    assert shown[at("check_value", check="label_drift")] == 0.3
    assert shown[at("check_limit", check="label_drift")] == 0.2
    assert shown[at("accuracy_ratio", bound="low")] == 0.6
    assert shown[at("accuracy_ratio", bound="measured")] == 0.9
    assert shown[at("finished_timestamp_seconds")] == 1767261600
    assert shown[at("info", run="run-1", partition="2026-01-01", version="0123")] == 1


def test_what_was_not_measured_is_not_shown() -> None:
    """Manifests of earlier versions have neither sizes nor times nor buckets; scores may be absent or no number."""
    shown = {name for name, _ in series(manifest(mean_score=math.nan, raw_share=math.inf, quarantined={}))}

    for absent in ("model_size_bytes", "finished_timestamp_seconds", "mean_score", "raw_speed_ratio", "verdict"):
        assert f"onnx_run_{absent}" not in shown
    assert not any(name.startswith("onnx_run_batch_latency") for name in shown)
    assert "onnx_run_quarantined_rows" not in shown


@pytest.mark.parametrize(
    ("judged", "published", "expected"),
    [
        (record(BOOKS), 5.0, 1767261600.0),
        (record(BOOKS, DRIFT), 5.0, 5.0),
        (record(BOOKS, DRIFT), None, None),
        (None, 5.0, 5.0),
        (None, None, None),
    ],
)
def test_a_failed_or_unjudged_run_is_not_the_last_good_one(
    judged: CheckRecord | None, published: float | None, expected: float | None
) -> None:
    shown = series(manifest(finished="2026-01-01T10:00:00+00:00"), judged, published)

    assert shown.get(at("last_good_timestamp_seconds")) == expected


def test_the_number_of_series_does_not_grow_with_the_days_or_the_labels() -> None:
    one = manifest(latency_buckets=[[0.001, 5]])
    other = manifest(
        run="run-2",
        partition="2026-01-02",
        labels={f"label {number}": 1 for number in range(1000)},
        latency_buckets=[[0.5, 1], [0.9, 1]],
    )

    assert {key for key in series(one) if key[0] != "onnx_run_info"} == {
        key for key in series(other) if key[0] != "onnx_run_info"
    }


@given(st.dictionaries(st.integers(-5 * BUCKETS_PER_DECADE, 3 * BUCKETS_PER_DECADE), st.integers(1, 1000), min_size=1))
def test_folding_moves_no_batch_over_a_bound(buckets: dict[int, int]) -> None:
    fine = latency_bounds(buckets)

    folded = latency_histogram(manifest(latency_buckets=tuple(fine)))

    assert folded[-1] == ("+Inf", sum(buckets.values()))
    for bound, (name, count) in zip(LATENCY_BOUNDS, folded[:-1], strict=True):
        assert float(name) == bound
        assert count == sum(batches for upper, batches in fine if upper <= bound)


def test_the_histogram_adds_up_to_the_time_in_session_run() -> None:
    shown = series(manifest(latency_buckets=((0.01, 3), (0.1, 1)), seconds={"inference": 0.12}))

    assert shown[at("batch_latency_seconds_count")] == 4
    assert shown[at("batch_latency_seconds_sum")] == 0.12


def test_the_text_file_is_replaced_whole_and_readable_by_others(tmp_path: Path) -> None:
    (tmp_path / "catalog.prom").write_text("of yesterday")

    path = write_textfile(tmp_path, "catalog", registry_of(manifest(), None, "catalog"))

    assert path.read_text().startswith("# HELP onnx_run_info")
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    assert path.stat().st_mode & stat.S_IROTH


def test_a_replay_has_the_days_books_and_no_speed() -> None:
    names = {name for name, _ in series(manifest(replays="run-0", raw_images_per_second=0.0, raw_share=0.0))}

    assert "onnx_run_rows" in names
    assert not {name for name in names if "images_per_second" in name or "raw" in name}


def test_the_folder_is_made(tmp_path: Path) -> None:
    path = write_textfile(tmp_path / "new", "catalog", registry_of(manifest(), None, "catalog"))
    assert path == tmp_path / "new" / "catalog.prom"


@pytest.mark.parametrize("job", ["", "../up", "two words", "x" * 61])
def test_a_name_that_cannot_be_a_file_is_refused(job: str) -> None:
    with pytest.raises(BadInputError, match="cannot name the series"):
        registry_of(manifest(), None, job)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(BadInputError, match=r"pip install 'airflow-onnx-provider\[prometheus\]'"):
        registry_of(manifest(), None, "catalog")


def test_when_something_was_last_published(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)
    assert last_published(layout) is None
    for day in ("2026-01-02", "2026-01-01"):
        stage(layout, day, day)
        publish(layout, day, day)

    newest, when = last_published(layout) or ("", 0.0)

    assert newest == "2026-01-02"
    assert when == (layout.published("2026-01-01") / "_run.json").stat().st_mtime
