# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: F401  names come from the page and go to it
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_onnx_provider import OnnxMetricsOperator, OnnxRunNotifier
from tests.docs.around import enter_dag, require_sound, tasks

page = enter_dag()
infer, publish = tasks("infer", "publish")
chat = SmtpNotifier(to="team@example.com", html_content="{{ onnx.text }}")


def after() -> None:
    require_sound(page, "metrics")
