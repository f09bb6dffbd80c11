# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from airflow_onnx_provider.quality.alerts import Change, Threshold
from airflow_onnx_provider.quality.message import LONGEST, RunMessage, message_of
from airflow_onnx_provider.quality.verdict import Accuracy, CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.spark.staging import a_manifest

MANIFEST = a_manifest("run-1", OutputLayout(Path("/predictions")), rows_in=12003, predicted=12002)
RESULTS = (
    CheckResult("nulls", "error", passed=False, expected="at most 0", actual="7", value=7, limit=0),
    CheckResult("label_drift", "warn", passed=True, expected="", actual="", value=0.041, limit=0.2),
)
RECORD = CheckRecord(
    "run-1", "2026-01-01", "2026-01-01T00:00:00+00:00", "2025-12-31", ("2025-12-31",), RESULTS,
    Accuracy(rows=1000, missing=2, correct=931, low=0.913, high=0.945),
)  # fmt: skip


def test_a_run_in_a_few_lines() -> None:
    raised = Change(Threshold("raw_share", 0.6, 0.7), raised=True, value=0.5)

    message = message_of(MANIFEST, RECORD, [raised], "https://airflow/onnx/report")

    assert message.text == (
        "colours 2026-01-01: failed\n"
        "RAISED raw_share: 0.5, threshold 0.6 for 2 runs\n"
        "nulls: FAILED; expected at most 0, found 7\n"
        "12,003 rows in, 12,002 predicted, 1 quarantined (not_an_image 1)\n"
        "30 images/s, 75% of the raw speed, batch P99 3 ms\n"
        "label drift 0.041 (baseline: 2025-12-31)\n"
        "accuracy 93.10% (91.30% to 94.50%) on 1,000 labelled rows\n"
        "https://airflow/onnx/report"
    )
    assert message.markdown.startswith("**colours 2026-01-01: failed**\n\n- RAISED raw_share")


def test_a_run_that_was_not_judged() -> None:
    assert message_of(MANIFEST, None).text.splitlines()[0] == "colours 2026-01-01: not judged"


def test_an_error_that_the_checks_do_not_tell_comes_first() -> None:
    good = CheckRecord("run-1", "2026-01-01", "2026-01-01T00:00:00+00:00", "none", (), RESULTS[1:])

    assert message_of(MANIFEST, good, error=OSError("the disk is full")).text.startswith(
        "colours 2026-01-01: failed\nthe disk is full\n12,003 rows in"
    )
    assert "the disk" not in message_of(MANIFEST, RECORD, error=OSError("the disk is full")).text


@given(st.lists(st.text(max_size=400), max_size=8), st.booleans())
def test_it_is_short_and_keeps_its_link(lines: list[str], linked: bool) -> None:
    link = "https://airflow/onnx/report?run=1" if linked else ""
    message = RunMessage("colours 2026-01-01: failed", tuple(lines), link)

    for text in (message.text, message.markdown):
        assert len(text) <= LONGEST
        assert text.endswith(link)
        assert "colours 2026-01-01: failed" in text
