# SPDX-License-Identifier: Apache-2.0
"""Operator: let readers see the rows that a partition had before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from airflow_onnx_provider.failure import no_retry_for_bad_input
from airflow_onnx_provider.operators.promote import mover
from airflow_onnx_provider.partition import partition_of
from airflow_onnx_provider.spark.history import ROLLED_BACK, last_move
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout, local_path
from airflow_onnx_provider.spark.rollback import RolledBack, rollback
from airflow_onnx_provider.spark.run_manifest import RunManifest

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxPartitionRollbackOperator(BaseOperator):
    """Let readers see an earlier version of a partition again: predictions, quarantine and manifest, byte for byte.

    Without ``run`` it is the version that the published one took the place of; a second rollback goes one step further
    back. What is left goes to the history, where naming its run brings it back, and the publish task that made it is
    refused if it is tried again. Who rolled back, when and why is in the partition's log.

    A retry, or a clear, of a task whose rollback holds still does not go back once more. Each Asset among the outlets
    gets an event with the figures of the run that is back and ``rolled_back``: True.

    Returns ``path`` (of the published partition), ``output_path``, ``replaced`` (the run that was left), ``changed``,
    and the figures of the run that is back, as ``OnnxSparkInferenceOperator`` returns them.

    Fails without retry if the partition is not published, there is nothing before, or the named run is not in the
    history.

    :param output_path: output folder of the inference task. (templated)
    :param partition: of the data; default: the Param ``partition``, else the run's own. (templated)
    :param run: the run to go back to, of the history; default: the one before. (templated)
    :param reason: for the log. (templated)
    """

    template_fields: Sequence[str] = ("output_path", "partition", "run", "reason")

    def __init__(
        self,
        *,
        output_path: str,
        partition: str | None = None,
        run: str | None = None,
        reason: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.output_path = output_path
        self.partition = partition
        self.run = run
        self.reason = reason

    def execute(self, context: Context) -> dict[str, Any]:
        """Roll back, or find that this task did."""
        with no_retry_for_bad_input():
            layout, by = OutputLayout(local_path(self.output_path, "output_path")), mover(context)
            partition = partition_of(context, self.partition)
            last = last_move(layout, partition)
            if last and (last.action, last.by) == (ROLLED_BACK, by):
                done = RolledBack(partition, last.run, last.replaced, changed=False)
            else:
                done = rollback(layout, partition, self.run or None, by=by, reason=self.reason or None)
            figures = RunManifest.read(layout.published(partition) / RUN_FILE).figures()
        path = layout.published(partition)
        if done.changed:
            history = layout.history(partition, str(done.replaced))
            self.log.info("%s shows run %s again; the rows that were left are in %s", path, done.run, history)
        else:
            self.log.info("%s shows run %s already", path, done.run)
        result = {"path": str(path), "output_path": str(layout.root), "replaced": done.replaced, **figures}
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update({**result, "rolled_back": True})
        return {**result, "changed": done.changed}
