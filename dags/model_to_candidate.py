# SPDX-License-Identifier: Apache-2.0
"""### From a trained model to a candidate

`convert → validate → optimize → quantize → measure → promote → card`, and on request the rest

Trigger it when a model has been trained. What comes out is a version in the model store that the alias `candidate`
names: proved to give the source's answers, in its fastest form that is accurate enough, measured on this CPU.
`candidate_to_production` goes on from there.

| task | what it does | where to look when it fails |
|---|---|---|
| `convert` | the trained model to ONNX; an unchanged one comes from the store | its last lines name the layer |
| `validate` | structure, limits, the same answers as the source | the log has the differences per batch size |
| `optimize` | a simpler graph with the same answers | its result gives the reason |
| `quantize` | 8 bits, if accurate enough and faster on this CPU | its result gives the reason |
| `measure` | the fastest batch size here, for the planner | are there pictures in the folder? |
| `promote` | the alias `candidate` names the version | an alias names validated versions only |
| `card` | the version's page, beside it in the store | is the extra `report` installed? |
| `prune` | a variant that compresses better; only if *Share of zeros* is given | its result gives the reason |
| `split` | the model in stages; only if *Stages* is given | the error names the smallest budget |
| `mlflow` | the candidate in a registry; only if *Experiment* is given | `MLFLOW_TRACKING_URI` names the server |
| `collect_old_versions` | removes what nothing needs; only if *Runs to look at* is given | its log has the reasons |

A variant that is not good enough is no failure: the version that it was made from goes on, and the reason is in the
result and on the card.

**Connections**: `onnx_model_store_default` (`{"conn_type": "onnx_model_store", "extra": {"root": "/data/models"}}`).

The Params' defaults lie below the folder that the environment variable `CATALOG_HOME` names (default `/data`).
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Param, dag, task

from airflow_onnx_provider import (
    OnnxConvertOperator,
    OnnxMeasureOperator,
    OnnxMlflowLogOperator,
    OnnxModelCardOperator,
    OnnxOptimizeOperator,
    OnnxPromoteOperator,
    OnnxPruneOperator,
    OnnxQuantizeOperator,
    OnnxSplitOperator,
    OnnxValidateOperator,
    model_asset,
)

HOME = os.environ.get("CATALOG_HOME", "/data")
MODEL = "catalog_classifier"


@dag(
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["onnx", "example"],
    params={
        "model": Param(
            f"{HOME}/training/classifier.keras",
            type="string",
            minLength=1,
            title="Model",
            description="File or folder, as its framework saved it.",
            section="Input",
        ),
        "framework": Param(
            "tensorflow",
            type="string",
            enum=["tensorflow", "torch", "sklearn", "xgboost", "lightgbm", "onnx"],
            title="Framework",
            description="What wrote it.",
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
        "calibration": Param(
            f"{HOME}/training/calibration",
            type="string",
            minLength=1,
            title="Calibration pictures",
            description="Folder with some real pictures, without labels.",
            section="Input",
        ),
        "labelled": Param(
            f"{HOME}/training/labelled",
            type="string",
            minLength=1,
            title="Labelled pictures",
            description="Folder with labels.csv (file,label); every variant must prove its accuracy on it.",
            section="Input",
        ),
        "quantization": Param(
            "auto",
            type="string",
            enum=["auto", "static", "dynamic", "float16", "int4", "none"],
            title="Quantisation",
            description="auto takes the fastest variant that is accurate enough.",
            section="Variants",
        ),
        "max_accuracy_drop": Param(
            0.01,
            type="number",
            minimum=0,
            maximum=1,
            title="Largest accuracy drop",
            description="What a variant may cost on the labelled pictures; 0.01 is one point.",
            section="Variants",
        ),
        "sparsity": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            title="Share of zeros",
            description="Of the weights of a pruned variant, as 0.5. Empty: none is made.",
            section="Variants",
        ),
        "stages": Param(
            None,
            type=["null", "integer"],
            minimum=2,
            title="Stages",
            description="Into how many the model is split as well. Empty: it is not.",
            section="Variants",
        ),
        "experiment": Param(
            None,
            type=["null", "string"],
            title="Experiment",
            description="Of MLflow, where the candidate is logged and registered. Empty: nowhere.",
            section="Elsewhere",
        ),
        "runs": Param(
            None,
            type=["null", "string"],
            examples=["/data/predictions"],
            title="Runs to look at",
            description="Output folder whose run manifests name versions that must stay; then others of the model are "
            "removed. Empty: none is.",
            section="Elsewhere",
        ),
        "keep_days": Param(
            14,
            type="number",
            minimum=2,
            title="Days to keep",
            description="Versions younger than this stay in the store, and so does all that is needed.",
            section="Elsewhere",
        ),
    },
)
def model_to_candidate() -> None:
    # [START howto_operator_onnx_convert]
    convert = OnnxConvertOperator(
        task_id="convert",
        source="{{ params.model }}",
        framework="{{ params.framework }}",
        name=MODEL,
        labels="{{ params.labels }}",
    )
    # [END howto_operator_onnx_convert]

    # [START howto_operator_onnx_validate]
    validate = OnnxValidateOperator(
        task_id="validate", model=convert.output, inputs="{{ params.calibration }}", min_label_agreement=0.99
    )
    # [END howto_operator_onnx_validate]

    # [START howto_operator_onnx_optimize]
    optimize = OnnxOptimizeOperator(
        task_id="optimize",
        model=validate.output,
        inputs="{{ params.calibration }}",
        steps=["simplify", {"graph": {"level": "basic"}}],
    )
    # [END howto_operator_onnx_optimize]

    # [START howto_operator_onnx_quantize]
    quantize = OnnxQuantizeOperator(
        task_id="quantize",
        model=optimize.output,
        mode="{{ params.quantization }}",
        calibration="{{ params.calibration }}",
        labelled="{{ params.labelled }}",
        max_accuracy_drop="{{ params.max_accuracy_drop }}",
    )
    # [END howto_operator_onnx_quantize]

    # [START howto_operator_onnx_measure]
    measure = OnnxMeasureOperator(
        task_id="measure",
        model=quantize.output,
        pictures="{{ params.calibration }}",
        space={"threads": [1], "batch_sizes": [1, 4, 8, 16], "decoders": ["full"], "arenas": [True], "seconds": 0.5},
    )
    # [END howto_operator_onnx_measure]

    # [START howto_operator_onnx_promote]
    promote = OnnxPromoteOperator(
        task_id="promote",
        model=measure.output,
        alias="candidate",
        reason="trained model {{ params.model }}",
        outlets=[model_asset(MODEL, "candidate")],
    )
    # [END howto_operator_onnx_promote]

    # [START howto_operator_onnx_model_card]
    OnnxModelCardOperator(task_id="card", model=promote.output)
    # [END howto_operator_onnx_model_card]

    @task.short_circuit
    def is_given(value: str) -> bool:
        return bool(value)

    # [START howto_operator_onnx_prune]
    prune = OnnxPruneOperator(
        task_id="prune",
        model=optimize.output,
        labelled="{{ params.labelled }}",
        sparsity="{{ params.sparsity }}",
        max_accuracy_drop="{{ params.max_accuracy_drop }}",
    )
    # [END howto_operator_onnx_prune]
    is_given.override(task_id="prune_is_asked_for")("{{ params.sparsity or '' }}") >> prune

    # [START howto_operator_onnx_split]
    split = OnnxSplitOperator(
        task_id="split", model=optimize.output, inputs="{{ params.calibration }}", stages="{{ params.stages }}"
    )
    # [END howto_operator_onnx_split]
    is_given.override(task_id="split_is_asked_for")("{{ params.stages or '' }}") >> split

    # [START howto_operator_onnx_mlflow_log]
    mlflow = OnnxMlflowLogOperator(
        task_id="mlflow",
        model=promote.output,
        experiment="{{ params.experiment }}",
        register_as=f"{MODEL}@candidate",
    )
    # [END howto_operator_onnx_mlflow_log]
    is_given.override(task_id="mlflow_is_asked_for")("{{ params.experiment or '' }}") >> mlflow

    # [START howto_hook_onnx_model_store]
    @task
    def collect_old_versions(runs: str, days: str) -> list[str]:
        from airflow_onnx_provider import OnnxModelStoreHook
        from airflow_onnx_provider.model.store.retention import Keep, collect

        store = OnnxModelStoreHook("onnx_model_store_default").get_conn()
        collected = collect(store, MODEL, Keep(last=5, days=float(days)), runs=[runs])
        for version, reason in collected.kept.items():
            print(f"{version} stays: {reason}")
        return list(collected.removed)

    # [END howto_hook_onnx_model_store]
    collection = is_given.override(task_id="collection_is_asked_for")("{{ params.runs or '' }}")
    promote >> collection >> collect_old_versions("{{ params.runs }}", "{{ params.keep_days }}")


model_to_candidate()
