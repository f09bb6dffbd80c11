# SPDX-License-Identifier: Apache-2.0
"""Airflow hooks and their connections."""
