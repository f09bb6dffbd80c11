# SPDX-License-Identifier: Apache-2.0
import pyarrow.parquet as pq

from tests.docs.around import DATA


def after() -> None:
    labels = pq.read_table(DATA / "predictions" / "ds=2026-01-31", columns=["key", "label"]).to_pylist()
    assert len(labels) == 40
    assert {row["label"] for row in labels} == {"blue", "green", "red"}
    assert list((DATA / "predictions" / "_reports").glob("*.html"))
