# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401, F821  names come from the page and go to it
import json
import os

from airflow_onnx_provider import OnnxConvertOperator, OnnxQuantizeOperator
from tests.docs.around import DATA, enter_dag, require_sound

page = enter_dag()
quantize = OnnxQuantizeOperator(task_id="quantize", model="/data/models/churn/0b9f3c2a77d1", mode="dynamic")
store = {"conn_type": "onnx_model_store", "extra": {"root": str(DATA / "models")}}
os.environ["AIRFLOW_CONN_ONNX_MODEL_STORE_DEFAULT"] = json.dumps(store)
(DATA / "models").mkdir(parents=True)
(DATA / "predictions" / "_runs").mkdir(parents=True)


def after() -> None:
    require_sound(page, "convert", "promote", "new_model", "back")
    assert collect_models.function("onnx_model_store_default", str(DATA / "predictions")) == []
