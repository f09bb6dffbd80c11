# SPDX-License-Identifier: Apache-2.0
"""The words of a report: those of all pages, and names for checks and reasons."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from airflow_onnx_provider.pages import words
from airflow_onnx_provider.pages.words import (
    NOT_MEASURED,
    clean,
    count,
    difference,
    listed,
    rate,
    seconds,
    setting,
    size,
)

__all__ = [
    "NOT_MEASURED",
    "capital",
    "clean",
    "count",
    "difference",
    "listed",
    "moment",
    "percent",
    "points",
    "quoted",
    "rate",
    "reason",
    "seconds",
    "setting",
    "share",
    "size",
    "sort_of_check",
    "whole",
]

REASONS = {
    "broken_image": "pictures that are cut off or damaged",
    "empty_file": "files without a single byte",
    "model_error": "rows on which the model itself failed",
    "native_crash": "rows that crashed the worker",
    "native_hang": "rows on which the worker hung",
    "not_an_image": "files that are no pictures",
    "null_input": "rows without an input",
    "out_of_range": "values out of the model's range",
    "outside_root": "addresses outside the catalogue's root",
    "too_many_pixels": "pictures with more pixels than may be decoded",
    "unreadable": "files that could not be read",
    "wrong_length": "inputs of the wrong length",
    "wrong_shape": "inputs of the wrong shape",
}


def reason(code: str) -> str:
    """What a quarantine's reason means."""
    return REASONS.get(code, clean(code.replace("_", " ")))


def sort_of_check(name: str) -> str:
    """A check's name as words."""
    return capital(clean(name.replace("_", " ")))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def quoted(label: str) -> str:
    """A label inside a sentence."""
    return f"“{clean(label, 60)}”"


def percent(value: float | None) -> str:
    """A share of 0 to 1; of ten thousand labels each has a small one, so small ones get two digits."""
    if value is None or value == 0 or abs(value) >= 0.001:
        return words.percent(value)
    return f"{value * 100:.2g} %" if abs(value) >= 0.00001 else "<0.001 %"


def points(change: float) -> str:
    """A change of a share, in percentage points."""
    size = abs(change) * 100
    shown = f"{size:.1f}" if size >= 0.1 else f"{size:.2g}" if size >= 0.001 else "0.0"
    return f"{'±' if shown == '0.0' else '+' if change > 0 else '−'}{shown}"


def moment(iso: str) -> str:
    """A time of ISO 8601 as a person writes it; what is none stays."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except ValueError:
        return clean(iso)


def whole(text: str) -> str:
    """Text in which no line ends between a number and its unit."""
    return re.sub(r"(?<=\d) (?=(%|ms|s|min|h|MiB|GB|MB|kB)\b|%)", "\u00a0", text)


def share(rows: float, of: float) -> str:
    """Some rows as a share of others."""
    return percent(rows / of) if of else "–"
