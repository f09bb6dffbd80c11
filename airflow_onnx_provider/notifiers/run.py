# SPDX-License-Identifier: Apache-2.0
"""Notifier: a run in a short message, sent by any other notifier."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseNotifier, XComArg

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.links import report_address
from airflow_onnx_provider.quality.alerts import Threshold, changes
from airflow_onnx_provider.quality.message import RunMessage, message_of
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest

if TYPE_CHECKING:
    from airflow.sdk import Context


class OnnxRunNotifier(BaseNotifier):
    """Put a run into a short message and let another notifier send it.

    The other notifier's templates find it under ``onnx``: ``{{ onnx.subject }}``, ``{{ onnx.text }}`` (at most 600
    characters with verdict, failed checks, rows, speed, drift, accuracy and the report's address) and
    ``{{ onnx.markdown }}``::

        mail = SmtpNotifier(to="…", subject="{{ onnx.subject }}", html_content="<pre>{{ onnx.text | e }}</pre>")
        check = OnnxPredictionCheckOperator(…, on_failure_callback=OnnxRunNotifier(mail))

    With ``alerts`` it is quiet unless the run has raised or cleared one of them, judged by the records of all days in
    the output folder: one message when it begins and one when it is over.

    A run without a manifest is told of, too, with the task's error. A notifier is used as often as Airflow likes.

    :param notifier: sends the message; its templated fields may use ``onnx``
    :param predictions: an inference task's output, or the path of a run manifest; default: what the task that calls
        this has as ``predictions``, or returned. Give it for callbacks of a DAG and for deadlines. (templated)
    :param alerts: thresholds with hysteresis, or dicts of their fields; default: every call sends
    """

    template_fields: Sequence[str] = ("predictions",)

    def __init__(
        self,
        notifier: BaseNotifier,
        *,
        predictions: str | Mapping[str, Any] | XComArg | None = None,
        alerts: Sequence[Threshold | Mapping[str, Any]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notifier = notifier
        self.predictions = predictions
        self.alerts = tuple(one if isinstance(one, Threshold) else _threshold(one) for one in alerts)

    def __call__(self, *args: Any) -> None:
        """Send. Rendering changes a notifier for good, so each call renders a copy."""
        BaseNotifier.__call__(copy(self), *args)

    def __await__(self) -> Generator[Any, Any, None]:
        return BaseNotifier.__await__(copy(self))

    def notify(self, context: Context) -> None:
        """Send the message, if there is one to send."""
        if message := self._message(context):
            copy(self.notifier)({**context, "onnx": message})

    async def async_notify(self, context: Context) -> None:
        """The same for notifiers that send without blocking, as deadlines want it."""
        if message := self._message(context):
            sender = copy(self.notifier)
            sender.context = {**context, "onnx": message}  # type: ignore[typeddict-unknown-key]
            await sender

    def _message(self, context: Context) -> RunMessage | None:
        try:
            manifest = RunManifest.read(Path(self._run_manifest(context)))
            layout = OutputLayout(Path(manifest.output_path))
            record = CheckRecord.read(layout.checks(manifest.run))
            changed = changes(layout, manifest.run, self.alerts) if self.alerts else []
            link = report_address(manifest.output_path, manifest.run) if layout.report(manifest.run).exists() else ""
        except Exception as error:  # whatever is wrong with the figures, somebody must hear of the run
            self.log.warning("The message goes out without figures: %s", error)
            return _without_figures(context, error)
        if self.alerts and not changed:
            return None
        return message_of(manifest, record, changed, link, context.get("exception"))

    def _run_manifest(self, context: Context) -> str:
        """Path of the run manifest that this notifier, its task, or the task's result names."""
        given: Any = self.predictions or getattr(context.get("task"), "predictions", None)
        if isinstance(given, XComArg):
            given = given.resolve(context)
        ti = context.get("ti")
        if not given and ti is not None:
            given = ti.xcom_pull(task_ids=ti.task_id)
        path = given.get("run_manifest") if isinstance(given, Mapping) else given
        if not isinstance(path, str) or not path:
            raise BadInputError("the run left no manifest")
        return path


def _threshold(fields: Mapping[str, Any]) -> Threshold:
    try:
        return Threshold(**fields)
    except TypeError as error:
        raise BadInputError(f"alerts: name, raise_at, clear_at and after are known, got {dict(fields)}") from error


def _without_figures(context: Context, reason: Exception) -> RunMessage:
    """What is known of a task whose run has no figures."""
    ti = context.get("ti")
    who = f"{ti.dag_id}.{ti.task_id}" if ti is not None else str(getattr(context.get("dag"), "dag_id", "a DAG"))
    error, told = context.get("exception"), context.get("reason")
    lines = [f"run {context.get('run_id', 'unknown')}", *(str(one) for one in (error, told) if one)]
    return RunMessage(f"{who}: {'failed' if error else 'no figures'}", (*lines, f"no figures: {reason}"))
