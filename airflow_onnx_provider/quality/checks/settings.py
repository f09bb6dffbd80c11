# SPDX-License-Identifier: Apache-2.0
"""What a person can say of each check: limits, severity, tolerance; read from text or numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.verdict import Severity

FEWEST_ROWS = 20
"""A class with fewer labelled rows has no recall worth judging."""


@dataclass(frozen=True)
class Options:
    """One check's settings.

    :param severity: what a failure means
    :param limit: most or least that is allowed, None for no limit
    :param tolerance: width of the zone beyond the limit in which the check passes, but as grey
    :param each: limits of single reasons or classes
    :param choice: the metric or percentile that is looked at, empty if there is none to choose
    :param min_rows: labelled rows that a class needs to be judged
    """

    severity: Severity = "error"
    limit: float | None = None
    tolerance: float = 0.0
    each: Mapping[str, float] = field(default_factory=dict)
    choice: str = ""
    min_rows: int = FEWEST_ROWS


@dataclass(frozen=True)
class Spec:
    """What there is to set.

    :param limit: name of the limit: ``max`` or ``min``; None: the check has none
    :param default: its default; for a check with choices the default of each
    :param choice: name of the setting that chooses
    :param choices: what there is to choose; the first is the default
    :param each: name of the setting that gives single reasons or classes limits of their own
    :param counts: whether ``min_rows`` can be set
    :param on_demand: without a limit the check does not run
    """

    limit: str | None = "max"
    default: float | Mapping[str, float] | None = None
    choice: str | None = None
    choices: tuple[str, ...] = ()
    each: str | None = None
    counts: bool = False
    on_demand: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of all settings."""
        own = (self.limit, self.limit and "tolerance", self.each, self.choice, "min_rows" if self.counts else None)
        return (*filter(None, own), "severity")


LABEL_METRICS = {"psi": 0.25, "jensen_shannon": 0.2, "total_variation": 0.25}
SCORE_METRICS = {"psi": 0.25, "jensen_shannon": 0.2, "wasserstein": 0.1}

CHECKS: Mapping[str, Spec] = {
    "row_books": Spec(limit=None),
    "unique_keys": Spec(default=0),
    "quarantine_rate": Spec(default=0.05, each="reasons"),
    "nulls": Spec(default=0),
    "unknown_labels": Spec(default=0),
    "mean_confidence": Spec("min", 0.5),
    "label_drift": Spec(default=LABEL_METRICS, choice="metric", choices=tuple(LABEL_METRICS)),
    "confidence_drift": Spec(default=SCORE_METRICS, choice="metric", choices=tuple(SCORE_METRICS)),
    "accuracy": Spec("min"),
    "recall": Spec("min", each="classes", counts=True, on_demand=True),
    "freshness": Spec(on_demand=True),
    "throughput": Spec("min", on_demand=True),
    "latency": Spec(choice="percentile", choices=("p99", "p90", "p50"), on_demand=True),
}
"""The checks in the order in which they run, and what can be set.

A check that is not named runs with its defaults; one that is set to None does not run.
"""


def read_settings(given: Mapping[str, Mapping[str, Any] | None] | None = None) -> dict[str, Options]:
    """Which checks are to run and how, in the order of :data:`CHECKS`.

    :param given: check name to its settings, or to None to switch it off; a number may be text, as templates give it
    :raises BadInputError: for an unknown check or setting, naming it and what there is, and for a value that it cannot
        have
    """
    if not isinstance(given, Mapping | None):
        raise BadInputError(f"checks: expected a dict of check name to settings, got {given!r}")
    named = dict(given or {})
    if unknown := sorted(set(named) - set(CHECKS)):
        raise BadInputError(f"checks: there is no {', '.join(unknown)}; there is {', '.join(CHECKS)}")
    books = named.get("row_books", {})
    if books is None or (isinstance(books, Mapping) and books.get("severity", "error") != "error"):
        raise BadInputError("checks: row_books cannot be switched off; books that do not balance prove nothing")
    return {
        name: _options(name, spec, named.get(name, {}))
        for name, spec in CHECKS.items()
        if (named[name] is not None if name in named else not spec.on_demand)
    }


def _options(name: str, spec: Spec, given: Any) -> Options:
    if not isinstance(given, Mapping):
        raise BadInputError(f"checks: {name}: expected a dict of settings or None, got {given!r}")
    if unknown := [str(one) for one in given if one not in spec.names]:
        raise BadInputError(f"checks: {name} knows {', '.join(spec.names)}, got {', '.join(unknown)}")
    severity = given.get("severity", "error")
    if severity not in get_args(Severity):
        raise BadInputError(f"checks: {name}: severity is warn or error, got {severity!r}")
    choice = given.get(spec.choice, spec.choices[0]) if spec.choice else ""
    if spec.choice and choice not in spec.choices:
        raise BadInputError(f"checks: {name}: {spec.choice} is one of {', '.join(spec.choices)}, got {choice!r}")
    limit = spec.default[choice] if isinstance(spec.default, Mapping) else spec.default
    if spec.limit in given:
        limit = _number(f"{name}: {spec.limit}", given[spec.limit])
    each = _each(f"{name}: {spec.each}", given.get(spec.each, {})) if spec.each else {}
    if spec.on_demand and limit is None and not each:
        raise BadInputError(f"checks: {name} needs {' or '.join(filter(None, (spec.limit, spec.each)))}")
    return Options(
        severity=severity,
        limit=limit,
        tolerance=_at_least_zero(f"{name}: tolerance", given.get("tolerance", 0)),
        each=each,
        choice=choice,
        min_rows=int(_at_least_zero(f"{name}: min_rows", given.get("min_rows", FEWEST_ROWS))),
    )


def _each(what: str, given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise BadInputError(f"checks: {what}: expected a dict of name to limit, got {given!r}")
    return {str(one): _number(f"{what}: {one}", limit) for one, limit in given.items()}


def _at_least_zero(what: str, given: Any) -> float:
    number = _number(what, given)
    if number < 0:
        raise BadInputError(f"checks: {what} must not be negative, got {given!r}")
    return number


def _number(what: str, given: Any) -> float:
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadInputError(f"checks: {what} must be a number, got {given!r}")
    return number
