# SPDX-License-Identifier: Apache-2.0
"""Operator: ask a person before a doubtful day is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.links import report_address
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout

if TYPE_CHECKING:
    from airflow.sdk import Context

WHEN = ("never", "grey", "always")


class OnnxApprovalOperator(ApprovalOperator):
    """Wait for a person's word between the check and the publish task, if the run is in doubt.

    With ``when="grey"`` a person is asked if a check passed only thanks to its tolerance; the task waits in Airflow's
    own list of required actions, without a worker slot, and shows what is in doubt and where the report is. Otherwise,
    and where nobody shall be asked (the default, so that ``airflow dags test`` runs through), it passes at once.

    Returns what it was given, so that the publish task can follow it; after an answer with ``approved_by``.

    Fails, without anything being published, when the answer is no; with ``fail_on_reject=False`` the tasks behind it
    are skipped instead. Fails without retry if the run was not judged. Further arguments are those of Airflow's
    ``ApprovalOperator``: ``response_timeout``, ``defaults``, ``assigned_users``, ``notifiers``.

    :param predictions: a check task's output. (templated)
    :param when: ``never``, ``grey`` or ``always``. (templated)
    :param subject: what is asked; the day and its verdict follow. (templated)
    """

    template_fields: Sequence[str] = ("predictions", "when", *ApprovalOperator.template_fields)

    def __init__(
        self,
        *,
        predictions: PredictionsReference,
        when: str = "never",
        subject: str = "May these predictions be published?",
        fail_on_reject: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(subject=subject, fail_on_reject=fail_on_reject, **kwargs)
        self.predictions = predictions
        self.when = when

    def execute(self, context: Context) -> dict[str, Any]:
        """Pass, or wait."""
        with no_retry_for_bad_input():
            manifest = manifest_of(self.predictions)
            layout = OutputLayout(Path(manifest.output_path))
            record = CheckRecord.read(layout.checks(manifest.run))
            if record is None:
                raise BadInputError(
                    f"run {manifest.run} was not judged: put OnnxPredictionCheckOperator before this task"
                )
            if not self._asks(record):
                self.log.info("nobody is asked (%s): %s", self.when, _doubts(record) or "every check passed")
                return self._given()
        self.subject = f"{self.subject} {manifest.partition}: {record.verdict}"
        self.body = "\n\n".join(filter(None, (self.body, question(record, report_address(*_place(manifest))))))
        super().execute(context)
        raise AssertionError("waiting ends this call")  # pragma: no cover

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on with the answer."""
        answer = super().execute_complete(context, event)
        user = answer.get("responded_by_user") or {}
        return {**self._given(), "approved_by": user.get("name") or user.get("id")}

    def _asks(self, record: CheckRecord) -> bool:
        if self.when not in WHEN:
            raise BadInputError(f"when: expected one of {', '.join(WHEN)}, got {self.when!r}")
        return self.when == "always" or (self.when == "grey" and bool(record.grey))

    def _given(self) -> dict[str, Any]:
        return dict(self.predictions) if isinstance(self.predictions, Mapping) else {"run_manifest": self.predictions}


def _place(manifest: Any) -> tuple[str, str]:
    return manifest.output_path, manifest.run


def _doubts(record: CheckRecord) -> str:
    return "; ".join(str(one) for one in (*record.failed, *record.grey))


def question(record: CheckRecord, report: str) -> str:
    """What a person needs to decide, as Markdown.

    :param report: address of the run's report
    """
    doubts = [
        f"- **{one.name}**: expected {one.expected}, found {one.actual}" for one in (*record.failed, *record.grey)
    ]
    return "\n".join(
        [
            f"Partition {record.partition}, run {record.run}, compared with {record.baseline}.",
            "",
            *(doubts or ["Every check passed."]),
            "",
            f"[Open the report]({report})",
        ]
    )
