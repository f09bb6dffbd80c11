# SPDX-License-Identifier: Apache-2.0
"""Thresholds over a series of runs: an alert is raised and cleared, and in between it is quiet.

The history is the output folder's own: the records of its checks, with the run manifests beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest

from airflow_onnx_provider.exceptions import BadInputError, SparkJobError
from airflow_onnx_provider.quality.checks.settings import CHECKS
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest

HISTORY = 100
"""Newest records that are looked at."""

MEASURES: Mapping[str, Callable[[RunManifest], float | None]] = {
    "images_per_second": lambda manifest: manifest.images_per_second,
    "raw_share": lambda manifest: manifest.raw_share if manifest.raw_images_per_second else None,
    "mean_score": lambda manifest: manifest.mean_score,
    "latency_p99_ms": lambda manifest: manifest.latency_ms.get("p99"),
    "peak_memory_mb": lambda manifest: manifest.peak_memory_mb,
    "job_seconds": lambda manifest: manifest.seconds.get("job"),
}
"""What a threshold can look at beside the checks."""

OF_THE_DAY = frozenset({"mean_score"})
"""Those that a replay knows of its whole day; the others would be of the few rows that it scored again."""


@dataclass(frozen=True)
class Threshold:
    """When an alert is raised, and when it is over.

    :param name: of a check (its value counts, whatever the check's own limit) or of one of :data:`MEASURES`
    :param raise_at: from here on a day is bad
    :param clear_at: from here on it is good again; on the good side of ``raise_at``, which also tells which side is
        the bad one
    :param after: bad days in a row that raise it
    """

    name: str
    raise_at: float
    clear_at: float
    after: int = 2

    def __post_init__(self) -> None:
        known = sorted({*MEASURES, *CHECKS})
        if self.name not in known:
            raise BadInputError(f"alerts: there is nothing called {self.name!r}; there is {', '.join(known)}")
        if self.raise_at == self.clear_at:
            raise BadInputError(
                f"alerts: {self.name}: raise_at and clear_at are both {self.raise_at:g}; with a distance between them "
                "a value that wavers there does not raise and clear it every day"
            )
        if self.after < 1:
            raise BadInputError(f"alerts: {self.name}: after must be 1 day or more, got {self.after}")

    def _sign(self) -> int:
        return 1 if self.raise_at > self.clear_at else -1

    def breached(self, value: float) -> bool:
        """Whether a day with this value is bad."""
        return (value - self.raise_at) * self._sign() >= 0

    def cleared(self, value: float) -> bool:
        """Whether a day with this value ends the alert."""
        return (value - self.clear_at) * self._sign() <= 0


@dataclass(frozen=True)
class Change:
    """An alert that was raised or cleared by a run.

    :param threshold: whose it is
    :param raised: False if it is over
    :param value: what was measured last
    """

    threshold: Threshold
    raised: bool
    value: float

    def __str__(self) -> str:
        limit = self.threshold.raise_at if self.raised else self.threshold.clear_at
        state = "RAISED" if self.raised else "CLEARED"
        runs = f" for {self.threshold.after} runs" if self.raised and self.threshold.after > 1 else ""
        return f"{state} {self.threshold.name}: {self.value:.4g}, threshold {limit:.4g}{runs}"


def states(threshold: Threshold, values: Iterable[float | None]) -> list[bool]:
    """After each day, whether the alert is raised. A day without a value changes nothing."""
    raised, breaches, found = False, 0, []
    for value in values:
        if value is not None:
            breaches = breaches + 1 if threshold.breached(value) else 0
            raised = not threshold.cleared(value) if raised else breaches >= threshold.after
        found.append(raised)
    return found


def changes(layout: OutputLayout, run: str, thresholds: Sequence[Threshold]) -> list[Change]:
    """Which alerts a judged run changed, compared with the moment before it was judged.

    A day counts once, with its last judged run: a day that is run again and fails again raises nothing anew.

    :raises BadInputError: if the run was not judged, or a record is damaged
    """
    this = CheckRecord.read(layout.checks(run))
    if this is None:
        raise BadInputError(f"alerts: run {run} was not judged: there is no {layout.checks(run)}")
    records = [one for one in _records(layout) if one.judged <= this.judged]
    before, now = _days([one for one in records if one.run != run]), _days([*records, this])
    manifests = {one.run: _manifest(layout, one.run) for one in now + before}
    found = []
    for threshold in thresholds:
        was, became = (
            states(threshold, [_value(threshold.name, one, manifests[one.run]) for one in days])[-1:]
            for days in (before, now)
        )
        value = _value(threshold.name, this, manifests[run])
        if became != (was or [False]) and value is not None:
            found.append(Change(threshold, became[0], value))
    return found


def _records(layout: OutputLayout) -> list[CheckRecord]:
    """The newest records in the order in which they were judged."""
    folder = layout.checks("any").parent
    files = nlargest(HISTORY, folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
    return sorted((one for file in files if (one := CheckRecord.read(file))), key=lambda one: one.judged)


def _days(records: Sequence[CheckRecord]) -> list[CheckRecord]:
    """The last record of each partition, in the order of the partitions."""
    return [one for _, one in sorted({one.partition: one for one in records}.items())]


def _manifest(layout: OutputLayout, run: str) -> RunManifest | None:
    try:
        return RunManifest.read(layout.run_manifest(run))
    except SparkJobError:
        return None


def _value(name: str, record: CheckRecord, manifest: RunManifest | None) -> float | None:
    if name in MEASURES:
        if manifest is None or (manifest.replays and name not in OF_THE_DAY):
            return None
        return MEASURES[name](manifest)
    return record.value(name)
