# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F821  names come from the page and go to it
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_onnx_provider.model.version import write_version
from tests.docs.around import DATA, add_catalogue_table, add_classifier, add_pictures, start_spark
from tests.runtime.tiny import write_onnx

SUMS = """<ir_version: 10, opset_import: ["" : 18]>
churn (float[batch, 100] features) => (float[batch, 2] scores) <int64[1] axis = {1}>
{ sum = ReduceMean (features, axis)  no = Neg (sum)  both = Concat <axis = 1> (no, sum)  scores = Softmax (both) }"""

add_classifier()
add_catalogue_table(DATA / "pictures")
add_pictures(DATA / "samples", rows=4)
rows = np.random.default_rng(0).normal(size=(200, 100)).astype("float32")
churn = write_onnx(DATA / "source" / "churn.onnx", SUMS)
write_version(churn, DATA / "models" / "churn" / "0b9f3c2a77d1", name="churn", golden={"features": rows[:3]})
(DATA / "customers").mkdir()
customers = {"id": np.arange(200), **{f"f{number}": rows[:, number] for number in range(100)}}
pq.write_table(pa.table(customers), DATA / "customers" / "part-0.parquet")
spark = start_spark()


def after() -> None:
    assert predictions.where("outcome = 'predicted'").count() == 24
    assert score_parquet(
        spark, files, str(DATA / "models/churn/0b9f3c2a77d1"), key="id", input=features, partitions=8
    ).where("outcome = 'predicted'").count() == 200  # fmt: skip
    assert ModelStore(DATA / "models").manifest(address).speed
    spark.stop()
