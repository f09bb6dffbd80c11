# SPDX-License-Identifier: Apache-2.0
"""### Classify a range of days with one model

`days, version → infer (a day each) → check (each) → publish (each)`

For a new model over last week, or for days that were missed. All days get the very same version, even when its alias
moves meanwhile, and they are published together: if one day fails its checks, readers keep what they have of all days.

One Spark job runs at a time; Airflow's mapped tasks show each day with its own log, and one day can be cleared alone.
For days that have nothing to do with each other, Airflow's own backfill of `catalog_image_classification` is simpler.

**Connections**: `spark_default` (for example `{"conn_type": "spark", "host": "local[*]"}`).

The Params' defaults lie below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta

from airflow.sdk import Asset, Param, dag, task

from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxPublishOperator, OnnxSparkInferenceOperator

HOME = os.environ.get("CATALOG_HOME", "/data")


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "spark", "example"],
    params={
        "first": Param(type="string", format="date", title="First day", description="As in 2026-01-01."),
        "last": Param(type="string", format="date", title="Last day", description="It is classified, too."),
        "model": Param(
            f"{HOME}/models/catalog_classifier@production",
            type="string",
            minLength=1,
            title="Model",
            description="Address of a version, <store>/<name>/<version>, or of an alias, <store>/<name>@<alias>.",
        ),
        "catalog": Param(
            f"{HOME}/catalog",
            type="string",
            minLength=1,
            title="Catalogue",
            description="Folder with one folder ds=YYYY-MM-DD of pictures a day.",
        ),
        "output": Param(
            f"{HOME}/predictions",
            type="string",
            minLength=1,
            title="Output",
            description="Folder for predictions, quarantine, run manifests and history.",
        ),
    },
)
def several_catalog_days() -> None:
    # [START howto_mapped_operators]
    @task
    def days(first: str, last: str) -> list[str]:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
        return [str(begin + timedelta(days=number)) for number in range((end - begin).days + 1)]

    @task
    def version(model: str) -> str:
        from airflow_onnx_provider.hooks.model_store import open_version

        return open_version(model)[1]

    infer = OnnxSparkInferenceOperator.partial(
        task_id="infer",
        model=version("{{ params.model }}"),
        input_path="{{ params.catalog }}",
        output_path="{{ params.output }}",
        max_active_tis_per_dagrun=1,
    ).expand(partition=days("{{ params.first }}", "{{ params.last }}"))
    check = OnnxPredictionCheckOperator.partial(task_id="check").expand(predictions=infer.output)
    OnnxPublishOperator.partial(task_id="publish", outlets=[Asset(name="catalog_predictions")]).expand(
        predictions=check.output
    )
    # [END howto_mapped_operators]


several_catalog_days()
