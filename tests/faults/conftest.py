# SPDX-License-Identifier: Apache-2.0
"""A home for a catalogue and its predictions, the connection to the cluster, and an end for every driver."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.standalone import StandaloneCluster, command_line, marked
from tests.conftest import set_connection

MARK = "FAULTS_TEST"


@pytest.fixture
def home(tmp_path: Path, cluster: StandaloneCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder; `spark_default` is the cluster. Nothing that the test started may be left 10 s after it."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    set_connection(monkeypatch, "spark_default", cluster.connection)
    yield tmp_path
    _, left = psutil.wait_procs(marked(MARK, mark), timeout=10)
    assert not left, f"still running: {[command_line(one)[:4] for one in left]}"
