# SPDX-License-Identifier: Apache-2.0
"""Operator: let readers see a checked run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from airflow_onnx_provider.exceptions import PublishError
from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.model import number
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.operators.promote import mover
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.retention import check_keep, prune

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPublishOperator(BaseOperator):
    """Move a run from staging to ``<output_path>/ds=<partition>/``; the rows that it replaces go to ``_history/``.

    The renames are journaled: a crash in between is finished by the next try, and publishing the same run again
    changes nothing. Of two runs of one day the first to be published wins: the other fails at once, names the winner,
    and leaves its rows alone. So is a run that was published and replaced, or rolled back, since. Each Asset among the
    outlets gets an event with the run's figures.

    Returns ``path`` (of the published partition), ``replaced`` (the run that went to the history, or None),
    ``changed``, and the run's figures as ``OnnxSparkInferenceOperator`` returns them.

    :param predictions: a check or inference task's output, or the path of a run manifest. (templated)
    :param keep_history: how many replaced versions of the partition stay, those that rollbacks lead back to first;
        default: all. (templated)
    """

    template_fields: Sequence[str] = ("predictions", "keep_history")

    def __init__(
        self, *, predictions: PredictionsReference, keep_history: int | str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions
        self.keep_history = keep_history

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, or find it done."""
        with no_retry_for_bad_input():
            manifest, by = manifest_of(self.predictions), mover(context)
            keep = self._kept()
            layout = OutputLayout(Path(manifest.output_path))
            published = publish(layout, manifest.partition, manifest.run, by=by, reason=self._approval())
        path = layout.published(manifest.partition)
        if not published.changed:
            self.log.info("%s shows run %s already", path, manifest.run)
        elif published.replaced:
            history = layout.history(manifest.partition, published.replaced)
            self.log.info("%s now shows run %s; the rows before are in %s", path, manifest.run, history)
        else:
            self.log.info("%s now shows run %s", path, manifest.run)
        if keep is not None:
            self._prune(layout, manifest.partition, keep, by)
        figures = manifest.figures()
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(figures)
        return {
            "path": str(path),
            "replaced": published.replaced,
            "changed": published.changed,
            **figures,
        }

    def _kept(self) -> int | None:
        if self.keep_history is None or self.keep_history in ("", "None"):
            return None
        return check_keep(number(self.keep_history, "keep_history"))

    def _approval(self) -> str | None:
        approved = self.predictions.get("approved_by") if isinstance(self.predictions, Mapping) else None
        return f"approved by {approved}" if approved else None

    def _prune(self, layout: OutputLayout, partition: str, keep: int, by: str) -> None:
        try:
            removed = prune(layout, partition, keep, by=by)
        except (PublishError, OSError) as error:  # the rows are published; the next publishing removes what is left
            self.log.warning("%s", error)
        else:
            self.log.info("the history keeps %d versions; removed: %s", keep, ", ".join(removed) or "none")
