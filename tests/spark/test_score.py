# SPDX-License-Identifier: Apache-2.0
"""Any DataFrame, scored on a real local Spark."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.spark.score import BOUNDS, score, score_parquet
from tests.runtime.tiny import (
    FEATURES,
    LABELS,
    OFFERS,
    TEXTS,
    TOKENS,
    VOCABULARY,
    manifest_of,
    plain_picture,
    version_of,
    write_json,
    write_onnx,
    write_version,
)
from tests.spark.session import local_spark

pytestmark = pytest.mark.spark

COLOURS = {"red": (250, 0, 0), "green": (0, 240, 0), "blue": (0, 0, 230)}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = {
        "spark.driver.memory": "1g",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "America/New_York",
    }
    with local_spark(tmp_path_factory.mktemp("spark"), 2, settings) as session:
        yield session


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    write_version(folder)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    version_of(folder, FEATURES, {"features": np.eye(3, dtype=np.float32)}, labels=("a", "b", "c"))
    return folder


@pytest.fixture(scope="module")
def offers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offers")
    golden = {"price": np.float32([[1, 2]]), "shop": np.array(["north"], object)}
    version_of(folder, OFFERS, golden, labels=("buy", "wait"))
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    version_of(folder, TEXTS, {"ids": np.array([[1, 2]]), "mask": np.array([[1, 1]])}, preprocessing=TOKENS)
    return folder


@pytest.fixture(scope="module")
def pictures(spark: Any) -> Any:
    """Each colour, then what is broken."""
    data = [*((name, plain_picture(colour)) for name, colour in COLOURS.items()), ("broken", b"<html>"), ("null", None)]
    return spark.createDataFrame(data, "name string, picture binary")


def test_pictures_as_bytes(spark: Any, pictures: Any, colours: Path) -> None:
    scored = score(pictures, colours, key="name", input="picture")
    rows = {row.name: row for row in scored.collect()}

    assert scored.columns == ["name", "outcome", "label", "score", "stage", "reason", "error"]
    assert {name: rows[name].label for name in COLOURS} == {name: name for name in COLOURS}
    assert {row.outcome for name, row in rows.items() if name in COLOURS} == {"predicted"}
    for name, reason in {"broken": ("decode", "not_an_image"), "null": ("read", "null_input")}.items():
        row = rows[name]
        assert (row.outcome, row.stage, row.reason, row.label, row.score) == ("quarantined", *reason, None, None)
        assert row.error
    assert {name: spark.conf.get(name) for name in BOUNDS} == BOUNDS


def test_pictures_as_files(spark: Any, colours: Path, tmp_path: Path) -> None:
    for name, colour in COLOURS.items():
        (tmp_path / f"{name}.png").write_bytes(plain_picture(colour))
    data = [(name, str(tmp_path / f"{name}.png")) for name in [*COLOURS, "missing"]]
    scored = score(spark.createDataFrame(data, "name string, file string"), colours, key="name", input="file")

    assert {row.name: (row.label, row.reason) for row in scored.collect()} == {
        **{name: (name, None) for name in COLOURS},
        "missing": (None, "unreadable"),
    }


def test_numbers_and_texts_into_several_inputs(spark: Any, offers: Path) -> None:
    data = [(1, 2.0, 1, "north"), (2, 2.0, 1, "south"), (3, 2.0, 1, None), (4, 1.0, 5, "north")]
    frame = spark.createDataFrame(data, "id int, price double, per_cent short, shop string")
    scored = score(
        frame, offers, key="id", input={"price": ["price", "per_cent"], "shop": "shop"}, raw=["said"], top_k=2
    )

    assert [(row.id, row.label, row.said, row.reason) for row in scored.orderBy("id").collect()] == [
        (1, "buy", "north", None),
        (2, "wait", "south", None),
        (3, None, None, "null_input"),
        (4, "wait", "north", None),
    ]


def test_the_best_classes_and_whole_outputs(spark: Any, features: Path) -> None:
    frame = spark.createDataFrame([(1, [1.0, 0.0, 0.0]), (2, [1.0])], "id int, f array<float>")
    scored = score(frame, features, key="id", input="f", top_k=2, raw=["both", "best"])
    good, bad = scored.orderBy("id").collect()

    assert dict(scored.dtypes) | {"top_k": "", "both": ""} == {
        "id": "int",
        "outcome": "string",
        "label": "string",
        "score": "float",
        "top_k": "",
        "both": "",
        "best": "bigint",
        "stage": "string",
        "reason": "string",
        "error": "string",
    }
    assert [best.label for best in good.top_k] == ["a", "c"]
    assert (good.label, good.best, good.top_k[0].score) == ("a", 0, good.score)
    assert good.both[0] == [2.0, -1.0, 0.5]
    assert good.both[1][0] == good.score
    assert (bad.reason, bad.top_k, bad.both, bad.best) == ("wrong_shape", None, None, None)


def test_token_ids(spark: Any, texts: Path) -> None:
    data = [(1, [1, 2, 3]), (2, []), (3, [VOCABULARY]), (4, [1] * 13), (5, None), (6, [7])]
    frame = spark.createDataFrame(data, "id int, t array<int>").coalesce(1)
    scored = score(frame, texts, key="id", input="t", profile=ExecutionProfile(token_budget=64))

    assert [(row.id, row.outcome, row.reason) for row in scored.collect()] == [
        (1, "predicted", None),
        (2, "quarantined", "wrong_length"),
        (3, "quarantined", "model_error"),
        (4, "quarantined", "wrong_length"),
        (5, "quarantined", "null_input"),
        (6, "predicted", None),
    ]


@pytest.mark.parametrize(("rows", "partitions"), [(0, 1), (1, 1), (3, 8)], ids=["none", "one", "empty partitions"])
def test_few_rows(spark: Any, features: Path, rows: int, partitions: int) -> None:
    data = [(number, [float(number), 0.0, 1.0]) for number in range(rows)]
    frame = spark.createDataFrame(data, "id int, f array<float>").repartition(partitions)

    assert [row.id for row in score(frame, features, key="id", input="f").orderBy("id").collect()] == list(range(rows))


def test_many_rows_each_once(spark: Any, features: Path) -> None:
    from pyspark.sql.functions import array, col, lit

    frame = spark.range(0, 5_000, 1, 3).withColumn("f", array(col("id").cast("float"), lit(2500.0), lit(0.0)))
    found = score(frame, features, key="id", input="f").select("id", "label").collect()

    assert sorted(row.id for row in found) == list(range(5_000))
    assert all(row.label == ("a" if row.id > 2500 else "b") for row in found if row.id != 2500)


def test_any_type_can_be_a_key(spark: Any, features: Path) -> None:
    """A timestamp comes to Python in the session's time zone, whatever the schema says."""
    day = datetime(2026, 1, 1, tzinfo=UTC)
    schema = (
        "at timestamp, noon timestamp_ntz, of struct<shop: string, ids: array<int>>, price decimal(9,2), f array<float>"
    )
    frame = spark.createDataFrame([(day, datetime(2026, 1, 1, 12), ("north", [1, 2]), None, [1.0, 0.0, 0.0])], schema)
    scored = score(frame, features, key=["at", "noon", "of", "price"], input="f")

    assert scored.dtypes[:4] == frame.dtypes[:4]
    assert [row[:4] for row in scored.collect()] == [row[:4] for row in frame.collect()]


