# SPDX-License-Identifier: Apache-2.0
"""Labels now and before: shares of the rows, and what moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_onnx_provider.quality.verdict import Accuracy


@dataclass(frozen=True)
class LabelShare:
    """One label.

    :param rows: predicted with it in this run
    :param share: of this run's predicted rows, 0 to 1
    :param before: of the baseline's predicted rows; 0 where there is no baseline
    """

    label: str
    rows: int
    share: float
    before: float

    @property
    def change(self) -> float:
        return self.share - self.before


def label_shares(now: Mapping[str, int], before: Mapping[str, int]) -> list[LabelShare]:
    """Every label of the run or the baseline, the most frequent of this run first."""
    total_now, total_before = sum(now.values()) or 1, sum(before.values()) or 1
    found = [
        LabelShare(label, now.get(label, 0), now.get(label, 0) / total_now, before.get(label, 0) / total_before)
        for label in now.keys() | before.keys()
    ]
    return sorted(found, key=lambda one: (-one.rows, -one.before, one.label))


def moved(shares: Sequence[LabelShare]) -> float:
    """Share of the rows that would have to change their label to turn one mix into the other: total variation."""
    return sum(abs(one.change) for one in shares) / 2


def telling(shares: list[LabelShare], most: int) -> list[LabelShare]:
    """The labels that a person should see: the most frequent, and for a third of the places those that moved most."""
    if len(shares) <= most:
        return shares
    compared = any(one.before for one in shares)
    most_moved = sorted(shares, key=lambda one: -abs(one.change))[: most // 3] if compared else []
    chosen = {one.label for one in most_moved}
    for one in shares:
        if len(chosen) == most:
            break
        chosen.add(one.label)
    return [one for one in shares if one.label in chosen]


@dataclass(frozen=True)
class Confusion:
    """Labels that are mixed up, as a square of rows.

    :param labels: of its rows (true) and columns (predicted)
    :param cells: (true, predicted) to labelled rows
    :param all_labels: how many labels the labelled rows have
    """

    labels: tuple[str, ...]
    cells: Mapping[tuple[str, str], int]
    all_labels: int


def confusion_of(accuracy: Accuracy, most: int) -> Confusion:
    """The labels with the most mistakes, as far as the record keeps them."""
    wrong: dict[str, int] = {}
    seen = set(accuracy.recall)
    for true, predicted, rows in accuracy.confusion:
        seen |= {true, predicted}
        if true != predicted:
            wrong[true] = wrong.get(true, 0) + rows
            wrong[predicted] = wrong.get(predicted, 0) + rows
    worst = sorted(seen, key=lambda label: (-wrong.get(label, 0), label))[:most]
    chosen = set(worst)
    cells = {
        (true, predicted): rows
        for true, predicted, rows in accuracy.confusion
        if true in chosen and predicted in chosen
    }
    return Confusion(tuple(sorted(worst)), cells, len(seen))


def mixed_up(accuracy: Accuracy) -> list[tuple[str, str, int]]:
    """(true label, predicted label, rows) of the wrong answers, the most frequent first."""
    return sorted((one for one in accuracy.confusion if one[0] != one[1]), key=lambda one: (-one[2], one[0], one[1]))
