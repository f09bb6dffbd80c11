# SPDX-License-Identifier: Apache-2.0
"""### From a candidate to production

`candidate → (catalog → infer → check → report → approve → publish → promote → card)`

Trigger it when a new model is on its way. It waits until the alias `candidate` names another version (see
`model_to_candidate`), lets that version classify a day into a folder of its own, and only if the day passes its checks
does the alias `production` name it. Nobody's predictions change: readers' folders are left alone.

| task | what it does | where to look when it fails |
|---|---|---|
| `candidate` | waits for the alias to move, a day at most | was `model_to_candidate` run? |
| `trial.catalog` … `trial.publish` | a day with that version, as in `catalog_image_classification` | its table |
| `trial.promote` | the alias `production` names the version | an alias names validated versions only |
| `trial.card` | the version's page | is the extra `report` installed? |

`rollback_model` gives production its model of before.

**Connections**: `spark_default` (for example `{"conn_type": "spark", "host": "local[*]"}`) and
`onnx_model_store_default` (`{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}`).

The Params' defaults lie below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import AssetAlias, Param, dag

from airflow_onnx_provider import OnnxModelSensor, onnx_batch_inference

HOME = os.environ.get("CATALOG_HOME", "/data")
MODEL = "catalog_classifier"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "spark", "example"],
    params={
        "partition": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$",
            title="Partition",
            description="The day of the trial, as in 2026-01-31. Empty: the run's own date, or today.",
        ),
        "since": Param(
            None,
            type=["null", "string"],
            examples=["2026-01-31T06:00:00Z"],
            title="Since",
            description="A candidate since this time is new. Empty: since the run has started.",
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
        "day_labels": Param(
            f"{HOME}/catalog/ds={{partition}}/_labels.csv",
            type=["null", "string"],
            title="Labels of the day",
            description="Table with the true labels of some of the day's rows; {partition} stands for the day. Empty: "
            "none.",
            section="Input",
        ),
        "trials": Param(
            f"{HOME}/trials",
            type="string",
            minLength=1,
            title="Trials",
            description="Folder for the trials' predictions, not the one that readers read.",
            section="Output",
        ),
        "min_confidence": Param(
            0.6,
            type="number",
            minimum=0,
            maximum=1,
            title="Least mean confidence",
            description="Mean score of the day's predictions.",
            section="Limits",
        ),
        "min_accuracy": Param(
            0.8,
            type="number",
            minimum=0,
            maximum=1,
            title="Least accuracy",
            description="On the day's labelled rows, if it has any.",
            section="Limits",
        ),
        "approval": Param(
            "never",
            type="string",
            enum=["never", "grey", "always"],
            title="Ask a person",
            description="Before promoting: never, when a check is in its grey zone, or always.",
            section="Limits",
        ),
    },
)
def candidate_to_production() -> None:
    # [START howto_sensor_onnx_model]
    candidate = OnnxModelSensor(
        task_id="candidate",
        name=MODEL,
        alias="candidate",
        since="{{ params.since or '' }}",
        deferrable=True,
        poke_interval=60,
        timeout=24 * 3600,
    )
    # [END howto_sensor_onnx_model]

    # [START howto_task_group_onnx_batch_inference]
    onnx_batch_inference(
        group_id="trial",
        model=candidate.output,
        input_path="{{ params.catalog }}",
        output_path="{{ params.trials }}",
        checks={
            "mean_confidence": {"min": "{{ params.min_confidence }}"},
            "accuracy": {"min": "{{ params.min_accuracy }}"},
        },
        labels="{{ params.day_labels or '' }}",
        approval="{{ params.approval }}",
        alias="production",
        arguments={
            "catalog": {"poke_interval": 60},
            "promote": {"outlets": [AssetAlias(f"{MODEL}_moves")]},
        },
    )
    # [END howto_task_group_onnx_batch_inference]


candidate_to_production()
