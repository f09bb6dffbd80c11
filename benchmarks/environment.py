# SPDX-License-Identifier: Apache-2.0
"""Where the suite keeps its things, what its child processes are given, and what the machine is."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from airflow_onnx_provider.runtime.cpu import available_cores, cpu_type

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = REPOSITORY / ".bench"
MIN_JAVA = 17
PACKAGES = ("pyspark", "onnxruntime", "pyarrow", "numpy", "pandas", "pillow", "mlflow-skinny", "ray")


def child_environment() -> dict[str, str]:
    """Variables of every child: this interpreter for Spark's workers, no telemetry, this checkout to import from."""
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "ORT_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def require_ready() -> None:
    """End with one clear line if something that the suite needs is missing."""
    missing = [name for name in (*PACKAGES, "tensorflow-cpu", "tf2onnx", "matplotlib") if _installed(name) is None]
    if missing:
        sys.exit(f"This Python lacks {', '.join(missing)}: run `make bench`, which makes the suite's own environment.")
    found = java_version()
    if found is None or int(found.split(".")[0]) < MIN_JAVA:
        sys.exit(f"Spark needs Java {MIN_JAVA} or newer and found {found or 'none'}: run `make java`.")


def java_version() -> str | None:
    """Version of the Java that Spark will start, or None."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin/java") if home else shutil.which("java")
    if java is None:
        return None
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    except OSError:
        return None
    match = re.search(r'version "([^"]+)"', said)
    return match[1] if match else None


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    return {
        "date": dt.datetime.now(tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu_type(),
        "cores": str(available_cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.system(),
        "java": java_version() or "none",
        "python": platform.python_version(),
        **{name: _installed(name) or "none" for name in PACKAGES},
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
