# SPDX-License-Identifier: Apache-2.0
"""Which partition each kind of run is about."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.partition import partition_of

DATE = datetime(2026, 1, 2, tzinfo=UTC)
NOW = SimpleNamespace(run_after=datetime(2026, 3, 4, 5, 6, tzinfo=UTC))


@pytest.mark.parametrize(
    ("context", "given", "expected"),
    [
        pytest.param({"logical_date": DATE, "dag_run": NOW}, None, "2026-01-02", id="scheduled or backfilled"),
        pytest.param({"dag_run": NOW}, None, "2026-03-04", id="triggered without a date"),
        pytest.param({"partition_key": "2026-05-06T00:00:00", "dag_run": NOW}, None, "2026-05-06", id="partitioned"),
        pytest.param({"partition_key": "eu-2026w07", "dag_run": NOW}, None, "eu-2026w07", id="any partition key"),
        pytest.param({"partition_key": None, "logical_date": DATE}, None, "2026-01-02", id="dags test"),
        pytest.param({"logical_date": DATE}, "2025-12-31", "2025-12-31", id="given to the operator"),
        pytest.param(
            {"logical_date": DATE, "params": {"partition": "2024-02-29"}},
            "2025-12-31",
            "2024-02-29",
            id="the Param wins",
        ),
        pytest.param({"logical_date": DATE, "params": {"partition": None}}, None, "2026-01-02", id="an empty Param"),
    ],
)
def test_partition(context: dict[str, Any], given: str | None, expected: str) -> None:
    assert partition_of(context, given) == expected


@pytest.mark.parametrize("name", ["../../etc", "a/b", ".hidden", "x" * 200, "2026-01-01T10:00:00"])
def test_a_name_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="cannot name a partition"):
        partition_of({"params": {"partition": name}})


def test_nothing_to_decide_by() -> None:
    with pytest.raises(BadInputError, match="nothing says which partition"):
        partition_of({})
