# SPDX-License-Identifier: Apache-2.0
"""Operator: score a published day's quarantine again, after somebody has repaired it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.model import ModelReference
from airflow_onnx_provider.operators.request import InferenceRequest
from airflow_onnx_provider.operators.spark_inference import OnnxSparkInferenceOperator
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.spark.layout import OutputLayout, local_path
from airflow_onnx_provider.spark.replay import Base
from airflow_onnx_provider.spark.settings import JobSettings
from airflow_onnx_provider.spark.sources import Source

if TYPE_CHECKING:
    from airflow.sdk import Context

DECIDED_BY_THE_DAY = ("top_k", "raw", "incremental")
"""Arguments of inference that a replay takes from the run that scored the day."""


class OnnxReplayOperator(OnnxSparkInferenceOperator):
    """Score the quarantined rows of a published day once more, and stage the whole day with what comes of it.

    Its run has the published predictions, byte for byte, and those of the rows that can be scored now; what still
    cannot stays in quarantine, with its reason of today. Check and publish it like any run: if another run of the day
    is published meanwhile, that one stays. The books are the day's: ``rows_in`` as before, ``carried`` the predictions
    that were taken over. Speeds are those of the replayed rows alone, and ``raw_share`` is 0.0: not measured.

    The day keeps one model and one way of scoring: both are the published run's. Where the quarantine is empty, the
    task skips itself, and so do check and publish behind it.

    Returns what ``OnnxSparkInferenceOperator`` returns. Fails without retry, beside that operator's reasons, if the day
    is not published, ``repaired`` holds keys that are not in quarantine, a key is there twice, or the model is another.
    Further arguments are those of ``OnnxSparkInferenceOperator``, without ``top_k``, ``raw`` and ``incremental``.

    :param output_path: output folder, with the published day. (templated)
    :param repaired: repaired inputs under the keys of the quarantined rows: a folder of files with the same relative
        paths; for a day of Parquet files, such a file or a folder of them, with the same columns. Default, and for keys
        that are not there: the day's own files, repaired in place. (templated)
    :param model: address, or a model task's output; default: the address that the published run has. (templated)
    :param input_path: catalogue folder; default: where the published run read the day. (templated)
    :param profile: name or fields of an execution profile; default: one like the published run's. (templated)
    """

    template_fields: Sequence[str] = (*OnnxSparkInferenceOperator.template_fields, "repaired")
    _base: Base

    def __init__(
        self,
        *,
        output_path: str,
        repaired: str | None = None,
        model: ModelReference | None = None,
        input_path: str | None = None,
        profile: str | Mapping[str, Any] | None = None,
        name: str = "onnx-replay",
        **kwargs: Any,
    ) -> None:
        if decided := [argument for argument in DECIDED_BY_THE_DAY if argument in kwargs]:
            raise BadInputError(f"{', '.join(decided)}: a replay scores as the published day was; leave it out")
        super().__init__(
            model="" if model is None else model,
            input_path=input_path or "",
            output_path=output_path,
            profile=profile or "",
            name=name,
            **kwargs,
        )
        self.repaired = repaired

    def execute(self, context: Context) -> dict[str, Any]:  # type: ignore[override]  # as its parent's
        """Submit the job over the quarantined rows and read its manifest."""
        with no_retry_for_bad_input():
            layout = OutputLayout(local_path(self.output_path, "output_path"))
            self._base = Base.published(layout, partition_of(context, self.partition))
            manifest = self._base.manifest
            if not manifest.quarantined_rows:
                raise AirflowSkipException(f"run {manifest.run} left nothing in quarantine: there is nothing to replay")
            self._take_from(self._base)
        self.log.info(
            "Replay of run %s: %d rows in quarantine (%s)",
            manifest.run,
            manifest.quarantined_rows,
            ", ".join(f"{reason} {rows}" for reason, rows in sorted(manifest.quarantined.items())),
        )
        return super().execute(context)

    def _take_from(self, base: Base) -> None:
        """What nobody has given is as it was in the run that is published."""
        run = base.manifest
        if not (self.input_path or run.source):
            raise BadInputError(
                f"run {run.run} is from before manifests told where their rows came from: give input_path, and key, "
                "input and root if its inference task had them"
            )
        self.input_path = self.input_path or str(Path(run.source["folder"]).parent)
        self.model = self.model or run.model["model"]
        if not self.key and not self.input:
            self.key, self.input = run.source.get("key"), run.source.get("input")
        self.root = self.root or run.source.get("root")
        self.profile = self.profile or base.profile or "cpu-throughput"
        self.top_k, self.raw = run.scoring.get("top_k", 0), tuple(run.scoring.get("raw", ()))
        self.incremental = base.keeps_contents

    def _request(self, context: Context, address: str, folder: Path, *, waiting: bool) -> InferenceRequest:
        day = Source(self.key or None, self.input or None, self.root or None)
        source = self._base.source(day, self._place_of_repaired())
        request = InferenceRequest.asked_by(self, context, source, address, folder, waiting=waiting)
        profile = request.profile
        self._base.require_same(
            {"model": address, "digest": request.manifest.digest},
            {"provider": profile.provider, "decoder": profile.decoder, "top_k": self.top_k, "raw": list(self.raw)},
        )
        return request

    def _settings(self, request: InferenceRequest, run: str) -> JobSettings:
        return replace(
            super()._settings(request, run), replays=self._base.manifest.run, repaired=self._place_of_repaired()
        )

    def _place_of_repaired(self) -> str | None:
        return str(local_path(self.repaired, "repaired")) if self.repaired else None
