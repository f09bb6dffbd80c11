# SPDX-License-Identifier: Apache-2.0
"""Runs as the page shows them: the tasks that Airflow knows, and what the files beside the predictions say of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.model.cards.measured import number
from airflow_onnx_provider.plugin.history import AT_WORK, TaskSeen
from airflow_onnx_provider.plugin.roots import NotThereError, OutsideRootsError, Roots, check_run
from airflow_onnx_provider.quality.verdict import CheckRecord, CheckResult
from airflow_onnx_provider.spark.layout import PARTITION, RUN_FILE, OutputLayout

DRIFT = "label_drift"
SPARK_DAYS = 30

Outcome = Literal["passed", "warned", "failed", "job failed", "at work", "not judged", "verdict unreadable"]


@dataclass(frozen=True)
class RunRow:
    """One run.

    :param outcome: the checks' verdict, or why there is none
    :param concerns: names of the checks that failed, or passed thanks to their tolerance only
    :param drift: how far the labels are from the baseline, by the metric of the check
    :param drift_limit: of that check
    :param published: whether readers see this run now; None where the files cannot be asked and no task said so
    :param report: whether its report can be opened
    :param refused: whether its output folder is none that the pages may read
    """

    day: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    moment: str
    outcome: Outcome
    run: str
    output_path: str
    model: str
    rows_in: float | None
    predicted: float | None
    carried: float | None
    quarantined: float | None
    images_per_second: float | None
    raw_share: float | None
    concerns: tuple[str, ...]
    drift: float | None
    drift_limit: float | None
    published: bool | None
    report: bool
    refused: bool


@dataclass(frozen=True)
class Stream:
    """The newest run of each day that one task of a DAG wrote to one folder.

    :param latest: of the newest day
    :param drifts: (day, label drift), oldest first, at most 30 days
    """

    dag_id: str
    task_id: str
    output_path: str
    latest: RunRow
    drifts: tuple[tuple[str, float], ...]


def rows_of(tasks: Iterable[TaskSeen], roots: Roots) -> list[RunRow]:
    """Each task with what the files say; newest day first, within a day the newest run first."""
    rows = [_row(task, roots) for task in tasks]
    rows.sort(key=lambda row: row.moment, reverse=True)
    return sorted(rows, key=lambda row: row.day, reverse=True)


def streams_of(rows: Sequence[RunRow]) -> list[Stream]:
    """What :func:`rows_of` gave, by DAG, task and output folder; the one with the newest day first."""
    found: dict[tuple[str, str, str], dict[str, RunRow]] = {}
    folders = {(row.dag_id, row.task_id): row.output_path for row in reversed(rows) if row.output_path}
    for row in rows:
        folder = row.output_path or folders.get((row.dag_id, row.task_id), "")
        found.setdefault((row.dag_id, row.task_id, folder), {}).setdefault(row.day, row)
    return [_stream(key, list(days.values())) for key, days in found.items()]


def _stream(key: tuple[str, str, str], days: Sequence[RunRow]) -> Stream:
    drifts = [(row.day, row.drift) for row in days if row.drift is not None][:SPARK_DAYS]
    return Stream(*key, latest=days[0], drifts=tuple(reversed(drifts)))


def _row(task: TaskSeen, roots: Roots) -> RunRow:
    result = task.result
    run, output = _text(result.get("run")), _text(result.get("output_path"))
    layout, refused = _layout(roots, run, output)
    record, readable = _record(roots, layout, run)
    results = record.results if record else _said(task.check)
    drift = next((one for one in results if one.name == DRIFT), None)
    return RunRow(
        day=task.day,
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        moment=task.moment.isoformat(timespec="seconds"),
        outcome=_outcome(task, record) if readable else "verdict unreadable",
        run=run,
        output_path=output,
        model=_text(result.get("model")),
        rows_in=number(result.get("rows_in")),
        predicted=number(result.get("predicted")),
        carried=number(result.get("carried")),
        quarantined=number(result.get("quarantined")),
        images_per_second=number(result.get("images_per_second")),
        raw_share=number(result.get("raw_share")),
        concerns=tuple(one.name for one in results if not one.passed or one.grey),
        drift=number(drift.value) if drift else None,
        drift_limit=number(drift.limit) if drift else None,
        published=_published(roots, layout, task, run),
        report=layout is not None and _there(roots, layout.report(run)),
        refused=refused,
    )


def _layout(roots: Roots, run: str, output: str) -> tuple[OutputLayout | None, bool]:
    """The run's output folder if its files may be read, and whether they may not."""
    if not run or not output:
        return None, False
    try:
        check_run(run)
        return roots.layout(output), False
    except (OutsideRootsError, NotThereError):
        return None, True


def _record(roots: Roots, layout: OutputLayout | None, run: str) -> tuple[CheckRecord | None, bool]:
    """What the checks left, and whether it could be read."""
    if layout is None or not _there(roots, path := layout.checks(run)):
        return None, True
    try:
        found = path.stat()
        return _read_record(roots.inside(path), found.st_mtime_ns, found.st_size), True
    except (OnnxProviderError, OSError, TypeError, ValueError, AttributeError):
        return None, False


@lru_cache(maxsize=2000)
def _read_record(path: Path, changed: int, size: int) -> CheckRecord | None:  # noqa: ARG001  # they name its content
    record = CheckRecord.read(path)
    return record and CheckRecord(record.run, record.partition, record.judged, "", (), record.results)


def _outcome(task: TaskSeen, record: CheckRecord | None) -> Outcome:
    if not task.result:
        return "at work" if task.state in AT_WORK else "job failed"
    if record is not None:
        return record.verdict
    if task.check:
        said = task.check.get("verdict")
        return "warned" if said == "warned" else "passed"
    if task.check_state in AT_WORK:
        return "at work"
    return "failed" if task.check_state == "failed" else "not judged"


def _said(check: Mapping[str, Any]) -> tuple[CheckResult, ...]:
    """The verdicts that a check task returned, those left out that make no sense."""
    listed = check.get("checks")
    names = set(CheckResult.__dataclass_fields__)
    found = []
    for one in listed if isinstance(listed, list) else ():
        try:
            found.append(CheckResult(**{name: value for name, value in one.items() if name in names}))
        except (TypeError, AttributeError):
            continue
    return tuple(found)


def _published(roots: Roots, layout: OutputLayout | None, task: TaskSeen, run: str) -> bool | None:
    if not run:
        return None
    if layout is None or not PARTITION.fullmatch(task.day) or ".." in task.day:
        return True if task.publish else None
    try:
        return bool(json.loads(roots.read(layout.published(task.day) / RUN_FILE)).get("run") == run)
    except (OSError, OnnxProviderError, ValueError, AttributeError):
        return False


def _there(roots: Roots, path: Path) -> bool:
    try:
        return roots.inside(path).is_file()
    except (OutsideRootsError, OSError):
        return False


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
