# SPDX-License-Identifier: Apache-2.0
"""What each extra is for, as modules that can be imported once it is installed."""

from __future__ import annotations

EXTRAS = {
    "cpu": ("onnxruntime",),
    "gpu": ("onnxruntime",),
    "tensorflow": ("tensorflow", "keras", "tf2onnx", "h5py"),
    "torch": ("torch", "onnxscript"),
    "sklearn": ("sklearn", "skl2onnx", "skops.io", "joblib"),
    "boosting": ("xgboost", "lightgbm", "onnxmltools"),
    "optimize": ("onnxslim", "onnxconverter_common.float16", "onnx_ir"),
    "report": ("jinja2", "matplotlib.figure"),
    "prometheus": ("prometheus_client",),
    "openlineage": ("airflow.providers.openlineage.extractors",),
    "mlflow": ("mlflow",),
    "s3": ("airflow.providers.amazon.aws.fs.s3", "s3fs"),
    "spark": ("pyspark.sql", "py4j", "pandas"),
    "spark-4-1": ("pyspark.sql", "py4j", "pandas"),
    "spark-4-0": ("pyspark.sql", "py4j", "pandas"),
    "kubernetes": ("airflow.providers.cncf.kubernetes.kube_client", "kubernetes.client"),
    "dicom": ("pydicom.pixels",),
}
