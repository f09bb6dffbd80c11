# SPDX-License-Identifier: Apache-2.0
"""What one session of the matrix really had and did: `python -m tests.matrix.facts .demo 2026-01-01` prints it as JSON.

It runs in the session's own environment. Books that do not balance end it with an error.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import airflow_onnx_provider
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest
from tests.matrix.table import PACKAGES


def books(home: Path, partition: str) -> dict[str, Any]:
    """The rows of a published day: the manifest's, held against the files that went in and the rows that came out."""
    layout = OutputLayout(home / "predictions")
    run = RunManifest.read(layout.published(partition) / RUN_FILE)
    day = home / "catalog" / f"ds={partition}"
    files = sum(1 for path in day.rglob("*") if path.is_file() and not path.name.startswith("_"))
    rows = pq.read_table(layout.published(partition), columns=["key"]).num_rows
    quarantined = pq.read_table(layout.quarantine(partition), columns=["key"]).num_rows
    assert run.rows_in == run.predicted + run.quarantined_rows, run.figures()
    assert (run.rows_in, run.predicted, run.quarantined_rows) == (files, rows, quarantined), (files, rows, quarantined)
    return {"rows_in": run.rows_in, "predicted": run.predicted, "quarantined": run.quarantined_rows}


def java() -> str:
    """The version of the Java that Spark ran on, such as 17.0.19."""
    import subprocess

    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    return re.search(r'version "([^"]+)"', said).group(1)  # type: ignore[union-attr]


def versions() -> dict[str, str]:
    """Python, Java and the packages of the table that are installed."""
    found = {"python": platform.python_version(), "java": java()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main(home: str, partition: str) -> None:
    installed = Path(airflow_onnx_provider.__file__)
    assert "site-packages" in installed.parts, f"the tests ran on {installed}, not on the wheel"
    print(json.dumps({"versions": versions(), "books": books(Path(home), partition)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
