# SPDX-License-Identifier: Apache-2.0
"""A report's content, ready to be laid out: every value is text, every table has its headings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.pages.table import Table
from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.advice import advice
from airflow_onnx_provider.quality.reports.comparison import (
    AccuracyView,
    LabelsView,
    ScoresView,
    accuracy_of,
    compared_of,
    labels_of,
    scores_of,
)
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.reports.measures import TimeSpent, number
from airflow_onnx_provider.quality.reports.samples import Samples
from airflow_onnx_provider.quality.reports.shares import label_shares, moved
from airflow_onnx_provider.quality.reports.speed import SpeedView, speed_of
from airflow_onnx_provider.quality.reports.verdict import Remark, Verdict, verdict_of
from airflow_onnx_provider.quality.verdict import CheckResult

SHOWN_REASONS = 12
SHOWN_ROWS = 40
"""Rows of one table; what is left out is counted."""


SPARKS = {"python": "Python", "spark": "Spark", "application": "Spark application", "master": "Spark master"}


@dataclass(frozen=True)
class Figure:
    """A key figure.

    :param note: what it is to be seen beside
    """

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class CheckView:
    """One check's row.

    :param level: ``stop``, ``care`` or ``good``
    :param mark: a sign
    :param state: the same in words
    """

    level: str
    mark: str
    state: str
    name: str
    expected: str
    actual: str


@dataclass(frozen=True)
class ReportView:
    """Everything that a report shows."""

    partition: str
    model: str
    run: str
    verdict: Verdict
    figures: tuple[Figure, ...]
    advice: tuple[Remark, ...]
    checks: tuple[CheckView, ...]
    judged: str
    books: Table
    reasons: Table | None
    labels: LabelsView | None
    scores: ScoresView | None
    compared: str
    accuracy: AccuracyView | None
    speed: SpeedView
    samples: Samples
    plan: Table | None
    provenance: Table


def report_view(facts: RunFacts, samples: Samples) -> ReportView:
    """Put a report's content together.

    :raises BadInputError: if matplotlib is missing
    """
    manifest, record = facts.manifest, facts.record
    name, version = manifest.model.get("name"), manifest.model.get("version")
    shown = " ".join(words.clean(part) for part in (name, version) if part)
    return ReportView(
        partition=words.clean(manifest.partition),
        model=shown or words.clean(manifest.model.get("model", "not recorded")),
        run=words.clean(manifest.run),
        verdict=verdict_of(facts),
        figures=_figures(facts),
        advice=tuple(advice(facts)),
        checks=tuple(_check(result) for result in record.results) if record else (),
        judged=words.moment(record.judged) if record else "",
        books=_books(facts),
        reasons=_reasons(facts),
        labels=labels_of(facts),
        scores=scores_of(facts),
        compared=compared_of(facts),
        accuracy=accuracy_of(facts),
        speed=speed_of(facts),
        samples=samples,
        plan=_plan(facts),
        provenance=_provenance(facts),
    )


def _figures(facts: RunFacts) -> tuple[Figure, ...]:
    manifest = facts.manifest
    known = facts.record.accuracy if facts.record else None
    accurate = (
        Figure("Accuracy", words.percent(known.share),
               f"{words.percent(known.low)} to {words.percent(known.high)} on {words.count(known.rows, 'row')}")
        if known is not None and known.rows
        else Figure("Accuracy", "not known", "no labelled rows" if facts.record else "not judged yet")
    )  # fmt: skip
    drifted = Figure("Moved to another label", "not known", "no earlier day")
    if facts.before.partitions:
        share = moved(label_shares(manifest.labels, facts.before.labels))
        drifted = Figure("Moved to another label", words.percent(share), f"of the rows, since {_days(facts)}")
    raw = manifest.raw_images_per_second

    def part(rows: int) -> str:
        return f"{words.share(rows, manifest.rows_in)} of them"

    return (
        Figure("Rows in", words.count(manifest.rows_in)),
        Figure("Predicted", words.count(manifest.predicted), part(manifest.predicted)),
        Figure("In quarantine", words.count(manifest.quarantined_rows), part(manifest.quarantined_rows)),
        accurate,
        drifted,
        Figure("Mean score", f"{manifest.mean_score:.3f}" if manifest.mean_score is not None else "not known",
               "of the predicted rows"),
        Figure("Images a second", words.rate(manifest.images_per_second),
               f"scored in {words.seconds(TimeSpent.of(manifest).scoring)}"),
        Figure("Share of raw speed", words.percent(manifest.raw_share if raw else None),
               f"raw: {words.rate(raw)} a second" if raw else ""),
    )  # fmt: skip


def _days(facts: RunFacts) -> str:
    days = facts.before.partitions
    return words.clean(days[-1]) if len(days) == 1 else f"{len(days)} earlier days"


def _check(result: CheckResult) -> CheckView:
    level, mark, state = "good", "✓", "passed"
    if not result.passed:
        level, mark, state = ("stop", "✕", "failed") if result.severity == "error" else ("care", "!", "warning")
    elif result.grey:
        level, mark, state = "care", "≈", "passed within its tolerance"
    return CheckView(
        level,
        mark,
        state,
        words.sort_of_check(result.name),
        words.clean(result.expected, 400),
        words.clean(result.actual, 400),
    )


def _books(facts: RunFacts) -> Table:
    manifest = facts.manifest
    rows = [
        ("Rows in", words.count(manifest.rows_in), "100.0 %"),
        ("Predicted", words.count(manifest.predicted), words.share(manifest.predicted, manifest.rows_in)),
    ]
    if manifest.carried:
        rows.append(
            ("… of them carried over", words.count(manifest.carried), words.share(manifest.carried, manifest.rows_in))
        )
    if manifest.null_rows:
        rows.append(
            ("… of them unusable", words.count(manifest.null_rows), words.share(manifest.null_rows, manifest.rows_in))
        )
    quarantined = manifest.quarantined_rows
    rows.append(("In quarantine", words.count(quarantined), words.share(quarantined, manifest.rows_in)))
    lost = manifest.rows_in - manifest.predicted - quarantined
    rows.append(("Not accounted for", words.count(lost), words.share(abs(lost), manifest.rows_in)))
    return Table("Where each row went", ("", "Rows", "Share"), tuple(rows), numbers=(1, 2), strong=(len(rows) - 1,))


def _reasons(facts: RunFacts) -> Table | None:
    quarantined = facts.manifest.quarantined_rows
    if not quarantined:
        return None
    reasons = sorted(facts.manifest.quarantined.items(), key=lambda one: (-one[1], one[0]))
    return Table(
        "Why rows are in quarantine",
        ("Reason", "Rows", "Share"),
        tuple(
            (words.capital(words.reason(code)), words.count(rows), words.share(rows, quarantined))
            for code, rows in reasons[:SHOWN_REASONS]
        ),
        left_out=max(0, len(reasons) - SHOWN_REASONS),
        numbers=(1, 2),
    )


def _plan(facts: RunFacts) -> Table | None:
    decisions = [one for one in facts.manifest.plan.get("decisions") or () if isinstance(one, dict)]
    if not decisions:
        return None
    return Table(
        "What was planned, and why",
        ("What", "Value", "Reason"),
        tuple(
            (
                words.clean(str(one.get("name", "")).replace("_", " ")),
                words.setting(one.get("value")),
                words.clean(one.get("reason", ""), 400),
            )
            for one in decisions[:SHOWN_ROWS]
        ),
        left_out=max(0, len(decisions) - SHOWN_ROWS),
    )


def _provenance(facts: RunFacts) -> Table:
    manifest = facts.manifest
    source = manifest.source
    told: list[tuple[str, Any]] = [
        ("partition", manifest.partition),
        ("run", manifest.run),
        ("output", manifest.output_path),
        ("model", manifest.model.get("model")),
        ("model digest", manifest.model.get("digest")),
        ("model size", words.size(number(manifest.model.get("size_bytes")))),
        ("runtimes", ", ".join(manifest.runtimes)),
        *((f"source {name}", source.get(name)) for name in ("folder", "key", "input", "root")),
        ("newest file of the source", words.moment(str(source.get("newest") or ""))),
        ("scored with", words.setting(dict(manifest.scoring)) if manifest.scoring else None),
        *((SPARKS.get(name, words.clean(name)), words.setting(value)) for name, value in manifest.provenance.items()),
        ("started", words.moment(manifest.started)),
        ("finished", words.moment(manifest.finished)),
        ("judged", words.moment(facts.record.judged) if facts.record else None),
        ("replaces run", manifest.replaces),
        ("replays run", manifest.replays),
    ]  # fmt: skip
    rows = [(name, words.clean(value, 300)) for name, value in told if value not in (None, "", words.NOT_MEASURED)]
    return Table("What was run, on what, by what", ("What", "Value"), tuple(rows[:SHOWN_ROWS]),
                 left_out=max(0, len(rows) - SHOWN_ROWS))  # fmt: skip
