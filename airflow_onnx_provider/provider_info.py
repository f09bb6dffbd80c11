"""What Airflow asks of a provider; it imports nothing, because Airflow calls it at every start."""

from __future__ import annotations

from typing import Any

MODEL_STORE_FIELDS = {
    "root": {
        "label": "Root",
        "description": "A local folder, or an object-storage URL such as s3://bucket/models",
        "schema": {"type": "string"},
    },
    "storage_conn_id": {
        "label": "Storage connection",
        "description": "Connection with the object store's credentials; not needed for a local folder",
        "schema": {"type": ["string", "null"]},
    },
}

SPARK_CLUSTER_FIELDS = {
    "web_address": {
        "label": "Web address",
        "description": "Of a standalone master; default: http on port 8080 of the master's host",
        "schema": {"type": ["string", "null"]},
    },
    "deploy-mode": {
        "label": "Deploy mode",
        "description": "Must be client or cluster",
        "schema": {"type": ["string", "null"], "default": "client"},
    },
}


def get_provider_info() -> dict[str, Any]:
    """Describe the provider in the form of Airflow's ``provider_info.schema.json``."""
    package = "airflow_onnx_provider"
    integration = "ONNX batch inference"
    return {
        "package-name": "airflow-onnx-provider",
        "name": "ONNX",
        "description": "Trained models to ONNX, batch inference on Spark, checked and published predictions.",
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://onnxruntime.ai/",
                "tags": ["software"],
            }
        ],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.operators.convert",
                    f"{package}.operators.validate",
                    f"{package}.operators.quantize",
                    f"{package}.operators.measure",
                    f"{package}.operators.spark_inference",
                    f"{package}.operators.check",
                    f"{package}.operators.publish",
                ],
            }
        ],
        "sensors": [{"integration-name": integration, "python-modules": [f"{package}.sensors.catalog"]}],
        "triggers": [{"integration-name": integration, "python-modules": [f"{package}.triggers.catalog"]}],
        "hooks": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.hooks.model_store", f"{package}.hooks.spark_cluster"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "onnx_model_store",
                "hook-class-name": f"{package}.hooks.model_store.OnnxModelStoreHook",
                "hook-name": "ONNX model store",
                "ui-field-behaviour": {
                    "hidden-fields": ["host", "schema", "login", "password", "port", "extra"],
                    "relabeling": {},
                    "placeholders": {"root": "/data/models"},
                },
                "conn-fields": MODEL_STORE_FIELDS,
            },
            {
                "connection-type": "spark_cluster",
                "hook-class-name": f"{package}.hooks.spark_cluster.SparkClusterHook",
                "hook-name": "Spark cluster (ONNX)",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "password", "extra"],
                    "relabeling": {"host": "Master"},
                    "placeholders": {"host": "local[2] or spark://master"},
                },
                "conn-fields": SPARK_CLUSTER_FIELDS,
            },
        ],
    }
