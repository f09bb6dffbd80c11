# SPDX-License-Identifier: Apache-2.0
"""The verdict: may these rows be trusted, in one line, and if not, why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from airflow_onnx_provider.quality.reports import words
from airflow_onnx_provider.quality.reports.facts import RunFacts
from airflow_onnx_provider.quality.verdict import CheckResult

Level = Literal["stop", "care", "good", "info"]
LEVELS: tuple[Level, ...] = ("stop", "care", "good", "info")

HEADLINES = {
    "failed": "Checks failed",
    "warned": "Passed with warnings",
    "passed": "Checks passed",
    "not judged": "Not judged yet",
}
PLACES = {
    "published": "published",
    "staged": "not published yet",
    "replaced": "replaced since by another run",
    "rolled back": "rolled back since",
    "removed": "its rows have been removed",
}


@dataclass(frozen=True)
class Remark:
    """One sentence or two.

    :param level: how grave it is
    """

    level: Level
    text: str


@dataclass(frozen=True)
class Verdict:
    """What to think of a run.

    :param state: ``passed``, ``warned``, ``failed`` or ``not judged``
    :param why: one line
    :param remarks: what failed, warned, or passed only thanks to its tolerance
    """

    state: str
    level: Level
    headline: str
    why: str
    remarks: tuple[Remark, ...]


def verdict_of(facts: RunFacts) -> Verdict:
    """Put a run's verdict into words."""
    state: str = facts.record.verdict if facts.record else "not judged"
    levels: dict[str, Level] = {"failed": "stop", "warned": "care", "passed": "good"}
    level = levels.get(state, "care")
    remarks = tuple(_remarks(facts))
    if not facts.balanced:
        level = "stop"
    return Verdict(state, level, f"{HEADLINES[state]} · {_place(facts, state)}", _why(facts, state), remarks)


def _place(facts: RunFacts, state: str) -> str:
    if facts.place == "published" and state == "failed":
        return "published all the same"
    if facts.place == "staged":
        return {"failed": "not published", "passed": "may be published", "warned": "may be published"}.get(
            state, PLACES["staged"]
        )
    return PLACES[facts.place]


def _why(facts: RunFacts, state: str) -> str:
    manifest, record = facts.manifest, facts.record
    if record is None:
        return "The check task has not looked at these rows; nobody should rely on them before it has."
    of = words.count(len(record.results), "check")
    if state == "failed":
        errors = sum(one.severity == "error" for one in record.failed)
        return f"{errors} of {of} failed, so nobody should rely on these rows."
    if state == "warned":
        warned, grey = len(record.failed), len(record.grey)
        said = [f"{warned} of {of} gave a warning"] if warned else []
        said += [f"{grey} of {of} passed only thanks to {'its' if grey == 1 else 'their'} tolerance"] if grey else []
        return f"{' and '.join(said)}: nothing stands in the way, but look at it."
    if not manifest.rows_in:
        return f"{'The check' if len(record.results) == 1 else f'All {of}'} passed; no row came in."
    return (
        f"{'The check' if len(record.results) == 1 else f'All {of}'} passed. Each of the "
        f"{words.count(manifest.rows_in, 'row')} was predicted or is in quarantine with a reason."
    )


def _remarks(facts: RunFacts) -> Iterator[Remark]:
    if not facts.balanced:
        yield Remark(
            "stop",
            f"The books do not balance: {words.count(facts.manifest.rows_in)} rows in, but "
            f"{words.count(facts.manifest.predicted)} predicted and "
            f"{words.count(facts.manifest.quarantined_rows)} in quarantine.",
        )
    if facts.record is None:
        return
    for result in sorted(facts.record.failed, key=lambda one: one.severity):
        yield Remark("stop" if result.severity == "error" else "care", told(result))
    for result in facts.record.grey:
        if result.passed:
            yield Remark("care", told(result, "passed only within its tolerance; "))


def told(result: CheckResult, how: str = "") -> str:
    """A check in one line.

    :param how: it ended, if that is to be said
    """
    expected, actual = words.clean(result.expected, 400), words.clean(result.actual, 400)
    return f"{words.sort_of_check(result.name)}: {how}found {actual}; expected {expected}."
