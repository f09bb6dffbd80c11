# SPDX-License-Identifier: Apache-2.0
"""What pages take for granted: a DAG around their tasks, models in a store, pictures, a Spark. Used by `pages/`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATA = Path("data").absolute()


def enter_dag() -> Any:
    """All tasks that the page's blocks make belong to this DAG."""
    from airflow.sdk import DAG, Param

    return DAG("page", schedule=None, params={"partition": Param("2026-01-31"), "reason": Param("none")}).__enter__()


def require_sound(dag: Any, *tasks: str) -> None:
    """The DAG has these tasks, and Airflow can store it."""
    from airflow.serialization.serialized_objects import DagSerialization

    dag.__exit__(None, None, None)
    assert set(tasks) <= set(dag.task_ids), dag.task_ids
    assert DagSerialization.to_dict(dag)["dag"]["dag_id"] == "page"


def tasks(*names: str) -> tuple[Any, ...]:
    """Stages of a day that the page's blocks come after."""
    from airflow_onnx_provider import OnnxPublishOperator, OnnxSparkInferenceOperator

    places = {"input_path": "/data/catalog", "output_path": "/data/predictions"}
    infer = OnnxSparkInferenceOperator(task_id="infer", model="/data/models/classifier@production", **places)
    return tuple(
        infer if name == "infer" else OnnxPublishOperator(task_id=name, predictions=infer.output) for name in names
    )


def picture(number: int) -> bytes:
    from tests.runtime.tiny import plain_picture

    return plain_picture(((200, 30, 30), (30, 200, 30), (30, 30, 200))[number % 3], (24, 16))


def add_classifier(version: str = "5ca5b1d6c2f0") -> None:
    """A model that names a picture's colour, ``classifier@production`` in the store below ``data/models``.

    Also there under the version that pages show, which is not its digest.
    """
    import numpy as np

    from airflow_onnx_provider.model.store.aliases import Aliases
    from airflow_onnx_provider.model.store.versions import ModelStore
    from airflow_onnx_provider.model.version import write_version
    from airflow_onnx_provider.runtime.decode import decode_image
    from tests.runtime.tiny import LABELS, PREPROCESSING, write_onnx

    pictures = [picture(number) for number in range(3)]
    golden = np.stack([decode_image(encoded, PREPROCESSING) for encoded in pictures])
    source = write_onnx(DATA / "source" / "classifier.onnx")
    folder = DATA / "models" / "classifier" / version
    manifest = write_version(
        source, folder, name="classifier", golden={"image": golden}, pictures=pictures,
        preprocessing=PREPROCESSING, labels=LABELS,
    )  # fmt: skip
    store = ModelStore(DATA / "models")
    store.add(folder, manifest)
    Aliases(store, "classifier").point("production", manifest.version, by="tests")


def add_pictures(folder: Path, rows: int = 24) -> None:
    """PNG files of 24 x 16 pixels."""
    folder.mkdir(parents=True)
    for number in range(rows):
        (folder / f"{number:04d}.png").write_bytes(picture(number))


def add_catalogue_table(path: Path, rows: int = 24) -> None:
    """Parquet with ``sku`` and ``image``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.mkdir(parents=True)
    table = {"sku": [f"sku-{number}" for number in range(rows)], "image": [picture(number) for number in range(rows)]}
    pq.write_table(pa.table(table), path / "part-0.parquet")


def start_spark() -> Any:
    """A Spark on two cores; it ends with the page's Python."""
    from pyspark.sql import SparkSession

    settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.memory": "1g"}
    return SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()


def add_day_of_the_start() -> None:
    """What the page for newcomers draws."""
    from tests.docs.page import REPOSITORY, blocks

    start = blocks((REPOSITORY / "docs" / "start.md").read_text())
    drawn = next(block for block in start if block.file == "make_pictures.py")
    exec(drawn.text, {})  # noqa: S102


def add_connections() -> None:
    """`spark_default` and `onnx_model_store_default`, as the README adds them."""
    import json

    from airflow import settings
    from airflow.models import Connection

    with settings.Session() as session:
        session.add(Connection("spark_default", "spark", host="local[2]"))
        extra = json.dumps({"root": str(DATA / "models")})
        session.add(Connection("onnx_model_store_default", "onnx_model_store", extra=extra))
        session.commit()
