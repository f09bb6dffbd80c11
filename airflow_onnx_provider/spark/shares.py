# SPDX-License-Identifier: Apache-2.0
"""Cut a day into even shares, one for each Spark task. Pure; nothing is moved and no picture is opened."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_onnx_provider.runtime.parquet import Piece

ROW_BYTES = 1 << 16
"""A row weighs its encoded bytes and this much more: however small a picture is, the model takes its time for it."""

SNAP = 0.1
"""A cut that lies this part of a share from the end of a row group goes there, as Parquet cannot be entered in the
middle of one without reading what comes before."""


@dataclass(frozen=True)
class Share:
    """What one Spark task gets.

    :param pieces: Parquet rows that it reads
    :param rows: how many they are
    :param bytes: of the rows' pictures, or of the rows themselves
    """

    pieces: tuple[Piece, ...]
    rows: int
    bytes: int


def cut_files(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Cut a list of files into runs of even weight that keep their order, so that folders stay together.

    :param sizes: of the files in bytes
    :param parts: how many runs are wanted; there are fewer if there are fewer files
    :return: start and end of each run, none of them empty
    """
    ends = list(accumulate(size + ROW_BYTES for size in sizes))
    parts = min(parts, len(sizes))
    cuts = [0]
    for number in range(1, parts):
        nearest = bisect_left(ends, ends[-1] * number / parts) + 1
        # Each run gets a file, and leaves one for each run after it.
        cuts.append(min(max(nearest, cuts[-1] + 1), len(sizes) - (parts - number)))
    return list(pairwise([*cuts, len(sizes)])) if sizes else []


def cut_row_groups(groups: Sequence[Piece], parts: int) -> list[Share]:
    """Cut row groups into shares of even weight; a row group larger than its share is divided.

    :param groups: whole row groups, in order
    :param parts: how many shares are wanted; there are fewer if there are fewer rows
    :return: the shares, none of them empty, which hold each row once and in order
    """
    share = sum(map(_weight, groups)) / max(1, parts)
    shares: list[list[Piece]] = [[]]
    held = 0.0
    for piece in _divided([group for group in groups if group.rows], share):
        weight = _weight(piece)
        if shares[-1] and held + weight / 2 > share * len(shares):
            shares.append([])
        shares[-1].append(piece)
        held += weight
    return [
        Share(tuple(one), sum(piece.rows for piece in one), sum(piece.bytes for piece in one)) for one in shares if one
    ]


def _divided(groups: Sequence[Piece], share: float) -> Iterator[Piece]:
    """Row groups, cut wherever the sum of the weights before reaches a whole number of shares."""
    before = 0.0
    for group in groups:
        weight = _weight(group)
        per_row = weight / group.rows
        start = 0
        number = int(before / share) + 1
        while number * share < before + weight - SNAP * share:
            stop = round((number * share - before) / per_row)
            if start < stop < group.rows and number * share > before + SNAP * share:
                yield group.part(start, stop)
                start = stop
            number += 1
        yield group.part(start, group.rows) if start else group
        before += weight


def _weight(piece: Piece) -> int:
    return piece.bytes + piece.rows * ROW_BYTES
