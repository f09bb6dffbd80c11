# SPDX-License-Identifier: Apache-2.0
"""A published day is repaired: its quarantine is scored again, checked and published, on a real local Spark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from PIL import Image

from airflow_onnx_provider import OnnxPredictionCheckOperator, OnnxPublishOperator
from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.operators.replay import OnnxReplayOperator
from airflow_onnx_provider.spark.layout import OutputLayout
from airflow_onnx_provider.spark.publish import publish
from airflow_onnx_provider.spark.rollback import rollback
from tests.conftest import COLOURS, Day
from tests.faults.books import audit, audit_version, snapshot
from tests.operators.test_sources import NO_LIMITS, colour, day_of, picture
from tests.operators.test_spark_inference import publish_another, rows, run_day
from tests.spark.staging import a_manifest, stage

pytestmark = pytest.mark.usefixtures("connections")

DAY = "2026-01-01"
SCORING = {"provider": "CPUExecutionProvider", "decoder": "full", "top_k": 0, "raw": []}


def replay(tmp_path: Path, **changes: Any) -> OnnxReplayOperator:
    return OnnxReplayOperator(**({"task_id": "replay", "output_path": str(tmp_path / "predictions")} | changes))


def replay_day(tmp_path: Path, context: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Replay, check and publish."""
    predictions = replay(tmp_path, **changes).execute(context)
    checked = OnnxPredictionCheckOperator(task_id="check", predictions=predictions, checks=NO_LIMITS)
    return OnnxPublishOperator(task_id="publish", predictions=checked.execute(context)).execute(context)


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "_quarantine.jsonl").read_text().splitlines()]


