# SPDX-License-Identifier: Apache-2.0
"""Where the rows of a run are now, as the day's folders and its log have it."""

from __future__ import annotations

from pathlib import Path

from airflow_onnx_provider.quality.reports.facts import gather
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.rollback import rollback
from tests.spark.staging import stage

DAY = "2026-01-01"


def test_a_run_is_staged_then_published_then_replaced_or_rolled_back(tmp_path: Path) -> None:
    layout = OutputLayout(tmp_path)

    def places() -> dict[str, str]:
        return {run: gather(layout, run).place for run in ("a", "b") if layout.run_manifest(run).exists()}

    stage(layout, "a")
    assert places() == {"a": "staged"}
    publish(layout, DAY, "a")
    stage(layout, "b")
    assert places() == {"a": "published", "b": "staged"}
    publish(layout, DAY, "b")
    assert places() == {"a": "replaced", "b": "published"}
    rollback(layout, DAY)
    assert places() == {"a": "published", "b": "rolled back"}
