# SPDX-License-Identifier: Apache-2.0
"""### Classify a day's product pictures

`catalog → convert → validate → optimize → quantize → infer → check → report → approve → publish → promote → card`

Each day's folder `ds=YYYY-MM-DD` of pictures becomes a partition of predictions, with every file accounted for: it is
either predicted, or in quarantine with a reason. Readers see a day only after its checks have passed; a rerun replaces
the day and nothing else, and the rows that it replaces stay in `_history/`.

| task | what it does | where to look when it fails |
|---|---|---|
| `catalog` | waits for the day's `_SUCCESS` marker | is the day's folder complete? |
| `convert` | Keras or TensorFlow to ONNX; an unchanged model comes from the store | its last lines name the layer |
| `validate` | structure, limits, the same scores as the source | the log has the differences per batch size |
| `optimize` | a simpler graph with the same answers | its result gives the reason |
| `quantize` | 8 bits, if accurate enough and faster on this CPU | its result gives the reason |
| `infer` | one pass over the day on Spark, into staging | the plan and the job's own lines are in the log |
| `check` | books, keys, quarantine, labels, confidence, drift, accuracy | the exception lists every failed check |
| `report` | one page about the run, also when a check failed | linked on the task; is the extra `report` installed? |
| `approve` | asks a person, if the Param says so and a check is in doubt | Browse → Required Actions |
| `publish` | staging to `ds=…`, the old rows to `_history/` | safe to clear; if another run came first, clear `infer` |
| `metrics` | the run's figures for Prometheus, whatever happened | is the extra `prometheus` installed? |
| `promote` | the alias `production` names the model whose day was published | an alias names validated versions only |
| `card` | the model's page, beside the model in its store | is the extra `report` installed? |

**Which day?** The Param `partition`, if given; else the run's partition key or logical date; a run that is triggered
without a date takes today (UTC).

**Trusted?** The check compares the day with a baseline, and with its own labelled rows if it has any. Between a limit
and its tolerance a check is in its *grey zone*: it passes, and *Ask a person* decides whether somebody looks first.

**Plan only** prepares the model, logs how the job would run and for how long, and skips the rest. **Only what is new**
carries answers over from the last published day for pictures that this model has scored.

**Connections**: `spark_default` (for example `{"conn_type": "spark", "host": "local[*]"}`) and
`onnx_model_store_default` (`{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}`).

The Params' defaults lie below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import Asset, AssetAlias, Param, dag

from airflow_onnx_provider import TrainedModel, onnx_batch_inference

HOME = os.environ.get("CATALOG_HOME", "/data")
PREDICTIONS = Asset(name="catalog_predictions")
MODEL = "catalog_classifier"


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=3,  # a day that is still waited for must not hold up the others
    default_args={"retries": 2, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True},
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
            f"{HOME}/training/classifier.keras",
            type="string",
            minLength=1,
            title="Model",
            description="A .keras or .h5 file.",
            section="Input",
        ),
        "labels": Param(
            f"{HOME}/training/labels.txt",
            type="string",
            minLength=1,
            title="Labels",
            description="Text file with one class name a line, in the model's output order.",
            section="Input",
        ),
        "labelled": Param(
            f"{HOME}/training/labelled",
            type="string",
            minLength=1,
            title="Labelled pictures",
            description="Folder with labels.csv (file,label); a quantised model must prove its accuracy on it.",
            section="Input",
        ),
        "calibration": Param(
            f"{HOME}/training/calibration",
            type="string",
            minLength=1,
            title="Calibration pictures",
            description="Folder with some real pictures, without labels: they give validation its inputs and "
            "quantisation its value ranges.",
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
        "incremental": Param(
            False,
            type="boolean",
            title="Only what is new",
            description="Carry answers over for pictures that the same model has scored on the last published day.",
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
        "dry_run": Param(
            False,
            type="boolean",
            title="Plan only",
            description="Prepare the model and plan the job; the plan is in the log of infer, and nothing is scored.",
            section="Output",
        ),
        "quantization": Param(
            "auto",
            type="string",
            enum=["auto", "static", "dynamic", "float16", "int4", "none"],
            title="Quantisation",
            description="auto takes the fastest variant that is accurate enough.",
            section="Limits",
        ),
        "max_accuracy_drop": Param(
            0.01,
            type="number",
            minimum=0,
            maximum=1,
            title="Largest accuracy drop",
            description="What quantisation may cost on the labelled pictures; 0.01 is one point.",
            section="Limits",
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
        "max_quarantine": Param(
            0.05,
            type="number",
            minimum=0,
            maximum=1,
            title="Largest quarantine",
            description="Share of the day's files that may be unreadable.",
            section="Limits",
        ),
        "max_drift": Param(
            0.25,
            type="number",
            minimum=0,
            title="Largest drift",
            description="Population stability index of the labels against the baseline: 0.1 is a small change, 0.25 a "
            "large one. Up to half as much again is in doubt.",
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
        "baseline": Param(
            "previous",
            type="string",
            pattern="^(previous|same_weekday|trailing:[0-9]+|pinned:.+)$",
            examples=["previous", "same_weekday", "trailing:7"],
            title="Baseline",
            description="What the day is compared with: previous, same_weekday, trailing:7, or pinned:2026-01-31.",
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
def catalog_image_classification() -> None:
    # [START howto_task_group_trained_model]
    onnx_batch_inference(
        group_id="day",
        prefix_group_id=False,  # there is one such group here, so its tasks can be called by their own names
        model=TrainedModel(
            source="{{ params.model }}",
            framework="tensorflow",
            name=MODEL,
            labels="{{ params.labels }}",
            calibration="{{ params.calibration }}",
            labelled="{{ params.labelled }}",
        ),
        input_path="{{ params.catalog }}",
        output_path="{{ params.output }}",
        checks={
            "quarantine_rate": {"max": "{{ params.max_quarantine }}"},
            "mean_confidence": {"min": "{{ params.min_confidence }}"},
            "label_drift": {"max": "{{ params.max_drift }}", "tolerance": "{{ params.max_drift / 2 }}"},
            "accuracy": {"min": "{{ params.min_accuracy }}"},
        },
        baseline="{{ params.baseline }}",
        labels="{{ params.day_labels or '' }}",
        approval="{{ params.approval }}",
        alias="production",
        metrics={"job": MODEL, "textfile_dir": f"{HOME}/metrics"},
        outlets=[PREDICTIONS],
        arguments={
            "catalog": {"poke_interval": 60},
            "quantize": {"mode": "{{ params.quantization }}", "max_accuracy_drop": "{{ params.max_accuracy_drop }}"},
            "infer": {"incremental": "{{ params.incremental }}", "dry_run": "{{ params.dry_run }}"},
            "publish": {"keep_history": 7},
            # An event of model_asset(MODEL, "production") when that has moved, for those who follow the model.
            "promote": {"outlets": [AssetAlias(f"{MODEL}_moves")]},
        },
    )
    # [END howto_task_group_trained_model]


catalog_image_classification()
