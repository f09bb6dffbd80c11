"""How far the predictions moved from an earlier day's."""

from __future__ import annotations

from collections.abc import Mapping


def label_share_drift(now: Mapping[str, int], before: Mapping[str, int]) -> float:
    """Share of rows that would have to change their label to turn one day's mix into the other's.

    The total variation distance of the two label distributions: 0 for the same mix, 1 for no label in common.

    :param now: label to rows
    :param before: the same for the baseline
    """
    total_now, total_before = sum(now.values()), sum(before.values())
    if not total_now or not total_before:
        return 0.0 if total_now == total_before else 1.0
    labels = set(now) | set(before)
    return sum(abs(now.get(one, 0) / total_now - before.get(one, 0) / total_before) for one in labels) / 2
