# SPDX-License-Identifier: Apache-2.0
"""The Airflow of the demo: its settings as environment variables, so that nothing outside `.demo/` is touched."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".demo"
DAGS = REPOSITORY / "dags"
DAG_ID = "catalog_image_classification"


def airflow_environment(home: Path, *, master: str = "local[*]", dags: Path = DAGS) -> dict[str, str]:
    """Give this process's environment an Airflow of its own below ``home``.

    :param home: folder with ``catalog/`` and ``training/``; gets ``airflow/``, ``models/`` and ``predictions/``
    :param master: of Spark
    :param dags: folder that Airflow reads DAGs from
    """
    bundle = {
        "name": "dags",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    store = {"conn_type": "onnx_model_store", "extra": {"root": str(home / "models")}}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "CATALOG_HOME": str(home),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",  # Airflow starts as many worker processes at once
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps([bundle]),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__ONNX__OUTPUT_ROOTS": str(home / "predictions"),  # reports that the UI may show
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": master}),
        "AIRFLOW_CONN_ONNX_MODEL_STORE_DEFAULT": json.dumps(store),
    }


def on_port(port: int) -> dict[str, str]:
    """Further variables for an Airflow whose API server listens on ``port`` and whose log servers on the next two."""
    return {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://localhost:{port}/execution/",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
    }
