# SPDX-License-Identifier: Apache-2.0
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

OPTIONAL_TEXT = {"type": ["string", "null"]}

SPARK_CLUSTER_FIELDS = {
    "deploy-mode": {
        "label": "Deploy mode",
        "description": "Where drivers run: client (on Airflow's worker) or cluster (YARN and Kubernetes)",
        "schema": {**OPTIONAL_TEXT, "default": "client", "enum": ["client", "cluster"]},
    },
    "web_address": {
        "label": "Web address",
        "description": "Of a standalone master (default: http on port 8080 of its host) or of YARN's ResourceManager, "
        "such as https://rm:8090; several with commas between them",
        "schema": OPTIONAL_TEXT,
    },
    "auth": {
        "label": "Authentication",
        "description": "At the web address or the Kubernetes API; default: basic with login and password, bearer with "
        "a password alone. simple sends the login as Hadoop's user.name, kerberos uses the ticket cache",
        "schema": {**OPTIONAL_TEXT, "enum": ["none", "basic", "bearer", "kerberos", "simple"]},
    },
    "token_file": {
        "label": "Token file",
        "description": "File with the bearer token, read each time; instead of the password",
        "schema": OPTIONAL_TEXT,
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true (default), false, or the path of a CA bundle to check certificates with",
        "schema": OPTIONAL_TEXT,
    },
    "cert": {
        "label": "Client certificate",
        "description": "Path of a PEM file; it may hold the key too",
        "schema": OPTIONAL_TEXT,
    },
    "key": {"label": "Client key", "description": "Path of the certificate's key", "schema": OPTIONAL_TEXT},
    "queue": {"label": "YARN queue", "description": "Queue of the applications", "schema": OPTIONAL_TEXT},
    "namespace": {
        "label": "Namespace",
        "description": "Kubernetes namespace of drivers and executors; its quotas are respected",
        "schema": OPTIONAL_TEXT,
    },
    "kubernetes_conn_id": {
        "label": "Kubernetes connection",
        "description": "Connection of the type kubernetes to ask the API with; default: the master's address with the "
        "token above, or the service account of this pod",
        "schema": OPTIONAL_TEXT,
    },
    "history_address": {
        "label": "History server",
        "description": "Web address of the Spark history server, for links to ended applications",
        "schema": OPTIONAL_TEXT,
    },
    "python": {
        "label": "Python",
        "description": "The interpreter's path on the executors",
        "schema": OPTIONAL_TEXT,
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
                    f"{package}.operators.optimize",
                    f"{package}.operators.quantize",
                    f"{package}.operators.prune",
                    f"{package}.operators.split",
                    f"{package}.operators.measure",
                    f"{package}.operators.promote",
                    f"{package}.operators.rollback",
                    f"{package}.operators.model_card",
                    f"{package}.operators.log_to_mlflow",
                    f"{package}.operators.spark_inference",
                    f"{package}.operators.replay",
                    f"{package}.operators.check",
                    f"{package}.operators.metrics",
                    f"{package}.operators.report",
                    f"{package}.operators.approval",
                    f"{package}.operators.publish",
                    f"{package}.operators.partition_rollback",
                ],
            }
        ],
        "sensors": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.sensors.catalog",
                    f"{package}.sensors.model",
                    f"{package}.sensors.spark_capacity",
                ],
            }
        ],
        "triggers": [
            {
                "integration-name": integration,
                "python-modules": [
                    f"{package}.triggers.catalog",
                    f"{package}.triggers.model",
                    f"{package}.triggers.spark_capacity",
                ],
            }
        ],
        "hooks": [
            {
                "integration-name": integration,
                "python-modules": [f"{package}.hooks.model_store", f"{package}.hooks.spark_cluster"],
            }
        ],
        "config": {
            "onnx": {
                "description": "The ONNX pages of the API server.",
                "options": {
                    "output_roots": {
                        "description": "Folders, with commas or line ends between them, below which the pages may read "
                        "reports and verdicts.",
                        "version_added": None,
                        "type": "string",
                        "example": "/data/predictions",
                        "default": "",
                    },
                    "model_roots": {
                        "description": "Model stores that the pages show beside those of the connections.",
                        "version_added": None,
                        "type": "string",
                        "example": "/data/models",
                        "default": "",
                    },
                },
            }
        },
        "notifications": [f"{package}.notifiers.run.OnnxRunNotifier"],
        "extra-links": [
            f"{package}.links.SparkUILink",
            f"{package}.links.ReportLink",
            f"{package}.links.ModelCardLink",
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
                    "hidden-fields": ["schema", "extra"],
                    "relabeling": {"host": "Master", "password": "Password or token"},
                    "placeholders": {
                        "host": "local[2], spark://master, yarn or k8s://https://api",
                        "web_address": "http://master:8080",
                        "verify": "/etc/ssl/certs/our-ca.pem",
                    },
                },
                "conn-fields": SPARK_CLUSTER_FIELDS,
            },
        ],
    }
