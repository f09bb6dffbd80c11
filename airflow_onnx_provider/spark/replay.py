# SPDX-License-Identifier: Apache-2.0
"""A published day as the base of a replay: its quarantine is scored again, its predictions are taken over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, PublishConflictError, PublishError
from airflow_onnx_provider.runtime.profile import profile_named
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.publish import base_run, published_run
from airflow_onnx_provider.spark.quarantined import QuarantinedRows
from airflow_onnx_provider.spark.run_manifest import RunManifest
from airflow_onnx_provider.spark.sources import Source
from airflow_onnx_provider.spark.staged import rows_in

WAY_OUT = "score the whole day again instead (OnnxSparkInferenceOperator)"

PROFILES = ("cpu-throughput", "cuda", "tensorrt", "openvino")
"""The named profiles, one for each execution provider."""


@dataclass(frozen=True)
class Base:
    """The run of a day that readers see.

    :param layout: of the output folder
    :param manifest: of that run
    """

    layout: OutputLayout
    manifest: RunManifest

    @classmethod
    def published(cls, layout: OutputLayout, partition: str) -> Base:
        """Read what is published.

        :raises BadInputError: if nothing is, or the quarantine's files do not hold what the run's books say
        :raises PublishError: if a publishing was cut off, which must be finished first
        """
        run = published_run(layout, partition)
        if base_run(layout, partition) != run:
            raise PublishError(f"publishing run {base_run(layout, partition)} was cut off; run its publish task again")
        if run is None:
            days = layout.published_partitions()
            raise BadInputError(
                f"{layout.root} has no published ds={partition} whose quarantine could be scored again; "
                + (f"published are {len(days)} partitions from {days[0]} to {days[-1]}" if days else "publish it first")
            )
        base = cls(layout, RunManifest.read(layout.published(partition) / RUN_FILE))
        if (found := rows_in(base.quarantine)) != base.manifest.quarantined_rows:
            raise BadInputError(
                f"{base.quarantine} holds {found} rows, but run {run} quarantined {base.manifest.quarantined_rows}; "
                "run the day again"
            )
        return base

    @classmethod
    def unchanged(cls, layout: OutputLayout, partition: str, run: str) -> Base:
        """Read what is published, if it is still this run.

        :raises PublishConflictError: otherwise, naming both
        """
        base = cls.published(layout, partition)
        base.require_published(run)
        return base

    @property
    def quarantine(self) -> Path:
        return self.layout.quarantine(self.manifest.partition)

    @property
    def keeps_contents(self) -> bool:
        """Whether its predictions tell their contents, as those of an incremental run do."""
        import pyarrow.parquet as pq

        from airflow_onnx_provider.runtime.known import CONTENT

        return any(CONTENT in pq.read_schema(file).names for file in self._files()[:1])

    @property
    def profile(self) -> dict[str, Any]:
        """An execution profile that gives the same answers, as ``profile_of`` takes it; empty if the run tells none."""
        scoring = self.manifest.scoring
        for name in PROFILES:
            if scoring and profile_named(name).provider == scoring["provider"]:
                return {"name": name, "decoder": scoring["decoder"]}
        return {}

    def source(self, source: Source, repaired: str | None) -> QuarantinedRows:
        """Where its quarantined rows are now.

        :param source: of the whole day
        :param repaired: as :class:`QuarantinedRows` has it
        """
        return QuarantinedRows(
            source.key, source.input, source.root, self.quarantine, Path(repaired) if repaired else None
        )

    def require_same(self, model: Mapping[str, Any], scoring: Mapping[str, Any]) -> None:
        """Make sure that all rows of the day will have been scored in one way.

        :param model: address and digest, as ``model`` and ``digest``
        :param scoring: as the run manifest has it
        :raises BadInputError: naming both, and the way out
        """
        mine = self.manifest.model
        if mine["digest"] != model["digest"]:
            raise BadInputError(
                f"the day was scored by {mine['model']} (digest {mine['digest'][:12]}), the replay would be by "
                f"{model['model']} (digest {model['digest'][:12]}), and no day mixes models; leave model out, or "
                f"{WAY_OUT}"
            )
        if dict(self.manifest.scoring) != dict(scoring):
            raise BadInputError(
                f"the day was scored with {dict(self.manifest.scoring) or 'settings that its manifest does not tell'}, "
                f"the replay would be with {dict(scoring)}, and no day mixes those; {WAY_OUT}"
            )

    def require_columns(self, columns: Sequence[str]) -> None:
        """Make sure that its predictions have just these columns.

        :raises BadInputError: naming both, and the way out
        """
        import pyarrow.parquet as pq

        for file in self._files():
            if (found := pq.read_schema(file).names) != list(columns):
                raise BadInputError(
                    f"{file} has the columns {', '.join(found)}, but the replay's rows have {', '.join(columns)}; "
                    f"{WAY_OUT}"
                )

    def require_published(self, run: str) -> None:
        """Make sure that readers see this run.

        :raises PublishConflictError: otherwise, naming both
        """
        now = published_run(self.layout, self.manifest.partition)
        if now != run:
            raise PublishConflictError(
                f"the replay is of run {run}, but run {now} of {self.manifest.partition} was published meanwhile; its "
                "rows are untouched; clear the replay task to score that run's quarantine"
            )

    def take_over(self, target: Path) -> None:
        """Put its predictions into a folder, byte for byte: as hard links, or as copies where there can be none.

        :raises PublishConflictError: if another run was published meanwhile
        """
        target.mkdir(parents=True, exist_ok=True)
        for file in self._files():
            place = target / file.name
            _link_or_copy(file, target / f"{self.manifest.run}-{file.name}" if place.exists() else place)
        self.require_published(self.manifest.run)
        if (found := rows_in(target)) != self.manifest.predicted:
            raise BadInputError(
                f"{self.layout.published(self.manifest.partition)} holds {found} rows, but run {self.manifest.run} "
                f"predicted {self.manifest.predicted}; {WAY_OUT}"
            )

    def newest(self, replayed: float) -> float:
        """The latest change of one of the day's inputs, in seconds since the epoch.

        :param replayed: of those that were scored again
        """
        before = self.manifest.source.get("newest")
        return max(replayed, datetime.fromisoformat(before).timestamp()) if before else replayed

    def whole(self, books: Mapping[str, Any]) -> dict[str, Any]:
        """The day's books, from those that were counted on the merged files: its rows in, its predictions carried."""
        return {**books, "rows_in": self.manifest.rows_in, "carried": self.manifest.predicted}

    def _files(self) -> list[Path]:
        return sorted(self.layout.published(self.manifest.partition).glob("*.parquet"))


def _link_or_copy(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)