@pytest.mark.spark
def test_repaired_files_join_their_day_and_the_others_stay_in_quarantine(
    tmp_path: Path, colour_model: str, draw_day: Callable[..., Day], context: dict[str, Any]
) -> None:
    day, output = draw_day(good=12, broken=4), tmp_path / "predictions"
    first = run_day(tmp_path, colour_model, context, {"incremental": True}, **NO_LIMITS)
    before = snapshot(output / f"ds={DAY}")
    quarantine = rows(output / "_quarantine" / f"ds={DAY}")
    assert [(row["reason"], row["bytes"], row["copy"]) for row in quarantine] == [
        ("empty_file", 0, b""),
        ("not_an_image", 17, b"no picture at all"),
        ("broken_image", 11, b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"),
        ("empty_file", 0, b""),
    ]
    assert [(line["key"], line["reason"], line["copied"]) for line in log_of(output / "_quarantine" / f"ds={DAY}")] == [
        (row["key"], row["reason"], True) for row in quarantine
    ]

    Image.new("RGB", (40, 30), COLOURS["blue"]).save(day.folder / "broken-0.jpg")
    repaired = tmp_path / "repaired"
    repaired.mkdir()
    Image.new("RGB", (40, 30), COLOURS["red"]).save(repaired / "broken-1.jpg")
    (day.folder / "broken-3.jpg").unlink()
    second = replay_day(tmp_path, context, repaired=str(repaired))

    figures = ("rows_in", "predicted", "carried", "quarantined", "raw_share", "replaced")
    assert [second[name] for name in figures] == [16, 14, 12, 2, 0.0, first["run"]]
    labels = day.good | {"broken-0.jpg": "blue", "broken-1.jpg": "red"}
    assert {row["key"]: row["label"] for row in rows(output / f"ds={DAY}")} == labels
    assert [(row["key"], row["reason"]) for row in rows(output / "_quarantine" / f"ds={DAY}")] == [
        ("broken-2.jpg", "broken_image"),
        ("broken-3.jpg", "unreadable"),
    ]
    assert audit(output, DAY, list(day.files), quarantined=["broken-2.jpg", "broken-3.jpg"]) == second["run"]
    manifest = json.loads((output / f"ds={DAY}" / "_run.json").read_text())
    assert (manifest["replays"], manifest["replaces"]) == (first["run"], first["run"])
    assert sum(manifest["labels"].values()) == sum(manifest["score_histogram"]) == 14
    assert manifest["source"]["folder"] == str(day.folder)
    history = output / "_history" / f"ds={DAY}" / first["run"]
    audit_version(history / "predictions", history / "quarantine", list(day.files), day.broken)

    rollback(layout := OutputLayout(output), DAY, by="somebody")
    assert snapshot(layout.published(DAY)) == before, "byte for byte"
    assert rows(layout.quarantine(DAY)) == quarantine


def publish_rows(tmp_path: Path, model: str, quarantined: list[int]) -> None:
    """Publish a day of a hundred rows as an inference run of an older version would have."""
    layout, version = OutputLayout(tmp_path / "predictions"), json.loads((Path(model) / "manifest.json").read_text())
    keys = [number for number in range(100) if number not in quarantined]
    table = pa.table(
        {
            "key": pa.array(keys, pa.int32()),
            "label": [colour(number) for number in keys],
            "score": pa.array([0.75] * len(keys), pa.float32()),
            "model_digest": [version["digest"]] * len(keys),
            "runtime_version": ["1.0"] * len(keys),
            "execution_provider": ["CPUExecutionProvider"] * len(keys),
        }
    )
    stage(layout, "base")
    pq.write_table(table, layout.staging("base") / "predictions" / "part-0.parquet")
    addresses = [f"elsewhere#{number}" for number in quarantined]
    table = pa.table({"key": pa.array(quarantined, pa.int32()), "address": addresses})
    pq.write_table(table, layout.staging("base") / "quarantine" / "part-0.parquet")
    a_manifest(
        "base",
        layout,
        model={"model": model, "digest": version["digest"], "labels": version["labels"]},
        rows_in=100,
        predicted=len(keys),
        quarantined={"not_an_image": len(quarantined)},
        scoring=SCORING,
        source={"folder": str(day_of(tmp_path)), "key": "sku", "input": "jpeg", "root": None},
    ).write(layout.run_manifest("base"))
    publish(layout, DAY, "base")


@pytest.mark.spark
def test_rows_of_parquet_files_are_repaired_by_rows_of_parquet_files(
    tmp_path: Path, colour_model: str, context: dict[str, Any]
) -> None:
    publish_rows(tmp_path, colour_model, [7, 41, 42, 43, 99])
    images = [picture(number) for number in range(60)]
    images[7], images[42], images[43] = b"broken here, but not there", b"still broken", b"x" * 2000
    table = pa.table({"jpeg": pa.array(images, pa.binary()), "sku": pa.array(range(60), pa.int64())})
    pq.write_table(table, day_of(tmp_path) / "a.parquet", row_group_size=25)
    pq.write_table(pa.table({"sku": [7], "jpeg": [picture(7)]}), tmp_path / "repaired.parquet")
    output = tmp_path / "predictions"

    changes = {"repaired": str(tmp_path / "repaired.parquet"), "quarantine_copy_bytes": "1000"}
    published = replay_day(tmp_path, context, **changes)

    assert [published[name] for name in ("rows_in", "predicted", "carried", "quarantined")] == [100, 97, 95, 3]
    found = rows(output / f"ds={DAY}")
    assert {row["key"]: row["label"] for row in found} == {n: colour(n) for n in range(100) if n not in (42, 43, 99)}
    assert {row["key"] for row in found if row["runtime_version"] != "1.0"} == {7, 41}
    quarantine = rows(output / "_quarantine" / f"ds={DAY}")
    told = ("key", "reason", "address", "bytes", "copy")
    assert [tuple(row[name] for name in told) for row in quarantine] == [
        (42, "not_an_image", f"{day_of(tmp_path)}/a.parquet#42", 12, b"still broken"),
        (43, "not_an_image", f"{day_of(tmp_path)}/a.parquet#43", 2000, None),
        (99, "null_input", "elsewhere#99", None, None),
    ]
    assert audit(output, DAY, list(range(100)), quarantined=[42, 43, 99]) == published["run"]


def test_a_day_that_is_not_published(tmp_path: Path, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="has no published ds=2026-01-01 whose quarantine could be scored"):
        replay(tmp_path).execute(context)


def test_where_the_quarantine_is_empty_there_is_nothing_to_do(tmp_path: Path, context: dict[str, Any]) -> None:
    layout = OutputLayout(tmp_path / "predictions")
    stage(layout, "whole")
    (layout.staging("whole") / "quarantine" / "part-0.parquet").unlink()
    a_manifest("whole", layout, quarantined={}, rows_in=2).write(layout.run_manifest("whole"))
    publish(layout, DAY, "whole")

    with pytest.raises(AirflowSkipException, match="run whole left nothing in quarantine: there is nothing to replay"):
        replay(tmp_path).execute(context)


def test_a_run_whose_manifest_does_not_tell_where_its_rows_came_from(tmp_path: Path, context: dict[str, Any]) -> None:
    publish_another(tmp_path / "predictions", DAY)

    with pytest.raises(AirflowFailException, match="by-hand is from before manifests told .*: give input_path"):
        replay(tmp_path).execute(context)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the day was scored by .*/other/0123 .*digest 0123.*, the replay would be by .*/colours/.*mixes models"),
        ({"profile": {"decoder": "scaled"}}, "the day was scored with .*'full'.*, the replay would be with .*'scaled'"),
    ],
)
def test_a_day_keeps_one_model_and_one_way_of_scoring(
    tmp_path: Path, colour_model: str, context: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    day, layout = day_of(tmp_path), OutputLayout(tmp_path / "predictions")
    stage(layout, "base")
    quarantined = pa.table({"key": ["broken-0.jpg"], "address": [str(day / "broken-0.jpg")]})
    pq.write_table(quarantined, layout.staging("base") / "quarantine" / "part-0.parquet")
    digest = json.loads((Path(colour_model) / "manifest.json").read_text())["digest"] if changes else "0123"
    a_manifest(
        "base",
        layout,
        model={"model": "/models/other/0123", "digest": digest, "labels": []},
        scoring=SCORING,
        source={"folder": str(day), "key": None, "input": None, "root": None},
    ).write(layout.run_manifest("base"))
    publish(layout, DAY, "base")

    with pytest.raises(AirflowFailException, match=said):
        replay(tmp_path, model=colour_model, **changes).execute(context)


@pytest.mark.parametrize("argument", ["top_k", "raw", "incremental"])
def test_what_the_day_has_decided_cannot_be_given(tmp_path: Path, argument: str) -> None:
    with pytest.raises(BadInputError, match=f"{argument}: a replay scores as the published day was; leave it out"):
        replay(tmp_path, **{argument: 1})


@pytest.mark.parametrize("size", ["-1", "1.5", "many"])
def test_copies_of_a_size_that_cannot_be(
    tmp_path: Path, draw_day: Callable[..., Day], colour_model: str, context: dict[str, Any], size: str
) -> None:
    draw_day()
    with pytest.raises(AirflowFailException, match="quarantine_copy_bytes: expected a"):
        run_day(tmp_path, colour_model, context, {"quarantine_copy_bytes": size})
