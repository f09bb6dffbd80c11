# SPDX-License-Identifier: Apache-2.0
"""What the page asks Airflow's database, on a real one in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from airflow.models import import_all_models
from airflow.models.base import Base
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session

from airflow_onnx_provider.plugin.history import TaskSeen, dags_with_runs, find_tasks, makers
from tests.plugin.airflow_records import CHECK, INFERENCE, PUBLISH, Records, Task, figures

DAG = "catalog"


@pytest.fixture(scope="module")
def engine() -> Engine:
    import_all_models()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with engine.connect() as connection, connection.begin() as transaction, Session(connection) as session:
        yield session
        transaction.rollback()


@pytest.fixture
def records(session: Session) -> Records:
    records = Records(session)
    records.add_dag(DAG)
    return records


def day_of_tasks(day: str, run: str, **changed: Any) -> list[Task]:
    said = figures(run, day, "/out", **changed)
    return [
        Task("infer", INFERENCE, said),
        Task("check", CHECK, {**said, "checks": [], "verdict": "warned"}),
        Task("publish", PUBLISH, {**said, "changed": True}),
        Task("other", "PythonOperator", {"run": run, "rows_in": -1}),
    ]


def only(session: Session, **asked: Any) -> TaskSeen:
    ((task,), more) = find_tasks(session, {DAG}, limit=10, **asked)
    assert not more
    return task


def test_a_run_comes_with_what_the_tasks_behind_it_said(records: Records, session: Session) -> None:
    run_id = records.add_run(DAG, day_of_tasks("2026-01-01", "r1"))

    task = only(session)

    assert (task.dag_id, task.run_id, task.task_id, task.day) == (DAG, run_id, "infer", "2026-01-01")
    assert (task.result["rows_in"], task.check["verdict"], task.publish["changed"]) == (1200, "warned", True)
    assert dags_with_runs(session) == {DAG}
    assert makers(session, "r1") == [(DAG, "/out")]
    assert makers(session, "r2") == []


def test_the_newest_come_first_and_the_rest_on_further_pages(records: Records, session: Session) -> None:
    for number in range(1, 6):
        records.add_run(DAG, day_of_tasks(f"2026-01-0{number}", f"r{number}"), f"2026-01-0{number}")

    first, more = find_tasks(session, {DAG}, limit=3)
    last, none = find_tasks(session, {DAG}, limit=3, skip=3)

    assert [task.result["run"] for task in first + last] == ["r5", "r4", "r3", "r2", "r1"]
    assert (more, none) == (True, False)
    assert only(session, day="2026-01-02").result["run"] == "r2"


def test_only_the_dags_that_were_asked_for(records: Records, session: Session) -> None:
    records.add_dag("secret")
    records.add_run("secret", day_of_tasks("2026-01-01", "r1"))
    records.add_run(DAG, day_of_tasks("2026-01-01", "r2"))

    assert only(session).result["run"] == "r2"
    assert find_tasks(session, set(), limit=10) == ([], False)


@pytest.mark.parametrize(
    ("state", "shown"), [("failed", True), ("running", True), ("deferred", True), ("skipped", False)]
)
def test_a_task_without_an_answer(records: Records, session: Session, state: str, shown: bool) -> None:
    records.add_run(DAG, [Task("infer", INFERENCE, state=state)], "2026-01-02")

    tasks, _ = find_tasks(session, {DAG}, limit=10)

    assert [(task.state, task.day, task.result) for task in tasks] == ([(state, "2026-01-02", {})] if shown else [])
    assert len(find_tasks(session, {DAG}, limit=10, day="2026-01-02")[0]) == shown
    assert not find_tasks(session, {DAG}, limit=10, day="2026-01-03")[0]


@pytest.mark.parametrize(
    ("dag_run", "day"),
    [
        ({"conf": {"partition": "2025-12-24"}}, "2025-12-24"),
        ({"partition_key": "2025-12-25T00:00:00"}, "2025-12-25"),
        ({"partition_key": "north"}, "north"),
        ({"logical_date": None}, "2026-01-01"),
    ],
)
def test_the_day_of_a_task_without_an_answer(
    records: Records, session: Session, dag_run: dict[str, Any], day: str
) -> None:
    records.add_run(DAG, [Task("infer", INFERENCE, state="failed")], **dag_run)
    assert only(session).day == day


def test_a_failed_check_is_seen_though_it_returned_nothing(records: Records, session: Session) -> None:
    tasks = [Task("infer", INFERENCE, figures("r1", "2026-01-01", "/out")), Task("check", CHECK, state="failed")]
    records.add_run(DAG, tasks)
    assert (only(session).check, only(session).check_state) == ({}, "failed")


def test_what_belongs_to_another_run_of_the_same_dag_run_is_not_mixed_in(records: Records, session: Session) -> None:
    one, two = figures("r1", "2026-01-01", "/one"), figures("r2", "2026-01-01", "/two")
    records.add_run(
        DAG,
        [
            Task("a.infer", INFERENCE, one),
            Task("b.infer", INFERENCE, two),
            Task("a.check", CHECK, {**one, "verdict": "passed"}),
            Task("b.check", CHECK, state="failed"),
        ],
    )

    first, second = find_tasks(session, {DAG}, limit=10)[0]

    assert (first.check["verdict"], second.check, second.check_state) == ("passed", {}, "")


def test_mapped_tasks_are_runs_of_their_own(records: Records, session: Session) -> None:
    days = ("2026-01-01", "2026-01-02")
    tasks = [Task("infer", INFERENCE, figures(f"r{n}", day, "/out"), map_index=n) for n, day in enumerate(days)]
    tasks += [Task("check", CHECK, {"run": "r0", "verdict": "passed"}, map_index=0)]
    tasks += [Task("check", CHECK, state="failed", map_index=1)]
    records.add_run(DAG, tasks)

    first, second = find_tasks(session, {DAG}, limit=10)[0]

    assert (first.map_index, first.check["verdict"], second.map_index, second.check_state) == (0, "passed", 1, "failed")


def test_a_check_that_was_given_a_path_is_found_by_it(records: Records, session: Session) -> None:
    said = figures("r1", "2026-01-01", "/out")
    check = {"run_manifest": said["run_manifest"], "verdict": "passed"}
    records.add_run(DAG, [Task("infer", INFERENCE, said), Task("check", CHECK, check)])
    assert only(session).check == check


@pytest.mark.parametrize("value", ["no JSON", "[1]", 7, ["run"], json.dumps({"run": "r1", "partition": "2026-01-01"})])
def test_strange_answers_do_no_harm(records: Records, session: Session, value: Any) -> None:
    records.add_run(DAG, [Task("infer", INFERENCE, value)])
    assert only(session).result in ({}, {"run": "r1", "partition": "2026-01-01"})


def test_a_plan_alone_is_no_run(records: Records, session: Session) -> None:
    records.add_run(DAG, [Task("infer", INFERENCE, {"dry_run": True, "partition": "2026-01-01", "plan": {}})])
    assert find_tasks(session, {DAG}, limit=10) == ([], False)


def test_two_thousand_runs_take_as_many_queries_as_one(records: Records, session: Session, engine: Engine) -> None:
    for number in range(40):
        day = f"2026-01-{number % 28 + 1:02}"
        tasks = [replace(task, map_index=at) for at in range(50) for task in day_of_tasks(day, f"r{number}-{at}")]
        records.add_run(DAG, tasks, day)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    tasks, more = find_tasks(session, dags_with_runs(session), limit=200)

    assert (len(tasks), more, len(asked)) == (200, True, 3)
