# SPDX-License-Identifier: Apache-2.0
"""What a check is given and what it gives back, and how a value is held to a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_onnx_provider.quality.baseline import Baseline
from airflow_onnx_provider.quality.checks.contents import Contents
from airflow_onnx_provider.quality.checks.settings import Options
from airflow_onnx_provider.quality.verdict import CheckResult
from airflow_onnx_provider.spark.run_manifest import RunManifest


@dataclass(frozen=True)
class Figures:
    """All that checks look at.

    :param manifest: of the run
    :param contents: of its files
    :param baseline: what it is compared with
    """

    manifest: RunManifest
    contents: Contents
    baseline: Baseline


@dataclass(frozen=True)
class Finding:
    """What a check found; see :class:`~airflow_onnx_provider.quality.verdict.CheckResult` for its fields."""

    expected: str
    actual: str
    passed: bool = True
    value: float | None = None
    limit: float | None = None
    grey: bool = False

    def result(self, name: str, options: Options) -> CheckResult:
        """The verdict; a value that is no finite number is left to the words."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return CheckResult(
            name=name,
            severity=options.severity,
            passed=self.passed,
            expected=self.expected,
            actual=self.actual,
            value=value,
            limit=self.limit,
            grey=self.grey and self.passed,
        )


def at_most(value: float, limit: float, tolerance: float, expected: str, actual: str) -> Finding:
    """The finding for a value that must not be above its limit. NaN is neither below nor above anything: it fails."""
    return Finding(expected, actual, value <= limit + tolerance, value, limit, grey=not value <= limit)


def at_least(value: float, limit: float, tolerance: float, expected: str, actual: str) -> Finding:
    """The finding for a value that must not be below its limit; NaN fails likewise."""
    return Finding(expected, actual, value >= limit - tolerance, value, limit, grey=not value >= limit)


def limit_of(options: Options) -> float:
    """The limit of a check that has one."""
    if options.limit is None:
        raise AssertionError("settings give this check a limit")
    return options.limit


def some(words: list[str], most: int = 5) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
