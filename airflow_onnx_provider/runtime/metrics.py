# SPDX-License-Identifier: Apache-2.0
"""What one Spark task measures of itself, in a form that adds up over tasks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

BUCKETS_PER_DECADE = 40
"""Latency buckets grow by 10^(1/40), so a percentile read from them is at most 6 % too high."""


@dataclass
class TaskMetrics:
    """Counters of one task; the only mutable value here, because it sits on the hot path.

    :param rows: rows scored
    :param tokens: tokens of the scored rows, for models that take token arrays
    :param padding: tokens that were added to them
    :param read_seconds: time in reading files
    :param decode_seconds: time in decoding, resizing, and making tensors
    :param inference_seconds: time inside ``session.run``
    :param wait_seconds: time in which the scoring thread waited for a full batch
    :param peak_memory_mb: most memory that the worker process has held so far, in MiB
    :param wall_seconds: from the task's first row to its last
    :param load_seconds: opening and proving the model, in the task that did it
    :param golden_difference: largest difference that the golden rows showed
    :param latency: bucket number to batches, see :data:`BUCKETS_PER_DECADE`
    """

    rows: int = 0
    batches: int = 0
    tokens: int = 0
    padding: int = 0
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    inference_seconds: float = 0.0
    wait_seconds: float = 0.0
    wall_seconds: float = 0.0
    load_seconds: float = 0.0
    golden_difference: float = 0.0
    peak_memory_mb: float = 0.0
    latency: Counter[int] = field(default_factory=Counter)

    def record_batch(self, rows: int, seconds: float) -> None:
        """Count one ``session.run`` over ``rows`` real rows (padding not counted) that took ``seconds``."""
        self.rows += rows
        self.batches += 1
        self.inference_seconds += seconds
        self.latency[math.ceil(math.log10(max(seconds, 1e-9)) * BUCKETS_PER_DECADE)] += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {**self.__dict__, "latency": {str(bucket): count for bucket, count in sorted(self.latency.items())}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskMetrics:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**data, "latency": Counter({int(bucket): count for bucket, count in data["latency"].items()})})


LARGEST = ("golden_difference", "peak_memory_mb")


def combine(metrics: Iterable[TaskMetrics]) -> TaskMetrics:
    """Sum over tasks; of ``golden_difference`` and ``peak_memory_mb`` the largest."""
    total = TaskMetrics()
    for one in metrics:
        for name, value in vars(one).items():
            if name == "latency":
                total.latency.update(value)
            elif name in LARGEST:
                setattr(total, name, max(getattr(total, name), value))
            else:
                setattr(total, name, getattr(total, name) + value)
    return total


def latency_bounds(latency: Mapping[int, int]) -> list[tuple[float, int]]:
    """Pairs of a bucket's upper bound in seconds and its batches, sorted."""
    return [(round(10 ** (bucket / BUCKETS_PER_DECADE), 9), latency[bucket]) for bucket in sorted(latency)]


def latency_percentiles(latency: Mapping[int, int], percentiles: Iterable[int] = (50, 90, 99)) -> dict[str, float]:
    """Upper bucket bounds in milliseconds under which the given share of batches lies, as ``{"p50": …}``.

    Empty when there was no batch.
    """
    total = sum(latency.values())
    if not total:
        return {}
    found = {}
    for percentile in percentiles:
        seen = 0
        for bucket in sorted(latency):
            seen += latency[bucket]
            if seen >= total * percentile / 100:
                found[f"p{percentile}"] = round(10 ** (bucket / BUCKETS_PER_DECADE) * 1000, 3)
                break
    return found
