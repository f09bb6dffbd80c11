# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  names come from the page and go to it
from airflow.sdk import Asset

from airflow_onnx_provider import OnnxPartitionRollbackOperator
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import published_run
from tests.docs.around import DATA, enter_dag, require_sound
from tests.spark.staging import stage_and_publish

page = enter_dag()
RUNS = ("2026-01-31-scheduled-a0000000", "2026-01-31-manual-1f00ba9c", "2026-01-31-manual-c0000000")
layout = OutputLayout(DATA / "predictions")
stage_and_publish(layout, *RUNS, partition="2026-01-31")


def after() -> None:
    require_sound(page, "roll_back")
    assert published_run(layout, "2026-01-31") == "2026-01-31-manual-1f00ba9c"
