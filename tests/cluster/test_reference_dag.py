# SPDX-License-Identifier: Apache-2.0
"""The reference DAG on a real standalone cluster, through a connection: the same rows as on `local[2]`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from demo.environment import DAG_ID, airflow_environment
from tests.cluster.standalone import StandaloneCluster
from tests.integration.conftest import draw_day

pytestmark = pytest.mark.spark

DAY = "2026-01-01"


def dags_test(home: Path, spark: dict[str, Any], output: Path) -> str:
    """Run the reference DAG with this Spark connection; gives its log."""
    environment = airflow_environment(home) | {"AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(spark)}
    airflow = [sys.executable, "-m", "airflow"]
    subprocess.run([*airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
    run = subprocess.run(
        [*airflow, "dags", "test", DAG_ID, DAY, "-c", json.dumps({"output": str(output)})],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    return run.stdout


def published(output: Path) -> tuple[dict[str, tuple[str, float]], dict[str, str]]:
    """Key to label and score, and quarantined key to reason."""
    predictions = pq.read_table(output / f"ds={DAY}", columns=["key", "label", "score"]).to_pylist()
    quarantine = pq.read_table(output / "_quarantine" / f"ds={DAY}", columns=["key", "reason"]).to_pylist()
    keys = [row["key"] for row in (*predictions, *quarantine)]
    assert len(keys) == len(set(keys)), "no row twice"
    return (
        {row["key"]: (row["label"], row["score"]) for row in predictions},
        {row["key"]: row["reason"] for row in quarantine},
    )


def test_the_reference_dag_publishes_the_same_rows_on_a_cluster_as_on_one_machine(
    home: Path, cluster: StandaloneCluster
) -> None:
    draw_day(home, DAY, good=200, broken=2)  # enough for a task on each worker
    earlier = set(cluster.applications())

    dags_test(home, {"conn_type": "spark", "host": "local[2]"}, home / "one-machine")
    log = dags_test(home, cluster.connection, home / "cluster")

    predictions, quarantine = published(home / "cluster")
    expected, expected_quarantine = published(home / "one-machine")
    assert len(predictions) == 200
    assert quarantine == expected_quarantine == {"x-0.jpg": "not_an_image", "x-1.jpg": "not_an_image"}
    assert {key: label for key, (label, _) in predictions.items()} == {k: label for k, (label, _) in expected.items()}
    for key, (_, score) in predictions.items():
        assert score == pytest.approx(expected[key][1], abs=1e-6)
    assert f"on {cluster.master}" in log, "the plan is one for the cluster"
    assert [state for one, state in cluster.applications().items() if one not in earlier] == ["FINISHED"]
