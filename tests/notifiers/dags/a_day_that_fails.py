# SPDX-License-Identifier: Apache-2.0
"""A DAG whose check fails, run in this process with `dag.test()`; inference left its run by hand."""

import os
from pathlib import Path

from airflow.providers.http.notifications.http import HttpNotifier
from airflow.sdk import dag, task
from airflow.utils.db import initdb

from airflow_onnx_provider.notifiers.run import OnnxRunNotifier
from airflow_onnx_provider.operators.check import OnnxPredictionCheckOperator
from airflow_onnx_provider.operators.metrics import OnnxMetricsOperator
from airflow_onnx_provider.operators.publish import OnnxPublishOperator
from airflow_onnx_provider.spark.layout import OutputLayout
from tests.spark.staging import stage

OUTPUT = Path(os.environ["A_DAY"])
NOTIFIER = OnnxRunNotifier(HttpNotifier(http_conn_id="chat", json={"text": "{{ onnx.text }}"}))


@dag(schedule=None, default_args={"on_failure_callback": NOTIFIER})
def a_day_that_fails() -> None:
    @task
    def infer() -> dict[str, str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        layout = OutputLayout(OUTPUT)
        stage(layout, "run-1")
        rows = pa.table({"key": ["a.png", "b.png"], "label": ["red", "red"], "score": [0.97, 0.97]})
        pq.write_table(rows, layout.staging("run-1") / "predictions" / "part-0.parquet")
        return {"run_manifest": str(layout.run_manifest("run-1"))}

    predictions = infer()
    check = OnnxPredictionCheckOperator(task_id="check", predictions=predictions)
    publish = OnnxPublishOperator(task_id="publish", predictions=check.output)
    metrics = OnnxMetricsOperator(
        task_id="metrics",
        predictions=predictions,
        job="catalog",
        textfile_dir=str(OUTPUT),
        on_success_callback=NOTIFIER,
    )
    publish >> metrics.as_teardown()


day = a_day_that_fails()

if __name__ == "__main__":
    initdb()
    run = day.test()
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    print(f"the DAG run is {run.state}, metrics is {states['metrics']}")
