# SPDX-License-Identifier: Apache-2.0
"""A table, ready to be laid out: every cell is text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row names it.

    :param strong: numbers of the rows to stand out
    :param left_out: rows that are not shown
    :param numbers: numbers of the columns that hold figures; they end at the same place
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: tuple[int, ...] = ()
    left_out: int = 0
    numbers: tuple[int, ...] = ()
