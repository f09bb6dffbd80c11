# SPDX-License-Identifier: Apache-2.0
"""A Spark session in the test's own process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def local_spark(folder: Path, cores: int, settings: Mapping[str, str] | None = None) -> Iterator[Any]:
    """A Spark on this machine; its workers find this repository, and its JVM is gone afterwards.

    :param folder: for its scratch files
    :param cores: which it uses
    :param settings: further Spark properties
    """
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    given = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        **(settings or {}),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        session = SparkSession.builder.master(f"local[{cores}]").appName("tests").config(map=given).getOrCreate()
    gateway = SparkContext._gateway
    yield session
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(timeout=30)
    SparkContext._gateway = SparkContext._jvm = None
