# SPDX-License-Identifier: Apache-2.0
"""What the planner consists of; its door is :func:`airflow_onnx_provider.spark.plan.plan`."""
