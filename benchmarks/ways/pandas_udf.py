# SPDX-License-Identifier: Apache-2.0
"""What is written first: a pandas_udf that opens a session for each batch, with ONNX Runtime's defaults."""

from __future__ import annotations

from typing import Any

from benchmarks.datasets import FEATURES
from benchmarks.ways import Way
from benchmarks.ways.spark import SparkWay
from benchmarks.works import Task


def way(_option: str) -> Way:
    return SparkWay(scored)


def scored(frame: Any, task: Task) -> Any:
    import numpy as np
    import pandas as pd
    from pyspark.sql.functions import pandas_udf

    from airflow_onnx_provider.runtime.decode import decode_image
    from benchmarks.networks import PREPROCESSING

    model, pictures = f"{task.model}/model.onnx", task.kind == "images"

    def predict(*columns: pd.Series) -> pd.DataFrame:
        import onnxruntime as ort

        session = ort.InferenceSession(model)
        if pictures:
            batch = np.stack([decode_image(data, PREPROCESSING) for data in columns[0]])
        else:
            batch = np.stack(columns, axis=1)
        (scores,) = session.run(None, {session.get_inputs()[0].name: batch})
        return pd.DataFrame({"label": scores.argmax(axis=1), "score": scores.max(axis=1)})

    # Spark tells the kind of a pandas_udf by its annotations, which must be types and not their names.
    predict.__annotations__ = {"columns": pd.Series, "return": pd.DataFrame}
    udf = pandas_udf(predict, returnType="label long, score float")
    found = udf(*(["image"] if pictures else FEATURES))
    return frame.select("key", found.alias("found")).select("key", "found.*")
