# SPDX-License-Identifier: Apache-2.0
"""What a day is compared with: earlier published partitions, chosen by a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout, check_partition
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest

PREVIOUS = "previous"
SAME_WEEKDAY = "same_weekday"
TRAILING = "trailing"
PINNED = "pinned"
RULES = "previous, same_weekday, trailing:7 or pinned:2026-01-31"


@dataclass(frozen=True)
class Baseline:
    """The figures of the partitions that a run is compared with.

    :param rule: how it was chosen, in words; why there is none, if there is none
    :param partitions: whose figures these are, in sorted order; empty if there was nothing to compare with
    :param labels: label to predicted rows, summed over the partitions
    :param score_histogram: predicted rows per bin of width 0.05 from 0 to 1, summed likewise
    :param skipped: published partitions that could not serve, each with the reason
    """

    rule: str
    partitions: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    score_histogram: tuple[int, ...] = ()
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule} (not used: {'; '.join(self.skipped)})" if self.skipped else self.rule


def choose(layout: OutputLayout, partition: str, rule: str = PREVIOUS) -> Baseline:
    """Find the baseline of a partition.

    ================  ==========================================================================
    rule              the baseline
    ================  ==========================================================================
    ``previous``      the last published partition before this one
    ``same_weekday``  the last published day before this one that is the same day of the week
    ``trailing:N``    the last N published partitions before this one together; fewer if there are fewer
    ``pinned:NAME``   that partition, be it earlier or later
    ================  ==========================================================================

    "Before" is the order of the names, as of ISO dates. The partition itself is never its own baseline, though it may
    have been published before. A published partition whose run manifest cannot be read, or that has no predicted row,
    is skipped for the next one, and named in ``skipped``.

    :param partition: the one that is judged
    :raises BadInputError: for a rule that is none of these, and for ``same_weekday`` where the partition is no date
    """
    kind, _, detail = str(rule).strip().partition(":")
    earlier = [one for one in reversed(layout.published_partitions()) if one < partition]
    if kind == PREVIOUS and not detail:
        return _latest(layout, earlier, 1, "the previous published partition", "no earlier published partition")
    if kind == SAME_WEEKDAY and not detail:
        day = _day(partition)
        if day is None:
            raise BadInputError(
                f"baseline: same_weekday needs partitions that are dates such as 2026-01-31, but this one is "
                f"{partition!r}; use previous, trailing:7 or pinned:NAME"
            )
        weekday = f"{day:%A}"
        same = [one for one in earlier if (then := _day(one)) and then.weekday() == day.weekday()]
        return _latest(layout, same, 1, f"the previous published {weekday}", f"no earlier published {weekday}")
    if kind == TRAILING:
        count = _count(rule, detail)
        words = f"the last {count} published partitions together"
        return _latest(layout, earlier, count, words, "no earlier published partition")
    if kind == PINNED and detail.strip():
        return _pinned(layout, partition, check_partition(detail.strip()))
    raise BadInputError(f"baseline: there is no rule {rule!r}; use {RULES}")


def _latest(layout: OutputLayout, candidates: list[str], count: int, words: str, none: str) -> Baseline:
    """The first ``count`` usable ones of the candidates, which come latest first."""
    used: list[RunManifest] = []
    skipped: list[str] = []
    for partition, manifest, reason in _read(layout, candidates):
        if manifest is None:
            skipped.append(f"{partition}: {reason}")
            continue
        used.append(manifest)
        if len(used) == count:
            break
    return _together(used, skipped, words, none)


def _pinned(layout: OutputLayout, partition: str, pinned: str) -> Baseline:
    if pinned == partition:
        return Baseline(f"the pinned partition {pinned} is the one that is judged")
    ((_, manifest, reason),) = _read(layout, [pinned])
    if manifest is None and not layout.published(pinned).is_dir():
        return Baseline(f"the pinned partition {pinned} is not published")
    used, skipped = ([manifest], []) if manifest else ([], [f"{pinned}: {reason}"])
    return _together(used, skipped, "the pinned partition", f"the pinned partition {pinned} cannot serve")


def _together(used: list[RunManifest], skipped: list[str], words: str, none: str) -> Baseline:
    if not used:
        return Baseline(none, skipped=tuple(skipped))
    labels: Counter[str] = Counter()
    histogram = [0] * SCORE_BINS
    for manifest in used:
        labels.update(manifest.labels)
        histogram = [sum(pair) for pair in zip(histogram, manifest.score_histogram, strict=True)]
    partitions = tuple(sorted(manifest.partition for manifest in used))
    return Baseline(words, partitions, dict(labels), tuple(histogram), tuple(skipped))


def _read(layout: OutputLayout, partitions: list[str]) -> Iterator[tuple[str, RunManifest | None, str]]:
    """Each partition with the manifest of its published run, or with the reason why that cannot serve."""
    for partition in partitions:
        try:
            manifest = RunManifest.read(layout.published(partition) / RUN_FILE)
        except (OnnxProviderError, OSError) as error:
            yield partition, None, f"its run manifest cannot be read ({error})"
            continue
        problem = _problem(manifest)
        yield partition, None if problem else manifest, problem


def _problem(manifest: RunManifest) -> str:
    """Why a manifest's figures cannot be compared with, empty if they can."""
    histogram = manifest.score_histogram
    if not isinstance(manifest.labels, Mapping) or not isinstance(histogram, tuple) or len(histogram) != SCORE_BINS:
        return "its run manifest has no label counts or no score histogram"
    counts = (*manifest.labels.values(), *histogram)
    if not all(isinstance(rows, int) and rows >= 0 for rows in counts):
        return "its run manifest has counts that are no counts"
    return "" if sum(manifest.labels.values()) else "it has no predicted row"


def _day(partition: str) -> date | None:
    """The date that a partition is called by, in the one form whose order of names is the order of days."""
    try:
        day = date.fromisoformat(partition)
    except ValueError:
        return None
    return day if day.isoformat() == partition else None


def _count(rule: str, detail: str) -> int:
    try:
        count = int(detail)
    except ValueError:
        count = 0
    if count < 1:
        raise BadInputError(f"baseline: {rule!r} says not how many partitions; use trailing:7, for example")
    return count
