# SPDX-License-Identifier: Apache-2.0
"""All that is known of a run when its report is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.history import ROLLED_BACK, moves
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from airflow_onnx_provider.spark.run_manifest import SCORE_BINS, RunManifest

Place = Literal["published", "staged", "replaced", "rolled back", "removed"]


@dataclass(frozen=True)
class Before:
    """The earlier days that a run is compared with.

    :param rule: how they were chosen, in words
    :param partitions: whose figures these are; empty if there is nothing to compare with
    :param labels: label to predicted rows, over all of them
    :param score_histogram: predicted rows per bin of width 0.05 from 0 to 1, likewise
    :param missing: partitions that the run was compared with and whose figures cannot be read any more
    :param digests: of the models that scored them
    """

    rule: str = ""
    partitions: tuple[str, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    score_histogram: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RunFacts:
    """A run, what the checks said of it, and what it is compared with.

    :param record: None if the run was not judged
    :param place: where its rows are: readers see those of a ``published`` one; ``removed`` ones are nowhere
    """

    manifest: RunManifest
    record: CheckRecord | None = None
    before: Before = field(default_factory=Before)
    place: Place = "staged"

    @property
    def balanced(self) -> bool:
        """Whether each row that came in was predicted or quarantined, by the run's own books."""
        return self.manifest.rows_in == self.manifest.predicted + self.manifest.quarantined_rows


@dataclass(frozen=True)
class RowFolders:
    """Where a run's rows lie; None where there are none any more."""

    predictions: Path | None
    quarantine: Path | None

    @staticmethod
    def files(folder: Path | None) -> list[str]:
        """The Parquet files in one of the two."""
        return sorted(map(str, folder.glob("*.parquet"))) if folder else []


def gather(layout: OutputLayout, run: str) -> RunFacts:
    """Read what is known of a run.

    :raises SparkJobError: if there is no manifest of a finished run
    :raises BadInputError: if the record of its checks is none
    """
    manifest = RunManifest.read(layout.run_manifest(run))
    record = CheckRecord.read(layout.checks(run))
    return RunFacts(manifest, record, _before(layout, manifest, record), place_of(layout, manifest))


def place_of(layout: OutputLayout, manifest: RunManifest) -> Place:
    """Where a run's rows are."""
    if published_run(layout, manifest.partition) == manifest.run:
        return "published"
    if (layout.staging(manifest.run) / "predictions").is_dir():
        return "staged"
    if not layout.history(manifest.partition, manifest.run).is_dir():
        return "removed"
    left = [move.action for move in moves(layout, manifest.partition) if move.replaced == manifest.run]
    return "rolled back" if left[-1:] == [ROLLED_BACK] else "replaced"


def row_folders(layout: OutputLayout, manifest: RunManifest, place: Place) -> RowFolders:
    """The folders with a run's rows."""
    staged, history = layout.staging(manifest.run), layout.history(manifest.partition, manifest.run)
    candidates: Mapping[Place, Sequence[tuple[Path, Path]]] = {
        # A publish that died in between has left the quarantine in staging.
        "published": [(layout.published(manifest.partition), staged / "quarantine"),
                      (layout.published(manifest.partition), layout.quarantine(manifest.partition))],
        "staged": [(staged / "predictions", staged / "quarantine")],
        "replaced": [(history / "predictions", history / "quarantine")],
        "rolled back": [(history / "predictions", history / "quarantine")],
        "removed": [],
    }  # fmt: skip
    predictions = next((one for one, _ in candidates[place] if one.is_dir()), None)
    return RowFolders(predictions, next((one for _, one in candidates[place] if one.is_dir()), None))


def _before(layout: OutputLayout, manifest: RunManifest, record: CheckRecord | None) -> Before:
    """The days that the checks compared with; where none were made, the previous published one."""
    if record is not None:
        return _together(layout, record.baseline, record.baseline_partitions)
    from airflow_onnx_provider.quality.baseline import choose

    chosen = choose(layout, manifest.partition)
    return _together(layout, chosen.rule, chosen.partitions)


def _together(layout: OutputLayout, rule: str, partitions: Sequence[str]) -> Before:
    labels: Counter[str] = Counter()
    histogram = [0] * SCORE_BINS
    missing, digests = [], set()
    for partition in partitions:
        try:
            manifest = RunManifest.read(layout.published(partition) / RUN_FILE)
        except (OnnxProviderError, OSError):
            missing.append(partition)
            continue
        labels.update(manifest.labels)
        histogram = [one + other for one, other in zip(histogram, manifest.score_histogram, strict=False)]
        digests.add(str(manifest.model.get("digest", "")))
    found = tuple(one for one in partitions if one not in missing)
    return Before(
        rule, found, dict(labels), tuple(histogram) if found else (), tuple(missing), frozenset(digests - {""})
    )
