# SPDX-License-Identifier: Apache-2.0
import pyarrow.parquet as pq

from tests.docs.around import DATA, add_connections, add_day_of_the_start

add_day_of_the_start()
add_connections()


def after() -> None:
    labels = pq.read_table(DATA / "by_torch" / "ds=2026-01-31", columns=["key", "label"]).to_pylist()
    assert len(labels) == 40
    assert {row["label"] for row in labels} == {"blue", "green", "red"}
    customers = pq.read_table(DATA / "churn").to_pylist()
    assert len(customers) == 500
    assert {row["outcome"] for row in customers} == {"predicted"}
    assert {row["label"] for row in customers} == {"leaves", "stays"}
