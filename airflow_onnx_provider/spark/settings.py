# SPDX-License-Identifier: Apache-2.0
"""What the operator tells the job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.spark.sources import Source

COPY_BYTES = 65_536
"""Most inputs that are no pictures are empty, cut off or a page of text; a broken thumbnail fits as well."""

MODEL_ARCHIVE = "onnx_model"
"""Folder name under which ``--archives`` unpacks the model version on the driver and on each executor."""


@dataclass(frozen=True)
class JobSettings:
    """One run's settings; they travel as one JSON argument of the application.

    :param run: the run's name
    :param partition: of the data
    :param input_path: catalogue folder with ``ds=<partition>`` below it
    :param output_path: output folder
    :param model: address, name, version and digest of the model version
    :param plan: the plan's JSON form, see ``Plan.to_dict``
    :param profile: the execution profile's JSON form
    :param source: the source's fields
    :param incremental: whether rows whose content this model has answered before are carried over
    :param top_k: how many of the best classes each prediction lists
    :param raw: outputs of the model that are kept whole
    :param copy_bytes: bytes of the largest quarantined input that is copied; 0: none is
    :param replays: the published run whose quarantine is to be scored again; None: the whole day is scored
    :param repaired: folder or Parquet file with repaired inputs, only with ``replays``
    :param model_folder: the model version's folder on a path that the executors see, or None: it was shipped
    """

    run: str
    partition: str
    input_path: str
    output_path: str
    model: dict[str, Any]
    plan: dict[str, Any]
    profile: dict[str, Any]
    source: dict[str, str | None] = field(default_factory=dict)
    incremental: bool = False
    top_k: int = 0
    raw: tuple[str, ...] = ()
    copy_bytes: int = COPY_BYTES
    replays: str | None = None
    repaired: str | None = None
    model_folder: str | None = None

    def planned(self, name: str) -> Any:
        """A value of the plan."""
        return next(one["value"] for one in self.plan["decisions"] if one["name"] == name)

    @property
    def where(self) -> Source:
        """The day's source."""
        return Source(**self.source)

    @property
    def execution(self) -> ExecutionProfile:
        """The execution profile with what was planned for it."""
        planned = {name: self.planned(name) for name in ("threads", "batch_size", "decode_threads")}
        return ExecutionProfile.from_dict({**self.profile, **planned})

    @property
    def partitions(self) -> int:
        """Spark tasks of the scoring stage."""
        return int(self.planned("partitions"))

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return int(self.planned("slots"))
