# SPDX-License-Identifier: Apache-2.0
"""A person's word before publishing. Airflow's own part of it (waiting, the form) is Airflow's to test."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import exceptions
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_onnx_provider.operators.approval import OnnxApprovalOperator
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.spark.staging import stage

# Before Airflow 3.3 a trigger waits for the answer.
WAITING = getattr(exceptions, "TaskAwaitingInput", TaskDeferred)
BOOKS = CheckResult("row_books", "error", True, "books that balance", "they do")
GREY = CheckResult("label_drift", "error", True, "at most 0.25", "0.31", value=0.31, limit=0.25, grey=True)
RECORD_TIME = datetime(2026, 1, 2, tzinfo=UTC)
RECORD = CheckRecord("a", "2026-01-01", "2026-01-02T03:00:00+00:00", "the previous day", ("2025-12-31",), (BOOKS,))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What Airflow's list of required actions is told."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **detail: told.update(detail)
    )
    return told


def approval(tmp_path: Path, record: CheckRecord | None, when: str) -> OnnxApprovalOperator:
    layout = OutputLayout(tmp_path / "out")
    stage(layout, "a")
    if record is not None:
        record.write(layout.checks("a"))
    predictions = {"run_manifest": str(layout.run_manifest("a")), "verdict": "passed"}
    return OnnxApprovalOperator(task_id="approve", predictions=predictions, when=when)


@pytest.mark.parametrize(("when", "results"), [("never", (BOOKS, GREY)), ("grey", (BOOKS,))])
def test_nobody_is_asked(when: str, results: tuple[CheckResult, ...], tmp_path: Path, asked: dict[str, Any]) -> None:
    operator = approval(tmp_path, replace(RECORD, results=results), when)

    assert operator.execute({})["verdict"] == "passed", "the publish task gets what the check task gave"
    assert not asked


@pytest.mark.parametrize(("when", "results"), [("grey", (BOOKS, GREY)), ("always", (BOOKS,))])
def test_a_person_is_asked(when: str, results: tuple[CheckResult, ...], tmp_path: Path, asked: dict[str, Any]) -> None:
    operator = approval(tmp_path, replace(RECORD, results=results), when)

    with pytest.raises(WAITING):
        operator.execute({"task_instance": SimpleNamespace(id=uuid.uuid4())})  # type: ignore[arg-type]

    assert asked["options"] == ["Approve", "Reject"]
    assert "2026-01-01" in asked["subject"]
    assert "Open the report" in asked["body"]
    assert ("label_drift" in asked["body"]) == (GREY in results)


def test_the_answer_goes_with_the_predictions(tmp_path: Path) -> None:
    operator = approval(tmp_path, RECORD, "always")
    answer = {"chosen_options": ["Approve"], "params_input": {}, "responded_at": RECORD_TIME}

    given = operator.execute_complete({}, {**answer, "responded_by_user": {"id": "7", "name": "ada"}})

    assert (given["approved_by"], given["verdict"]) == ("ada", "passed")


def test_a_run_that_was_not_judged(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="was not judged: put OnnxPredictionCheckOperator before"):
        approval(tmp_path, None, "grey").execute({})


def test_a_word_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AirflowFailException, match="expected one of never, grey, always, got 'sometimes'"):
        approval(tmp_path, RECORD, "sometimes").execute({})
