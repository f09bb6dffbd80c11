# SPDX-License-Identifier: Apache-2.0
"""What a user does without the extra that it needs; run by a bare environment's own Python.

``python features.py FOLDER MODEL NAME…`` prints a JSON object: feature to class and words of what it ended with.
Nothing but the package and its core dependencies is imported here.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Feature:
    """:param extra: what it needs
    :param use: does it, given a scratch folder and the address of a validated model version
    """

    extra: str
    use: Callable[[Path, str], Any]


def convert(framework: str, file: str) -> Callable[[Path, str], Any]:
    """The part of the conversion that runs in a child process, here without one."""

    def use(work: Path, model: str) -> Any:
        from airflow_onnx_provider.model.convert import convert_in_child
        from airflow_onnx_provider.model.source import SourceModel

        known = Path(model) / file
        (work / file).write_bytes(known.read_bytes() if known.exists() else b"missed before this is read")
        source = SourceModel(str(work / file), framework)
        return convert_in_child({"source": source.to_dict(), "folder": str(work), "embeddings": [], "opset": None})

    return use


def optimize(work: Path, model: str) -> Any:
    from airflow_onnx_provider.model.evidence.parity import ParityLimits
    from airflow_onnx_provider.model.optimize import optimize
    from airflow_onnx_provider.model.stage import Stage
    from airflow_onnx_provider.model.store.versions import ModelStore

    store, stage = ModelStore(Path(model).parent.parent), Stage(logging.getLogger())
    return optimize(model, inputs=rows(work), steps=["simplify"], limits=ParityLimits(), store=store, stage=stage)


def quantize(work: Path, model: str) -> Any:
    from airflow_onnx_provider.model.quantization.limits import QuantizeLimits
    from airflow_onnx_provider.model.quantize import quantize
    from airflow_onnx_provider.model.stage import Stage
    from airflow_onnx_provider.model.store.versions import ModelStore

    store, stage = ModelStore(Path(model).parent.parent), Stage(logging.getLogger())
    limits = QuantizeLimits(mode="float16")
    return quantize(model, calibration=rows(work), labelled=labelled(work), limits=limits, store=store, stage=stage)


def rows(work: Path) -> Path:
    import numpy as np

    np.save(work / "rows.npy", np.zeros((4, 16, 16, 3), np.uint8))
    return work / "rows.npy"


def labelled(work: Path) -> Path:
    from PIL import Image

    folder = work / "labelled"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (210, 20, 20)).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{number}.png,red\n" for number in range(4)))
    return folder


def score_rows(work: Path, model: str) -> Any:
    """What a Spark task of ``score`` does first."""
    from airflow_onnx_provider.runtime.manifest import ModelManifest
    from airflow_onnx_provider.runtime.session import load_model

    return load_model(Path(model), ModelManifest.read(Path(model)).digest)


def dicom(work: Path, model: str) -> Any:
    from airflow_onnx_provider.runtime.decode import decode_image
    from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

    return decode_image(bytes(128) + b"DICM", ImagePreprocessing(16, 16))


def mlflow(work: Path, model: str) -> Any:
    from airflow_onnx_provider.model.mlflow_client import client_of

    return client_of("http://127.0.0.1:9")


def s3(work: Path, model: str) -> Any:
    from airflow_onnx_provider.hooks.model_store import open_version

    return open_version("s3://bucket/models/m@production")


def report(work: Path, model: str) -> Any:
    from airflow_onnx_provider.quality.reports.plots import labels_plot
    from airflow_onnx_provider.quality.reports.shares import LabelShare

    return labels_plot([LabelShare("shoe", 2, 1.0, 1.0)], compared=True)


def prometheus(work: Path, model: str) -> Any:
    from airflow_onnx_provider.quality.exposition import registry_of

    return registry_of(None, None, "catalog", None)  # type: ignore[arg-type]  # the extra is missed before


def submit(work: Path, model: str) -> Any:
    from airflow_onnx_provider.hooks.spark_submit import find_spark_submit

    os.environ["PATH"] = "/nowhere"
    return find_spark_submit()


def score(work: Path, model: str) -> Any:
    from airflow_onnx_provider.spark.score import score

    sys.modules["pyspark"] = None  # type: ignore[assignment]  # the Spark provider brings pyspark-client, so it is hidden
    return score(None, model, key="key", input="image")


def kubernetes_submission(work: Path, model: str) -> Any:
    os.environ["AIRFLOW_CONN_SPARK_K8S"] = '{"conn_type": "spark", "host": "k8s://https://api:6443"}'
    from airflow_onnx_provider.hooks.spark_submit import OnnxSparkSubmitHook

    return OnnxSparkSubmitHook(conn_id="spark_k8s")


def kubernetes_capacity(work: Path, model: str) -> Any:
    from airflow_onnx_provider.hooks.capacity.access import Access
    from airflow_onnx_provider.hooks.capacity.kubernetes import capacity

    return capacity("k8s://https://api:6443", Access("spark_k8s"), None)


WITH_NOTHING = {
    "convert an ONNX model": Feature("cpu", convert("onnx", "model.onnx")),
    "score rows": Feature("cpu", score_rows),
    "convert a Keras model": Feature("tensorflow", convert("tensorflow", "m.keras")),
    "convert PyTorch weights": Feature("torch", convert("torch", "m.pt")),
    "convert a .skops file": Feature("sklearn", convert("sklearn", "m.skops")),
    "convert a booster of XGBoost": Feature("boosting", convert("xgboost", "m.json")),
    "convert a booster of LightGBM": Feature("boosting", convert("lightgbm", "m.txt")),
    "ask an MLflow server": Feature("mlflow", mlflow),
    "open a store in S3": Feature("s3", s3),
    "write a run report": Feature("report", report),
    "tell Prometheus": Feature("prometheus", prometheus),
    "submit to Kubernetes": Feature("kubernetes", kubernetes_submission),
    "ask Kubernetes what is free": Feature("kubernetes", kubernetes_capacity),
    "decode a DICOM picture": Feature("dicom", dicom),
    "score": Feature("spark", score),
    "submit": Feature("spark", submit),
}

WITH_ONNXRUNTIME = {
    "optimize: simplify": Feature("optimize", optimize),
    "quantize to float16": Feature("optimize", quantize),
}


def ended(feature: Feature, work: Path, model: str) -> dict[str, str]:
    """What a feature ended with."""
    work.mkdir(parents=True)
    try:
        feature.use(work, model)
    except Exception as error:
        return {"class": type(error).__name__, "said": str(error)}
    return {"class": "", "said": "it worked"}


if __name__ == "__main__":
    folder, model = Path(sys.argv[1]), sys.argv[2]
    chosen = {name: {**WITH_NOTHING, **WITH_ONNXRUNTIME}[name] for name in sys.argv[3:]}
    print(json.dumps({name: ended(one, folder / name.replace(" ", "-"), model) for name, one in chosen.items()}))
