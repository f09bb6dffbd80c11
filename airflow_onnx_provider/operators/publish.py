"""Operator: let readers see a checked run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.predictions import PredictionsReference, manifest_of
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPublishOperator(BaseOperator):
    """Move a run from staging to ``<output_path>/ds=<partition>/``; the rows that it replaces go to ``_history/``.

    The renames are journaled: a crash in between is finished by the next try, and publishing the same run again
    changes nothing. Of two runs of one day the first to be published wins: the other fails at once, names the winner,
    and leaves its rows alone. Each Asset among the outlets gets an event with the run's figures.

    Returns ``path`` (of the published partition), ``replaced`` (the run that went to the history, or None),
    ``changed``, and the run's figures as ``OnnxSparkInferenceOperator`` returns them.

    :param predictions: a check or inference task's output, or the path of a run manifest. (templated)
    """

    template_fields: Sequence[str] = ("predictions",)

    def __init__(self, *, predictions: PredictionsReference, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.predictions = predictions

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish, or find it done."""
        with no_retry_for_bad_input():
            manifest = manifest_of(self.predictions)
            layout = OutputLayout(Path(manifest.output_path))
            published = publish(layout, manifest.partition, manifest.run)
        path = layout.published(manifest.partition)
        if not published.changed:
            self.log.info("%s shows run %s already", path, manifest.run)
        elif published.replaced:
            history = layout.history(manifest.partition, published.replaced)
            self.log.info("%s now shows run %s; the rows before are in %s", path, manifest.run, history)
        else:
            self.log.info("%s now shows run %s", path, manifest.run)
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
