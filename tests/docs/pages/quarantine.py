# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  names come from the page and go to it
from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxPublishOperator, OnnxReplayOperator
from tests.docs.around import enter_dag, require_sound

page = enter_dag()


def after() -> None:
    require_sound(page, "replay", "check", "publish")
