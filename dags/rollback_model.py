# SPDX-License-Identifier: Apache-2.0
"""### Let production name the model that it named before

For a model that was promoted and should not have been. One task moves the alias back; nothing is copied, and whoever
opens `<store>/catalog_classifier@production` gets the one version or the other, whole. A second trigger goes one step
further back.

Days that the model has classified stay as they are: `rollback_catalog_day` gives a day its earlier rows, and
`several_catalog_days` classifies a range of days again.

**Connections**: `onnx_model_store_default` (`{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}`).
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import AssetAlias, Param, dag

from airflow_onnx_provider import OnnxRollbackOperator

MODEL = "catalog_classifier"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "example"],
    params={
        "alias": Param(
            "production",
            type="string",
            minLength=1,
            title="Alias",
            description="Which to move back.",
        ),
        "expected": Param(
            None,
            type=["null", "string"],
            title="Version to leave",
            description="Does nothing if the alias names another one by now. Empty: whichever it names.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            description="Kept in the alias's history.",
        ),
    },
)
def rollback_model() -> None:
    # [START howto_operator_onnx_rollback]
    OnnxRollbackOperator(
        task_id="roll_back",
        name=MODEL,
        alias="{{ params.alias }}",
        expected="{{ params.expected or '' }}",
        reason="{{ params.reason or '' }}",
        outlets=[AssetAlias(f"{MODEL}_moves")],
    )
    # [END howto_operator_onnx_rollback]


rollback_model()
