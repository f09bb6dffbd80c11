# SPDX-License-Identifier: Apache-2.0
"""What Airflow's own database knows of inference runs: their tasks, and what these returned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState as State
from sqlalchemy import and_, or_, select

from airflow_onnx_provider.partition import MIDNIGHT, PARAM

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

INFERENCE = ("OnnxSparkInferenceOperator", "OnnxReplayOperator")
CHECK, PUBLISH = "OnnxPredictionCheckOperator", "OnnxPublishOperator"
RESULT, PLAN = "return_value", "plan"
"""XCom keys: what a task returned, and what an inference task pushes before it submits anything."""

AT_WORK = (State.QUEUED, State.RUNNING, State.DEFERRED, State.RESTARTING, State.UP_FOR_RETRY, State.UP_FOR_RESCHEDULE)


@dataclass(frozen=True)
class TaskSeen:
    """A task that stands for one run of inference, with what the tasks behind it said.

    :param state: Airflow's
    :param moment: when it began
    :param day: the partition; of a task that returned nothing, the one that its DAG run is about
    :param result: what it returned, empty if nothing
    :param check: what the check task of the same run returned, likewise
    :param check_state: that task's state, empty if there is none or it belongs to another run
    :param publish: what the publish task returned, likewise
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str
    moment: datetime
    day: str
    result: Mapping[str, Any] = field(default_factory=dict)
    check: Mapping[str, Any] = field(default_factory=dict)
    check_state: str = ""
    publish: Mapping[str, Any] = field(default_factory=dict)


def dags_with_runs(session: Session) -> set[str]:
    """The DAGs that ever planned inference and whose XComs are still there. Answered by the index on XCom keys."""
    return set(session.scalars(select(XComModel.dag_id).where(XComModel.key == PLAN).distinct()))


def find_tasks(
    session: Session, dag_ids: Collection[str], *, day: str | None = None, skip: int = 0, limit: int
) -> tuple[list[TaskSeen], bool]:
    """The newest inference tasks that returned something, failed or are at work, newest first, in two queries.

    :param dag_ids: to look in
    :param day: only this partition
    :param skip: this many of the newest
    :param limit: most tasks to return
    :return: the tasks, and whether there are older ones
    """
    if not dag_ids:
        return [], False
    query = (
        _tasks(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            TaskInstance.start_date,
            DagRun.id,
            DagRun.run_after,
            DagRun.logical_date,
            DagRun.partition_key,
            DagRun.conf,
            XComModel.value,
        )
        .where(
            TaskInstance.operator.in_(INFERENCE),
            TaskInstance.dag_id.in_(dag_ids),
            or_(XComModel.key.is_not(None), TaskInstance.state.in_((State.FAILED, *AT_WORK))),
        )
        .order_by(DagRun.run_after.desc(), DagRun.id.desc(), TaskInstance.task_id, TaskInstance.map_index)
        .offset(skip)
        .limit(limit + 1)
    )
    if day is not None:
        # What a task returned says its day itself; of the others, the DAG run's own dates tell it below.
        query = query.where(or_(XComModel.value["partition"].as_string() == day, XComModel.key.is_(None)))
    read = session.execute(query).all()
    rows = read[:limit]
    behind = _behind(session, {row.id for row in rows})
    places = Counter((row.id, row.map_index) for row in rows)
    found = [_seen(row, behind.get(row.id, ()), alone=places[row.id, row.map_index] == 1) for row in rows]
    shown = [task for task in found if (day is None or task.day == day) and not task.result.get("dry_run")]
    return shown, len(read) > limit


def makers(session: Session, run: str) -> list[tuple[str, str]]:
    """The DAGs whose inference tasks returned a run of this name, each with the output folder; one query."""
    query = _tasks(TaskInstance.dag_id, XComModel.value).where(
        TaskInstance.operator.in_(INFERENCE),
        TaskInstance.dag_id.in_(select(XComModel.dag_id).where(XComModel.key == PLAN).distinct()),
        XComModel.value["run"].as_string() == run,
    )
    return [(row.dag_id, str(_mapping(row.value).get("output_path", ""))) for row in session.execute(query)]


def _tasks(*columns: Any) -> Select[Any]:
    """Tasks with their DAG runs and, where there is one, what they returned."""
    returned = and_(
        XComModel.dag_id == TaskInstance.dag_id,
        XComModel.task_id == TaskInstance.task_id,
        XComModel.run_id == TaskInstance.run_id,
        XComModel.map_index == TaskInstance.map_index,
        XComModel.key == RESULT,
    )
    return (
        select(*columns)
        .select_from(TaskInstance)
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .outerjoin(XComModel, returned)
    )


def _behind(session: Session, dag_runs: Collection[int]) -> dict[int, list[Any]]:
    """The check and publish tasks of these DAG runs."""
    if not dag_runs:
        return {}
    query = _tasks(DagRun.id, TaskInstance.operator, TaskInstance.map_index, TaskInstance.state, XComModel.value).where(
        DagRun.id.in_(dag_runs), TaskInstance.operator.in_((CHECK, PUBLISH))
    )
    found: dict[int, list[Any]] = {}
    for row in session.execute(query):
        found.setdefault(row.id, []).append(row)
    return found


def _seen(row: Any, behind: Sequence[Any], *, alone: bool) -> TaskSeen:
    """One task as it is shown.

    :param behind: check and publish tasks of its DAG run
    :param alone: whether no other inference task of the DAG run could have put those there
    """
    result = _mapping(row.value)
    said: dict[str, Mapping[str, Any]] = {}
    states: dict[str, str] = {}
    for other in behind:
        returned = _mapping(other.value)
        if returned and _same_run(returned, result):
            said[other.operator], states[other.operator] = returned, str(other.state or "")
        elif not returned and alone and other.map_index == row.map_index:
            states[other.operator] = str(other.state or "")
    return TaskSeen(
        dag_id=row.dag_id,
        run_id=row.run_id,
        task_id=row.task_id,
        map_index=row.map_index,
        state=str(row.state or ""),
        moment=row.start_date or row.run_after,
        day=str(result.get("partition") or _day(row)),
        result=result,
        check=said.get(CHECK, {}),
        check_state=states.get(CHECK, ""),
        publish=said.get(PUBLISH, {}),
    )


def _same_run(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return any(one.get(name) and one.get(name) == other.get(name) for name in ("run", "run_manifest"))


def _day(row: Any) -> str:
    """The partition of a run that did not come to say it; see :func:`~airflow_onnx_provider.partition.partition_of`."""
    if asked := _mapping(row.conf).get(PARAM):
        return str(asked)
    if key := row.partition_key:
        midnight = MIDNIGHT.fullmatch(key)
        return midnight[1] if midnight else str(key)
    return str((row.logical_date or row.run_after).strftime("%Y-%m-%d"))


def _mapping(value: Any) -> Mapping[str, Any]:
    """What a task returned, if it is a mapping; also where it was stored as a text of JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}
