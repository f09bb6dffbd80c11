# SPDX-License-Identifier: Apache-2.0
"""Checks against the labels table: how many of the labelled rows are right, in all and of each class."""

from __future__ import annotations

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.quality.checks.finding import Figures, Finding, some
from airflow_onnx_provider.quality.checks.settings import Options
from airflow_onnx_provider.quality.verdict import Accuracy


def accuracy(figures: Figures, options: Options) -> Finding:
    """Fails where even the upper end of the 95 % Wilson interval is below the limit and its tolerance.

    A share below the limit that sampling can explain passes as grey: a tenth of a day is seldom labelled.
    """
    limit, found = options.limit, figures.contents.accuracy
    expected = "labelled rows among the predicted ones" if limit is None else f"at least {limit:.2%} of labelled rows"
    if found is None:
        return Finding(expected, _unlabelled(figures), limit=limit)
    if not found.rows:
        return Finding(expected, _no_overlap(found), passed=False, limit=limit)
    missing = f"; {found.missing} labelled rows have no prediction" if found.missing else ""
    actual = f"{found.share:.2%} of {found.rows} (95 % interval {found.low:.2%} to {found.high:.2%}){missing}"
    if limit is None:
        return Finding(expected, actual, value=found.share)
    passed = found.share >= limit - options.tolerance or found.high >= limit
    return Finding(expected, actual, passed, found.share, limit, grey=found.share < limit)


def recall(figures: Figures, options: Options) -> Finding:
    """The same for each class with enough labelled rows; the worst of them gives the value and the limit.

    :raises BadInputError: for a limit of a class that the model does not have
    """
    known = figures.manifest.model.get("labels") or ()
    if known and (strange := sorted(set(options.each) - set(known))):
        raise BadInputError(f"checks: recall: the model has no class {some([repr(one) for one in strange])}")
    words = [f"{own:.2%} of {label}" for label, own in options.each.items()]
    words += [] if options.limit is None else [f"{options.limit:.2%} of each class"]
    expected = f"at least {some(words)} with {options.min_rows} or more labelled rows"
    found = figures.contents.accuracy
    if found is None:
        return Finding(expected, _unlabelled(figures), limit=options.limit)
    if not found.rows:
        return Finding(expected, _no_overlap(found), passed=False, limit=options.limit)
    limits = {label: own for label in found.recall if (own := options.each.get(label, options.limit)) is not None}
    judged = {label: own for label, own in limits.items() if found.recall[label][1] >= options.min_rows}
    few = f"; {len(limits) - len(judged)} classes have fewer rows" if len(judged) < len(limits) else ""
    if not judged:
        return Finding(expected, f"no class has that many labelled rows{few}", limit=options.limit)
    shares = {label: found.recall[label][0] / found.recall[label][1] for label in judged}
    low = sorted((one for one in judged if shares[one] < judged[one]), key=lambda one: shares[one] - judged[one])
    failed = [one for one in low if shares[one] < judged[one] - options.tolerance and _upper(found, one) < judged[one]]
    worst = (failed or low or [min(judged, key=lambda one: shares[one] - judged[one])])[0]
    told = some([f"{label} {shares[label]:.2%} of {found.recall[label][1]}" for label in failed or [worst]])
    return Finding(expected, told + few, not failed, shares[worst], judged[worst], grey=bool(low))


def _upper(found: Accuracy, label: str) -> float:
    """The upper end of the 95 % Wilson interval of a class's recall."""
    from scipy.stats import binomtest

    right, rows = found.recall[label]
    return float(binomtest(right, rows).proportion_ci(method="wilson").high)


def _unlabelled(figures: Figures) -> str:
    return f"{figures.contents.unlabelled}, so nothing was judged"


def _no_overlap(found: Accuracy) -> str:
    if not found.missing:
        return "the labels table has no row with a key and a label"
    return f"none of the {found.missing} labelled rows was predicted: are the keys those of the predictions?"