def test_a_column_may_be_key_and_input(spark: Any, offers: Path) -> None:
    frame = spark.createDataFrame([("north", [2.0, 1.0])], "shop string, price array<float>")
    (row,) = score(frame, offers, key="shop", input={"shop": "shop", "price": "price"}).collect()

    assert (row.shop, row.label) == ("north", "buy")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"key": "nobody"}, "there is no column nobody; the data has id, f, label"),
        ({"input": "nothing"}, "there is no column nothing; the data has id, f, label"),
        ({"input": "id"}, r"the column id is bigint, but the input features: float \[batch, 3\] takes"),
        ({"input": {"other": "f"}}, r"has the inputs \['features'\], but columns for \['other'\]"),
        ({"key": "label"}, "would have two columns label"),
        ({"top_k": 9}, "top_k must lie between 0 and its 3 classes: 9"),
        ({"raw": ["nothing"]}, r"there is no output \['nothing'\]"),
        ({"profile": "fast"}, "'fast' is not one of cpu-throughput"),
        ({"model": "/nowhere"}, "/nowhere is no model version"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    spark: Any, features: Path, arguments: dict[str, Any], message: str
) -> None:
    frame = spark.createDataFrame([(1, [1.0, 2.0, 3.0], "x")], "id bigint, f array<float>, label string")

    with pytest.raises(BadInputError, match=message):
        score(frame, **({"model": features, "key": "id", "input": "f"} | arguments))


def test_a_model_that_was_never_validated_is_refused_before_anything_runs(
    spark: Any, pictures: Any, tmp_path: Path
) -> None:
    write_onnx(tmp_path / "model.onnx")
    write_json(tmp_path / MANIFEST_NAME, manifest_of(tmp_path, labels=LABELS).to_dict())

    with pytest.raises(BadInputError, match="was never validated"):
        score(pictures, tmp_path, key="name", input="picture")


def test_a_model_that_is_another_one_by_the_time_it_runs_ends_the_job(
    spark: Any, pictures: Any, tmp_path: Path
) -> None:
    write_version(tmp_path)
    scored = score(pictures, tmp_path, key="name", input="picture", profile=ExecutionProfile(threads=2))
    write_version(tmp_path, labels=("a", "b", "c"))

    with pytest.raises(Exception, match="BadInputError: expected the model"):
        scored.collect()


def test_parquet_files_that_the_workers_read_themselves(spark: Any, features: Path, tmp_path: Path) -> None:
    for number in range(2):
        ids = range(100 * number, 100 * number + 100)
        table = {
            "id": list(ids),
            "a": [float(i) for i in ids],
            "b": [50.0] * 100,
            "c": [0.0] * 100,
            "more": ["x"] * 100,
        }
        pq.write_table(pa.table(table), tmp_path / f"{number}.parquet", row_group_size=30)
    given = {"key": "id", "input": ["a", "b", "c"]}
    files = sorted(tmp_path.glob("*.parquet"))
    scored = score_parquet(spark, files, features, partitions=3, **given)

    by_spark = score(spark.read.parquet(*map(str, files)), features, **given)
    assert sorted(scored.collect()) == sorted(by_spark.collect())
