# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  names come from the page and go to it
from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxReportOperator
from tests.docs.around import enter_dag, require_sound, tasks

page = enter_dag()
(infer,) = tasks("infer")
check = OnnxPredictionCheckOperator(task_id="check", predictions=infer.output)


def after() -> None:
    require_sound(page, "report")
