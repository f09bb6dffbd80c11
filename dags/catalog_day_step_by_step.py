# SPDX-License-Identifier: Apache-2.0
"""### Classify a day, operator by operator

`day → sizing → plan → room → infer → check → report → approve → publish`, and `metrics` at the end of it

The same day as in `catalog_image_classification`, with a model that is there already, written out: for a cluster that
others use as well, and as a pattern for DAGs of your own. It takes a share of what is free, plans, waits for the room
that the plan needs, and then runs it.

| task | what it does | where to look when it fails |
|---|---|---|
| `day` | waits for the day's `_SUCCESS` marker, without a worker slot | is the day's folder complete? |
| `sizing` | asks the cluster what is free, and takes a share of it | the button *Test* of the connection |
| `plan` | how the job would run and for how long; nothing is scored | the log has each value with its reason |
| `room` | waits until the plan fits into what is free | it says what it saw |
| `infer` | one pass over the day on Spark, into staging | the plan and the job's own lines are in the log |
| `check` | books, keys, quarantine, labels, confidence, drift | the exception lists every failed check |
| `report` | one page about the run, also when a check failed | is the extra `report` installed? |
| `approve` | asks a person, if the Param says so and a check is in doubt | Browse → Required Actions |
| `publish` | staging to `ds=…`, the old rows to `_history/` | if another run came first, clear `infer` |
| `metrics` | the run's figures for Prometheus, whatever happened | is the extra `prometheus` installed? |

**Mail**: if the environment variable `CATALOG_MAIL` has an address, it is told when a task fails, and when 2 % of a
day's files or more are in quarantine (mend them, and trigger `repair_catalog_day`). The connection `smtp_default` names
the mail server.

**Connections**: `spark_default` (for example `{"conn_type": "spark", "host": "local[*]"}`). The Params' defaults lie
below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import Asset, Param, dag, task

from airflow_onnx_provider import (
    CatalogPartitionSensor,
    OnnxApprovalOperator,
    OnnxMetricsOperator,
    OnnxPredictionCheckOperator,
    OnnxPublishOperator,
    OnnxReportOperator,
    OnnxRunNotifier,
    OnnxSparkInferenceOperator,
    SparkCapacitySensor,
    Threshold,
)

HOME = os.environ.get("CATALOG_HOME", "/data")
MAIL = os.environ.get("CATALOG_MAIL")

# [START howto_notifier_onnx_run]
FAILED, ALERTS = [], []
if MAIL:
    mail = SmtpNotifier(to=MAIL, subject="{{ onnx.subject }}", html_content="<pre>{{ onnx.text | e }}</pre>")
    FAILED = [OnnxRunNotifier(mail)]
    ALERTS = [OnnxRunNotifier(mail, alerts=[Threshold("quarantine_rate", raise_at=0.02, clear_at=0.01, after=1)])]
# [END howto_notifier_onnx_run]


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    default_args={"on_failure_callback": FAILED},
    doc_md=__doc__,
    tags=["onnx", "spark", "example"],
    params={
        "partition": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
            title="Partition",
            description="The day to classify, as in 2026-01-31. Empty: the run's own date, or today.",
        ),
        "model": Param(
            f"{HOME}/models/catalog_classifier@production",
            type="string",
            minLength=1,
            title="Model",
            description="Address of a version, <store>/<name>/<version>, or of an alias, <store>/<name>@<alias>.",
            section="Input",
        ),
        "catalog": Param(
            f"{HOME}/catalog",
            type="string",
            minLength=1,
            title="Catalogue",
            description="Folder with one folder ds=YYYY-MM-DD of pictures a day.",
            section="Input",
        ),
        "output": Param(
            f"{HOME}/predictions",
            type="string",
            minLength=1,
            title="Output",
            description="Folder for predictions, quarantine, run manifests and history.",
            section="Output",
        ),
        "share": Param(
            0.5,
            type="number",
            exclusiveMinimum=0,
            maximum=1,
            title="Share of the cluster",
            description="Of its free cores, how many the job takes; at least one.",
            section="Speed",
        ),
        "decoder": Param(
            "full",
            type="string",
            enum=["full", "scaled"],
            title="Decoder",
            description="scaled reads large JPEGs at a fraction of their size, if the model's golden rows allow it.",
            section="Speed",
        ),
        "max_quarantine": Param(
            0.05,
            type="number",
            minimum=0,
            maximum=1,
            title="Largest quarantine",
            description="Share of the day's files that may be unreadable.",
            section="Limits",
        ),
        "approval": Param(
            "never",
            type="string",
            enum=["never", "grey", "always"],
            title="Ask a person",
            description="Before publishing: never, when a check is in its grey zone, or always.",
            section="Limits",
        ),
    },
)
def catalog_day_step_by_step() -> None:
    # [START howto_sensor_catalog_partition]
    day = CatalogPartitionSensor(
        task_id="day", path="{{ params.catalog }}", deferrable=True, poke_interval=60, timeout=6 * 3600
    )
    # [END howto_sensor_catalog_partition]

    # [START howto_hook_spark_cluster]
    @task
    def sizing(share: str) -> dict[str, int]:
        from airflow_onnx_provider import SparkClusterHook

        free = SparkClusterHook("spark_default").capacity()
        if free.cores is None:  # such a master does not say what is free
            return {"slots": 1}
        return {"slots": max(1, int(free.cores * float(share)))}

    # [END howto_hook_spark_cluster]

    sized = sizing("{{ params.share }}")
    day >> sized

    # [START howto_operator_onnx_spark_inference]
    how: dict[str, Any] = {
        "model": "{{ params.model }}",
        "input_path": "{{ params.catalog }}",
        "output_path": "{{ params.output }}",
        "sizing": sized,
        "profile": {"name": "cpu-throughput", "decoder": "{{ params.decoder }}"},
        "conn_id": "spark_default",
    }
    plan = OnnxSparkInferenceOperator(task_id="plan", dry_run=True, **how)
    infer = OnnxSparkInferenceOperator(task_id="infer", top_k=2, **how)
    # [END howto_operator_onnx_spark_inference]

    # [START howto_sensor_spark_capacity]
    room = SparkCapacitySensor(
        task_id="room", plan=plan.output, conn_id="spark_default", deferrable=True, poke_interval=30, timeout=2 * 3600
    )
    # [END howto_sensor_spark_capacity]
    room >> infer

    # [START howto_operator_onnx_prediction_check]
    check = OnnxPredictionCheckOperator(
        task_id="check",
        predictions=infer.output,
        checks={
            "quarantine_rate": {"max": "{{ params.max_quarantine }}", "tolerance": 0.02},
            "label_drift": {"max": 0.25, "severity": "warn"},
            "mean_confidence": {"min": 0.6},
        },
        baseline="trailing:7",
        on_success_callback=ALERTS,
    )
    # [END howto_operator_onnx_prediction_check]

    # [START howto_operator_onnx_report]
    report = OnnxReportOperator(task_id="report", predictions=infer.output, trigger_rule="all_done")
    check >> report
    # [END howto_operator_onnx_report]

    # [START howto_operator_onnx_approval]
    approve = OnnxApprovalOperator(task_id="approve", predictions=check.output, when="{{ params.approval }}")
    report >> approve
    # [END howto_operator_onnx_approval]

    # [START howto_operator_onnx_publish]
    publish = OnnxPublishOperator(
        task_id="publish",
        predictions=approve.output,
        keep_history=7,
        outlets=[Asset(name="catalog_predictions")],
    )
    # [END howto_operator_onnx_publish]

    # [START howto_operator_onnx_metrics]
    metrics = OnnxMetricsOperator(
        task_id="metrics", predictions=infer.output, job="catalog", textfile_dir=f"{HOME}/metrics"
    )
    publish >> metrics.as_teardown()
    # [END howto_operator_onnx_metrics]


catalog_day_step_by_step()
