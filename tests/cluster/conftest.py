# SPDX-License-Identifier: Apache-2.0
"""The home of the integration tests, for the reference DAG on a cluster."""

from __future__ import annotations

from tests.integration.conftest import home

__all__ = ["home"]
