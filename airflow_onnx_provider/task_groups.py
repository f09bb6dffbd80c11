# SPDX-License-Identifier: Apache-2.0
"""The whole chain in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator, TaskGroup, TriggerRule

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.operators.approval import OnnxApprovalOperator
from airflow_onnx_provider.operators.check import OnnxPredictionCheckOperator
from airflow_onnx_provider.operators.convert import OnnxConvertOperator
from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator
from airflow_onnx_provider.operators.model import ModelReference
from airflow_onnx_provider.operators.model_card import OnnxModelCardOperator
from airflow_onnx_provider.operators.optimize import OnnxOptimizeOperator
from airflow_onnx_provider.operators.promote import OnnxPromoteOperator
from airflow_onnx_provider.operators.publish import OnnxPublishOperator
from airflow_onnx_provider.operators.quantize import OnnxQuantizeOperator
from airflow_onnx_provider.operators.report import OnnxReportOperator
from airflow_onnx_provider.operators.spark_inference import OnnxSparkInferenceOperator
from airflow_onnx_provider.operators.validate import OnnxValidateOperator
from airflow_onnx_provider.sensors.catalog import CatalogPartitionSensor

TASKS: Mapping[str, type[BaseOperator]] = {
    "catalog": CatalogPartitionSensor,
    "convert": OnnxConvertOperator,
    "validate": OnnxValidateOperator,
    "optimize": OnnxOptimizeOperator,
    "quantize": OnnxQuantizeOperator,
    "infer": OnnxSparkInferenceOperator,
    "check": OnnxPredictionCheckOperator,
    "metrics": OnnxMetricsOperator,
    "report": OnnxReportOperator,
    "approve": OnnxApprovalOperator,
    "publish": OnnxPublishOperator,
    "promote": OnnxPromoteOperator,
    "card": OnnxModelCardOperator,
}
"""The tasks of the chain by name, in their order, and their operators."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "catalog": {"deferrable": True, "timeout": timedelta(hours=6).total_seconds()},
    # A run whose checks failed needs its report most; what has none is not published.
    "report": {"trigger_rule": TriggerRule.ALL_DONE},
}


@dataclass(frozen=True)
class TrainedModel:
    """A model as its framework saved it, to be converted, validated, optimised and quantised; fields may be templates.

    :param source: file, folder, or ``models:/name@alias``, as for ``OnnxConvertOperator``
    :param framework: likewise
    :param name: of the model in its store
    :param calibration: real inputs without labels, for validation and quantisation
    :param labelled: real inputs with labels, on which a quantised model must prove itself; None: it is not quantised
    :param labels: class names, or a text file with one a line
    """

    source: str
    framework: str
    name: str
    calibration: str
    labelled: str | None = None
    labels: Sequence[str] | str | None = None


def onnx_batch_inference(
    *,
    model: TrainedModel | ModelReference,
    input_path: str,
    output_path: str,
    group_id: str = "onnx_batch_inference",
    partition: str | None = None,
    checks: Mapping[str, Mapping[str, Any] | None] | None = None,
    baseline: str = "previous",
    labels: str | None = None,
    approval: str = "never",
    alias: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    outlets: Sequence[Any] = (),
    arguments: Mapping[str, Mapping[str, Any]] | None = None,
    **group: Any,
) -> TaskGroup:
    """The chain from a day of a catalogue to its published predictions, as one TaskGroup.

    ``catalog → convert → validate → optimize → quantize → infer → check → report → approve → publish → promote →
    card``, of which the model's stages are there for a :class:`TrainedModel`, ``promote`` and ``card`` with an alias,
    and ``metrics`` after ``publish`` with its arguments. Every argument but ``group_id``, ``arguments`` and what says
    which tasks there are may be a template.

    :param model: a trained model; or the address of a validated version, an alias, a model task's output
    :param input_path: catalogue folder with ``ds=<partition>`` below it
    :param output_path: output folder
    :param group_id: of the group, and the prefix of its tasks
    :param partition: of the data; None: decided by the run
    :param checks: settings of the checks, as for ``OnnxPredictionCheckOperator``
    :param baseline: what to compare with: ``previous``, ``same_weekday``, ``trailing:7`` or ``pinned:2026-01-31``
    :param labels: table with ``key`` and ``label`` of some rows, for accuracy and recall
    :param approval: whether a person is asked before publishing: ``never``, ``grey`` or ``always``
    :param alias: names the model whose day was published; None: no alias is moved
    :param metrics: arguments of ``OnnxMetricsOperator``; None: there is no such task
    :param outlets: Assets of the published predictions
    :param arguments: task name to further arguments of its operator, which win over all others
    :param group: further arguments of ``TaskGroup``
    :return: the group; its tasks are in ``children``
    :raises BadInputError: if ``arguments`` names a task that is not in the chain
    """
    chain = _Chain(arguments or {})
    with TaskGroup(group_id=group_id, **group) as made:
        catalog = chain.add("catalog", path=input_path, partition=partition)
        ready = _prepared(chain, model) if isinstance(model, TrainedModel) else model
        infer = chain.add("infer", model=ready, input_path=input_path, output_path=output_path, partition=partition)
        catalog >> (chain["convert"] if isinstance(model, TrainedModel) else infer)
        check = chain.add("check", predictions=infer.output, checks=checks, baseline=baseline, labels=labels)
        report = chain.add("report", predictions=infer.output)
        approve = chain.add("approve", predictions=check.output, when=approval)
        publish = chain.add("publish", predictions=approve.output, outlets=list(outlets))
        check >> report >> approve
        if metrics is not None:  # as a teardown it runs after failures, too, and leaves the run's state alone
            publish >> chain.add("metrics", predictions=infer.output, **metrics).as_teardown()
        if alias is not None:
            promote = chain.add("promote", model=ready, alias=alias, reason="the day of {{ run_id }} was published")
            publish >> promote
            chain.add("card", model=promote.output)
    chain.require_all_used()
    return made


def _prepared(chain: _Chain, model: TrainedModel) -> Any:
    """The stages from a trained model to the version that scores."""
    convert = chain.add("convert", source=model.source, framework=model.framework, name=model.name, labels=model.labels)
    validate = chain.add("validate", model=convert.output, inputs=model.calibration)
    optimize = chain.add("optimize", model=validate.output, inputs=model.calibration)
    if model.labelled is None:
        return optimize.output
    quantize = chain.add("quantize", model=optimize.output, calibration=model.calibration, labelled=model.labelled)
    return quantize.output


class _Chain:
    """Makes the tasks, each with the arguments that were given for it."""

    def __init__(self, arguments: Mapping[str, Mapping[str, Any]]) -> None:
        self._arguments = arguments
        self._tasks: dict[str, BaseOperator] = {}

    def add(self, name: str, /, **given: Any) -> Any:
        merged = {**given, **DEFAULTS.get(name, {}), **self._arguments.get(name, {})}
        self._tasks[name] = TASKS[name](task_id=name, **merged)
        return self._tasks[name]

    def __getitem__(self, name: str) -> BaseOperator:
        return self._tasks[name]

    def require_all_used(self) -> None:
        if unknown := sorted(set(self._arguments) - set(self._tasks)):
            raise BadInputError(
                f"arguments: the chain has no task {', '.join(unknown)}; it has {', '.join(self._tasks)}"
            )
