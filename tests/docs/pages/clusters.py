# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  names come from the page and go to it
import os
from pathlib import Path

import boto3
from airflow.sdk import ObjectStoragePath
from moto.server import ThreadedMotoServer

from airflow_onnx_provider.runtime.profile import profile_named
from airflow_onnx_provider.spark.submission import ExecutorEnvironment, prepare
from tests.runtime.tiny import write_version
from tests.spark.test_kubernetes import HAND_SET, PLAN, SETTINGS

# Moto's server stands in for S3.
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
os.environ |= {
    "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
boto3.client("s3").create_bucket(Bucket="staging")
work = Path("data")
write_version(work / "version")
submission = prepare(
    work, SETTINGS, model_folder=work / "version", master="k8s://https://k:6443", deploy_mode="cluster",
    environment=ExecutorEnvironment(image="repo/onnx:1"), plan_conf=PLAN, hand_set=HAND_SET,
)  # fmt: skip


def after() -> None:
    server.stop()
