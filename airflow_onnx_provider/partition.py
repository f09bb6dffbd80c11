# SPDX-License-Identifier: Apache-2.0
"""Which partition of the data a run is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.layout import check_partition

PARAM = "partition"
MIDNIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})T00:00(:00)?(Z|[+-]00:?00)?")


def partition_of(context: Mapping[str, Any], given: str | None = None) -> str:
    """Decide the partition of any kind of run.

    The first that is there wins: the Param ``partition`` (a person's last word), what the operator was given, the
    run's partition key, the logical date, and for a run without any of these the day on which it runs (UTC).

    :param context: the task's context
    :param given: the operator's ``partition`` after rendering, or None
    :raises BadInputError: if the name cannot be part of a path, or nothing decides it
    """
    dag_run = context.get("dag_run")
    key = context.get("partition_key")
    run_after = getattr(dag_run, "run_after", None)
    chosen = (
        dict(context.get("params") or {}).get(PARAM)
        or given
        or (_day_of(key) if key else None)
        or _date(context.get("logical_date"))
        or _date(run_after)
    )
    if not chosen:
        raise BadInputError(f"nothing says which partition to use: give partition=, or the Param {PARAM!r}")
    return check_partition(str(chosen))


def _date(moment: Any) -> str | None:
    return moment.strftime("%Y-%m-%d") if moment else None


def _day_of(key: str) -> str:
    """A daily timetable's key is a timestamp at midnight; the partition is called by its day."""
    found = MIDNIGHT.fullmatch(key)
    return found[1] if found else key
