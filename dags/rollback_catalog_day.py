# SPDX-License-Identifier: Apache-2.0
"""### Give a day of predictions back the rows that it had before

For a day that was published and should not have been. Trigger it with the day; one task moves the published rows, their
quarantine and their manifest to the history, and the version before them back into place, byte for byte. Readers see
the one or the other. Consumers of the Asset `catalog_predictions` are told.

Triggered again for the same day, it goes one step further back. To go forward again, or to a certain version, give its
run; `python -m airflow_onnx_provider.spark.rollback <output> <day> --list` shows what there is, and who published and
rolled back what, when and why.

The publish task of what was rolled back is refused if it is tried again. To publish the day anew, run
`catalog_image_classification` for it: its rows take the place of what you see then.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Asset, Param, dag

from airflow_onnx_provider import OnnxPartitionRollbackOperator

HOME = os.environ.get("CATALOG_HOME", "/data")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "example"],
    params={
        "partition": Param(
            type="string",
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
            title="Partition",
            description="The day to roll back, as in 2026-01-31.",
        ),
        "run": Param(
            None,
            type=["null", "string"],
            title="Run",
            description="Of the day's history. Empty: the version before the published one.",
        ),
        "reason": Param(
            None,
            type=["null", "string"],
            title="Reason",
            description="Kept in the day's log.",
        ),
        "output": Param(
            f"{HOME}/predictions",
            type="string",
            minLength=1,
            title="Output",
            description="Folder with the predictions.",
        ),
    },
)
def rollback_catalog_day() -> None:
    # [START howto_operator_onnx_partition_rollback]
    OnnxPartitionRollbackOperator(
        task_id="roll_back",
        output_path="{{ params.output }}",
        partition="{{ params.partition }}",
        run="{{ params.run or '' }}",
        reason="{{ params.reason or '' }}",
        outlets=[Asset(name="catalog_predictions")],
    )
    # [END howto_operator_onnx_partition_rollback]


rollback_catalog_day()
