# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F403, F405  names come from the page and go to it
from airflow_onnx_provider import *  # as in the page's DAG
from tests.docs.around import DATA, add_catalogue_table, add_classifier, enter_dag, require_sound, start_spark

page = enter_dag()
add_classifier()
add_catalogue_table(DATA / "pictures")
spark = start_spark()
df = spark.read.parquet(str(DATA / "pictures"))


def after() -> None:
    require_sound(page, "onnx_batch_inference.catalog", "onnx_batch_inference.publish")
    rows = predictions.collect()
    assert {row["outcome"] for row in rows} == {"predicted"}
    assert len(rows) == 24
    spark.stop()
