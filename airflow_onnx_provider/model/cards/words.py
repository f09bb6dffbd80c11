# SPDX-License-Identifier: Apache-2.0
"""The words of a card: those of all pages, and what only models have."""

from __future__ import annotations

from airflow_onnx_provider.pages.words import (
    LONGEST,
    NOT_MEASURED,
    clean,
    difference,
    percent,
    rate,
    setting,
    size,
    times,
)

__all__ = [
    "LONGEST",
    "NOT_MEASURED",
    "clean",
    "difference",
    "percent",
    "points",
    "rate",
    "setting",
    "size",
    "times",
    "variant_name",
]

SHOWN_NAMES = {
    "static": "static int8",
    "dynamic": "dynamic int8",
    "float16": "half precision",
    "int4": "4-bit weights",
}


def variant_name(name: str) -> str:
    """``static-keep-2`` as ``static int8 (keep-2)``; names that are not known stay."""
    kind, _, more = name.partition("-")
    known = SHOWN_NAMES.get(kind)
    if known is None:
        return clean(name)
    return f"{known} ({clean(more)})" if more else known


def points(loss: float) -> str:
    """A loss of accuracy (0 to 1) in words."""
    rounded = round(loss * 100, 1)
    if rounded < 0:
        return f"with {-rounded:.1f} points more accuracy"
    return f"for {abs(rounded):.1f} points of accuracy"
