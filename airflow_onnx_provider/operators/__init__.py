# SPDX-License-Identifier: Apache-2.0
"""Airflow operators: each renders its templates, calls a floor below and returns a small dict of plain JSON."""
