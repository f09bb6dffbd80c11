# SPDX-License-Identifier: Apache-2.0
"""How pages write numbers and names. What is not known is said, never left out or made up."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

NOT_MEASURED = "not measured"
LONGEST = 200
"""Characters of a name, label or reason; a longer one is cut. What is shown was written by others."""


def clean(text: Any, longest: int = LONGEST) -> str:
    """One line of visible characters: others, among them those that reverse the writing direction, become ``�``."""
    shown = "".join(
        " " if character.isspace() else "\ufffd" if unicodedata.category(character)[0] == "C" else character
        for character in str(text)[: longest + 1]
    )
    return shown[:longest] + "…" if len(shown) > longest else shown


def count(value: float, one: str = "", many: str = "") -> str:
    """A whole number with thousands separators, and what it counts.

    :param one: what is counted, such as ``row``
    :param many: its plural, where that is not ``one`` with an ``s``
    """
    shown = f"{value:,.0f}"
    return f"{shown} {one if shown == '1' else many or f'{one}s'}" if one else shown


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


def seconds(value: float | None) -> str:
    """A time, in the unit that a person would use."""
    if value is None:
        return NOT_MEASURED
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 99.5:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{value / 3600:,.1f} h"


def difference(value: float | None) -> str:
    """A small absolute or relative difference."""
    return NOT_MEASURED if value is None else f"{value:.2g}"


def listed(parts: list[str] | tuple[str, ...], last: str = "and") -> str:
    """Words in a row: ``a, b and c``."""
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}" if len(parts) > 1 else "".join(parts)


def setting(value: Any) -> str:
    """A setting as JSON has it, short."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return clean(", ".join(f"{name} {setting(part)}" for name, part in value.items() if part is not None))
    if isinstance(value, list | tuple):
        return clean(", ".join(map(setting, value))) or "none"
    return clean(json.dumps(value, default=str))
