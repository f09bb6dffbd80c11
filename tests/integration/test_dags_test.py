# SPDX-License-Identifier: Apache-2.0
"""The reference DAG from the command line, as CI would run it: `airflow dags test`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from demo.environment import DAG_ID, airflow_environment
from tests.conftest import COLOURS
from tests.integration.conftest import draw_day

pytestmark = pytest.mark.spark


def dags_test(home: Path, day: str, **conf: Any) -> subprocess.CompletedProcess[str]:
    environment = airflow_environment(home, master="local[2]")
    airflow = [sys.executable, "-m", "airflow"]
    subprocess.run([*airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
    command = [*airflow, "dags", "test", DAG_ID, day, "-c", json.dumps(conf)]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_a_day_from_a_keras_file_to_published_predictions(home: Path) -> None:
    draw_day(home, "2026-01-01")

    run = dags_test(home, "2026-01-01")

    assert run.returncode == 0, run.stdout[-4000:]
    published = pq.read_table(home / "predictions" / "ds=2026-01-01", columns=["key", "label", "score"]).to_pylist()
    assert len(published) == 40
    expected = {f"p-{number:04d}.jpg": list(COLOURS)[number % len(COLOURS)] for number in range(40)}
    assert {row["key"]: row["label"] for row in published} == expected
    (version,) = [path for path in (home / "models" / "catalog_classifier").iterdir() if (path / "golden").is_dir()][:1]
    assert (version / "manifest.json").is_file()
    assert "converted from" in run.stdout
    assert "goes on" in run.stdout, "the quantize task says what it decided"


def test_an_unchanged_model_comes_from_the_store_and_a_failed_check_keeps_the_day(home: Path) -> None:
    before = {file.name: file.read_bytes() for file in (home / "predictions" / "ds=2026-01-01").iterdir()}

    run = dags_test(home, "2026-01-01", min_confidence=0.9999)

    assert run.returncode != 0
    assert "unchanged, from the store" in run.stdout
    assert "converted from" not in run.stdout
    assert "mean_confidence: FAILED; expected a mean score of at least 1.000" in run.stdout
    assert {file.name: file.read_bytes() for file in (home / "predictions" / "ds=2026-01-01").iterdir()} == before


def test_a_dry_run_plans_and_scores_nothing(home: Path) -> None:
    draw_day(home, "2026-01-05", good=8)

    run = dags_test(home, "2026-01-05", dry_run=True)

    assert run.returncode == 0, run.stdout[-4000:]
    assert "executor_memory_overhead_mb" in run.stdout, "the plan is in the log"
    said = run.stdout.count("inference was only planned (dry_run), so there are no predictions")
    assert said == 3, "check, report and metrics skip themselves, and each says why"
    assert not (home / "predictions" / "ds=2026-01-05").exists()
