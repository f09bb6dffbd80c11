"""Checks as data: settings and one run's figures in, a list of verdicts out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from airflow_onnx_provider.exceptions import BadInputError, ChecksFailedError
from airflow_onnx_provider.quality.drift import label_share_drift

Severity = Literal["warn", "error"]


@dataclass(frozen=True)
class RunFigures:
    """The figures of one run that checks look at.

    :param rows_in: input files
    :param predicted: predicted rows as the run manifest has them
    :param quarantined: reason to rows
    :param staged_predicted: rows in the staged prediction files, counted by the check itself
    :param staged_quarantined: rows in the staged quarantine files, counted by the check itself
    :param null_rows: predicted rows with a null or not-a-number value
    :param labels: label to predicted rows
    :param known_labels: the model's labels, empty if it has none
    :param mean_score: mean confidence of the predicted rows, None without rows
    :param baseline: label to rows of the previous published partition, None if there is none
    :param baseline_name: that partition
    """

    rows_in: int
    predicted: int
    quarantined: Mapping[str, int]
    staged_predicted: int
    staged_quarantined: int
    null_rows: int
    labels: Mapping[str, int]
    known_labels: Sequence[str]
    mean_score: float | None
    baseline: Mapping[str, int] | None = None
    baseline_name: str | None = None


@dataclass(frozen=True)
class CheckResult:
    """One verdict.

    :param name: of the check
    :param severity: what a failure means: ``warn`` is logged, ``error`` stops the run
    :param passed: the verdict
    :param expected: in words
    :param actual: in words
    """

    name: str
    severity: Severity
    passed: bool
    expected: str
    actual: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        state = "passed" if self.passed else "FAILED" if self.severity == "error" else "WARNING"
        return f"{self.name}: {state}; expected {self.expected}, found {self.actual}"


Verdict = tuple[bool, str, str]


def _row_books(figures: RunFigures, _limit: None) -> Verdict:
    quarantined = sum(figures.quarantined.values())
    balanced = (
        figures.rows_in == figures.predicted + quarantined
        and figures.predicted == figures.staged_predicted
        and quarantined == figures.staged_quarantined
    )
    return (
        balanced,
        f"{figures.rows_in} rows in = predicted + quarantined, in the run manifest and in the files",
        f"{figures.predicted} + {quarantined} in the manifest, "
        f"{figures.staged_predicted} + {figures.staged_quarantined} in the files",
    )


def _quarantine_rate(figures: RunFigures, limit: float) -> Verdict:
    quarantined = sum(figures.quarantined.values())
    rate = quarantined / figures.rows_in if figures.rows_in else 1.0
    reasons = ", ".join(f"{reason} {rows}" for reason, rows in sorted(figures.quarantined.items()))
    return rate <= limit, f"at most {limit:.2%} of the rows", f"{rate:.2%}" + (f" ({reasons})" if reasons else "")


def _nulls(figures: RunFigures, limit: float) -> Verdict:
    return figures.null_rows <= limit, f"at most {limit:g} rows with null or NaN", str(figures.null_rows)


def _unknown_labels(figures: RunFigures, limit: float) -> Verdict:
    unknown = {
        one: rows for one, rows in figures.labels.items() if figures.known_labels and one not in figures.known_labels
    }
    listed = ", ".join(f"{label!r} {rows}" for label, rows in sorted(unknown.items())[:5])
    found = sum(unknown.values())
    return (
        found <= limit,
        f"at most {limit:g} rows with a label that the model does not have",
        f"{found} {listed}".strip(),
    )


def _mean_confidence(figures: RunFigures, limit: float) -> Verdict:
    if figures.mean_score is None:
        return False, f"a mean score of at least {limit:.3f}", "no predicted row"
    return figures.mean_score >= limit, f"a mean score of at least {limit:.3f}", f"{figures.mean_score:.3f}"


def _label_drift(figures: RunFigures, limit: float) -> Verdict:
    expected = f"at most {limit:.2%} of the rows moved to another label"
    if figures.baseline is None:
        return True, expected, "no earlier published partition to compare with"
    drift = label_share_drift(figures.labels, figures.baseline)
    return drift <= limit, f"{expected} since {figures.baseline_name}", f"{drift:.2%}"


@dataclass(frozen=True)
class _Check:
    """How to judge, and the only setting.

    :param setting: name of the check's only setting, None if it has none
    """

    judge: Callable[[RunFigures, Any], Verdict]
    setting: str | None
    default: float | None


CHECKS: Mapping[str, _Check] = {
    "row_books": _Check(_row_books, None, None),
    "quarantine_rate": _Check(_quarantine_rate, "max", 0.05),
    "nulls": _Check(_nulls, "max", 0),
    "unknown_labels": _Check(_unknown_labels, "max", 0),
    "mean_confidence": _Check(_mean_confidence, "min", 0.5),
    "label_drift": _Check(_label_drift, "max", 0.2),
}
"""The checks by name. Each runs unless it is set to None; ``row_books`` always runs."""


def run_checks(
    figures: RunFigures, settings: Mapping[str, Mapping[str, Any] | None] | None = None
) -> list[CheckResult]:
    """Judge one run.

    :param settings: check name to ``{"max": …}`` or ``{"min": …}`` and ``{"severity": "warn" | "error"}``; a check
        that is not named runs with its defaults, one that is set to None does not run
    :return: one result a check, in the order of :data:`CHECKS`
    :raises BadInputError: for an unknown check or setting, naming it and what there is
    """
    given = dict(settings or {})
    if unknown := sorted(set(given) - set(CHECKS)):
        raise BadInputError(f"checks: there is no {', '.join(unknown)}; there is {', '.join(CHECKS)}")
    books = given.get("row_books", {})
    if books is None or (isinstance(books, Mapping) and books.get("severity", "error") != "error"):
        raise BadInputError("checks: row_books cannot be switched off; books that do not balance prove nothing")
    results = []
    for name, check in CHECKS.items():
        if name in given and given[name] is None:
            continue
        severity, limit = _options(name, check, given.get(name, {}))
        results.append(CheckResult(name, severity, *check.judge(figures, limit)))
    return results


def _options(name: str, check: _Check, given: Any) -> tuple[Severity, float | None]:
    """The severity and the limit of one check.

    :raises BadInputError: naming the check and what was wrong
    """
    if not isinstance(given, Mapping):
        raise BadInputError(f"checks: {name}: expected a dict of settings or None, got {given!r}")
    options = dict(given)
    severity = options.pop("severity", "error")
    if severity not in get_args(Severity):
        raise BadInputError(f"checks: {name}: severity is warn or error, got {severity!r}")
    limit: Any = options.pop(check.setting, check.default) if check.setting else None
    if options:
        known = ", ".join(filter(None, (check.setting, "severity")))
        raise BadInputError(f"checks: {name} knows {known}, got {', '.join(options)}")
    if check.setting is None:
        return severity, None
    try:
        number = float(limit)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadInputError(f"checks: {name}: {check.setting} must be a number, got {limit!r}")
    return severity, number


def require_passed(results: Sequence[CheckResult], what: str) -> None:
    """Raise if any check of severity ``error`` failed.

    :param what: the run, as the message calls it
    :raises ChecksFailedError: listing every failed check with expected and actual
    """
    failed = [result for result in results if not result.passed]
    if any(result.severity == "error" for result in failed):
        lines = "\n".join(f"  - {result}" for result in failed)
        raise ChecksFailedError(
            f"{len(failed)} of {len(results)} checks failed for {what}, nothing was published:\n{lines}"
        )
