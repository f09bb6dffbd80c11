# SPDX-License-Identifier: Apache-2.0
"""What the checks said of a run, kept beside its manifest: verdicts, the baseline, accuracy on labelled rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import write_json

FORMAT = 1

Severity = Literal["warn", "error"]
Verdict = Literal["passed", "warned", "failed"]


@dataclass(frozen=True)
class CheckResult:
    """One check's verdict.

    :param name: of the check
    :param severity: what a failure means: ``warn`` is logged, ``error`` stops the run
    :param passed: whether the limit, with its tolerance, holds
    :param expected: in words
    :param actual: in words
    :param value: what was measured, None if nothing was or it is no number
    :param limit: what it was held to, likewise
    :param grey: it passed only thanks to the tolerance: a person may want to look
    """

    name: str
    severity: Severity
    passed: bool
    expected: str
    actual: str
    value: float | None = None
    limit: float | None = None
    grey: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        failed = "FAILED" if self.severity == "error" else "WARNING"
        state = failed if not self.passed else "passed within its tolerance" if self.grey else "passed"
        return f"{self.name}: {state}; expected {self.expected}, found {self.actual}"


@dataclass(frozen=True)
class Accuracy:
    """Predictions against labelled rows.

    :param rows: labelled rows that were predicted
    :param missing: labelled rows without a prediction
    :param correct: rows whose label is right
    :param low: lower bound of the 95 % Wilson interval of the accuracy
    :param high: upper bound
    :param recall: true label to (right rows, labelled rows)
    :param confusion: (true label, predicted label, rows) of cells that are not empty, most rows first, at most 2,000
    """

    rows: int
    missing: int
    correct: int
    low: float
    high: float
    recall: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    confusion: tuple[tuple[str, str, int], ...] = ()

    @property
    def share(self) -> float:
        """Right rows of the labelled ones, 0 to 1; 0 without any."""
        return self.correct / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class CheckRecord:
    """All verdicts of one run: ``<output>/_checks/<run>.json``.

    :param run: the run's name
    :param partition: of the data
    :param judged: when (ISO 8601, UTC)
    :param baseline: how it was chosen, in words
    :param baseline_partitions: what the run was compared with; empty if there was nothing
    :param results: one a check
    :param accuracy: on labelled rows, None if there were none
    """

    run: str
    partition: str
    judged: str
    baseline: str
    baseline_partitions: tuple[str, ...]
    results: tuple[CheckResult, ...]
    accuracy: Accuracy | None = None

    @property
    def verdict(self) -> Verdict:
        """``failed`` if a check of severity ``error`` failed, ``warned`` if another did or one is grey."""
        if any(not one.passed and one.severity == "error" for one in self.results):
            return "failed"
        return "warned" if any(not one.passed or one.grey for one in self.results) else "passed"

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that did not pass, of either severity."""
        return tuple(one for one in self.results if not one.passed)

    @property
    def grey(self) -> tuple[CheckResult, ...]:
        """The checks that passed only thanks to their tolerance."""
        return tuple(one for one in self.results if one.grey)

    def value(self, name: str) -> float | None:
        """What the check of this name measured, None if it did not run or found no number."""
        return next((one.value for one in self.results if one.name == name), None)

    def write(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, "verdict": self.verdict, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> CheckRecord | None:
        """Read a record, None if the run was not judged.

        :raises BadInputError: if the file is no record
        """
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON: {error}") from error
        try:
            if data["format"] != FORMAT:
                raise BadInputError(f"{path}: format {data['format']}; this version reads {FORMAT}")
            return cls(
                run=data["run"],
                partition=data["partition"],
                judged=data["judged"],
                baseline=data["baseline"],
                baseline_partitions=tuple(data["baseline_partitions"]),
                results=tuple(CheckResult(**one) for one in data["results"]),
                accuracy=_accuracy(data.get("accuracy")),
            )
        except (KeyError, TypeError) as error:
            raise BadInputError(f"{path} is no record of checks: {error!r}") from error


def _accuracy(data: Mapping[str, Any] | None) -> Accuracy | None:
    if data is None:
        return None
    cells: Sequence[Sequence[Any]] = data["confusion"]
    return Accuracy(
        **{
            **data,
            "recall": {label: (right, rows) for label, (right, rows) in data["recall"].items()},
            "confusion": tuple((true, predicted, rows) for true, predicted, rows in cells),
        }
    )
