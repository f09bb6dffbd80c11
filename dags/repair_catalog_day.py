# SPDX-License-Identifier: Apache-2.0
"""### Classify again what a published day has in quarantine

For a day with broken pictures that somebody has mended: where they lay, or in a folder with the same relative paths.
Only they are scored, with the model of the day; the predictions that are there are taken over as they are. What still
cannot be read stays in quarantine, with its reason of today.

| task | what it does | where to look when it fails |
|---|---|---|
| `replay` | scores the quarantine into staging; skips itself, and the rest, if it is empty | is the day published? |
| `check` | judges the whole day | the exception lists every failed check |
| `publish` | the repaired day to its place, the old one to `_history/` | if another run came first, clear `replay` |

`rollback_catalog_day` takes it back.

**Connections**: `spark_default` (for example `{"conn_type": "spark", "host": "local[*]"}`). The Params' defaults lie
below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Asset, Param, dag

from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxPublishOperator, OnnxReplayOperator

HOME = os.environ.get("CATALOG_HOME", "/data")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "spark", "example"],
    params={
        "partition": Param(
            type="string",
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
            title="Partition",
            description="The day to repair, as in 2026-01-31.",
        ),
        "repaired": Param(
            None,
            type=["null", "string"],
            title="Repaired pictures",
            description="Folder with them under the relative paths of the broken ones. Empty: they were mended where "
            "they lie.",
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
def repair_catalog_day() -> None:
    # [START howto_operator_onnx_replay]
    replay = OnnxReplayOperator(
        task_id="replay",
        output_path="{{ params.output }}",
        repaired="{{ params.repaired or '' }}",
        conn_id="spark_default",
    )
    check = OnnxPredictionCheckOperator(task_id="check", predictions=replay.output)
    OnnxPublishOperator(task_id="publish", predictions=check.output, outlets=[Asset(name="catalog_predictions")])
    # [END howto_operator_onnx_replay]


repair_catalog_day()
