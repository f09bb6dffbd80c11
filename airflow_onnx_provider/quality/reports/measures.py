# SPDX-License-Identifier: Apache-2.0
"""Figures that follow from a run's measurements; where one was not measured it is None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_onnx_provider.spark.run_manifest import RunManifest


def number(value: Any) -> float | None:
    """A measured number; None for what is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


@dataclass(frozen=True)
class TimeSpent:
    """Where the time went, in seconds.

    Reading and decoding go on beside the model, so the parts of the work do not add up to the time on the clock.

    :param read: reading files, over all tasks
    :param decode: decoding, resizing, making tensors, over all tasks
    :param inference: inside ``session.run``, over all tasks
    :param wait: the scoring threads' waiting for a full batch, over all tasks
    :param scoring: the scoring stage on the clock
    :param job: the whole job on the clock
    """

    read: float | None
    decode: float | None
    inference: float | None
    wait: float | None
    scoring: float | None
    job: float | None

    @classmethod
    def of(cls, manifest: RunManifest) -> TimeSpent:
        return cls(**{name: number(manifest.seconds.get(name)) for name in cls.__dataclass_fields__})

    @property
    def work(self) -> float:
        """Seconds of work: reading, decoding, inference."""
        return (self.read or 0) + (self.decode or 0) + (self.inference or 0)

    def share_of_work(self, part: float | None) -> float | None:
        """One part of the work, 0 to 1."""
        return None if part is None or not self.work else part / self.work

    @property
    def waiting(self) -> float | None:
        """Share of the scoring threads' time in which the model had nothing to do."""
        if self.wait is None or self.inference is None or not self.wait + self.inference:
            return None
        return self.wait / (self.wait + self.inference)


def decision(manifest: RunManifest, name: str) -> Any:
    """What the plan decided, None if it did not."""
    decisions = manifest.plan.get("decisions")
    for one in decisions if isinstance(decisions, Sequence) else ():
        if isinstance(one, Mapping) and one.get("name") == name:
            return one.get("value")
    return None


@dataclass(frozen=True)
class Memory:
    """Memory of the Python workers of one executor, in MiB.

    :param workers: that run at once
    :param needed: by all of them, if each took what the largest one took
    :param given: what the plan set aside beside the JVM's heap
    """

    workers: int
    needed: float
    given: float

    @classmethod
    def of(cls, manifest: RunManifest) -> Memory | None:
        given = number(decision(manifest, "executor_memory_overhead_mb"))
        cores, cpus = number(decision(manifest, "executor_cores")), number(decision(manifest, "task_cpus"))
        if not given or not cores or not cpus or not manifest.peak_memory_mb:
            return None
        workers = max(1, int(cores // cpus))
        return cls(workers, workers * manifest.peak_memory_mb, given)


@dataclass(frozen=True)
class Spread:
    """How even the Spark tasks were.

    :param count: of tasks
    :param median: seconds of the middle one
    :param longest: seconds of the longest one
    """

    count: int
    median: float
    longest: float

    @classmethod
    def of(cls, manifest: RunManifest) -> Spread | None:
        count, seconds = number(manifest.tasks.get("count")), manifest.tasks.get("seconds")
        if not count or not isinstance(seconds, Mapping):
            return None
        median, longest = number(seconds.get("median")), number(seconds.get("largest"))
        return None if not median or not longest else cls(int(count), median, longest)


def below(histogram: Sequence[int], score: float) -> float | None:
    """Share of the rows with a score below a bound, None without rows.

    :param histogram: rows per bin of even width from 0 to 1
    """
    total = sum(histogram)
    return sum(histogram[: round(score * len(histogram))]) / total if total else None
