"""How a card writes numbers and names. What is not known is said, never left out or made up."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

NOT_MEASURED = "not measured"
LONGEST = 200
"""Characters of a name, label or reason; a longer one is cut. What is shown was written by others."""

SHOWN_NAMES = {
    "static": "static int8",
    "dynamic": "dynamic int8",
    "float16": "half precision",
    "int4": "4-bit weights",
}


def clean(text: Any, longest: int = LONGEST) -> str:
    """One line of visible characters: others, among them those that reverse the writing direction, become ``�``."""
    shown = "".join(
        " " if character.isspace() else "\ufffd" if unicodedata.category(character)[0] == "C" else character
        for character in str(text)[: longest + 1]
    )
    return shown[:longest] + "…" if len(shown) > longest else shown


def variant_name(name: str) -> str:
    """``static-keep-2`` as ``static int8 (keep-2)``; names that are not known stay."""
    kind, _, more = name.partition("-")
    known = SHOWN_NAMES.get(kind)
    if known is None:
        return clean(name)
    return f"{known} ({clean(more)})" if more else known


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NOT_MEASURED
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"
    return f"{value:.0f} bytes"


def percent(value: float | None) -> str:
    """A share of 0 to 1."""
    return NOT_MEASURED if value is None else f"{value * 100:.1f} %"


def times(value: float | None) -> str:
    """A factor."""
    return NOT_MEASURED if value is None else f"{value:.2f}×"


def rate(value: float | None) -> str:
    """Rows a second."""
    return NOT_MEASURED if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def difference(value: float | None) -> str:
    """A small absolute or relative difference."""
    return NOT_MEASURED if value is None else f"{value:.2g}"


def points(loss: float) -> str:
    """A loss of accuracy (0 to 1) in words."""
    rounded = round(loss * 100, 1)
    if rounded < 0:
        return f"with {-rounded:.1f} points more accuracy"
    return f"for {abs(rounded):.1f} points of accuracy"


def setting(value: Any) -> str:
    """A setting of a recipe, short."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return clean(", ".join(f"{name} {setting(part)}" for name, part in value.items() if part is not None))
    if isinstance(value, list | tuple):
        return clean(", ".join(map(setting, value))) or "none"
    return clean(json.dumps(value, default=str))
