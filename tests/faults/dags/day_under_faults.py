# SPDX-License-Identifier: Apache-2.0
"""Infer, check and publish one day, with quick retries: what the fault suite kills."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

from airflow.sdk import dag

from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxPublishOperator, OnnxSparkInferenceOperator

HOME = os.environ["FAULTS_HOME"]


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=1)},
)
def day_under_faults() -> None:
    infer = OnnxSparkInferenceOperator(
        task_id="infer",
        model=os.environ["FAULTS_MODEL"],
        input_path=f"{HOME}/catalog",
        output_path=f"{HOME}/predictions",
        sizing=json.loads(os.environ["FAULTS_SIZING"]),
        conf=json.loads(os.environ["FAULTS_CONF"]),
    )
    check = OnnxPredictionCheckOperator(task_id="check", predictions=infer.output)
    OnnxPublishOperator(task_id="publish", predictions=check.output)


day_under_faults()
