# SPDX-License-Identifier: Apache-2.0
"""A picture that kills the process that decodes it costs its own row and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import set_connection
from tests.faults.books import audit
from tests.faults.jobs import DAY, draw_quick_day, publish, running

pytestmark = [pytest.mark.spark, pytest.mark.faults]

CRASH = "import ctypes\n\nctypes.string_at(0)\n"
"""Reads at the address 0, which the system answers with SIGSEGV, as it would a bug in a decoder's native code."""


@pytest.fixture
def brittle_decoder(tmp_path: Path) -> dict[str, str]:
    """Spark properties that give the workers, and not the driver, a stand-in for pydicom that crashes at first use."""
    package = tmp_path / "brittle" / "pydicom"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CRASH)
    return {"spark.executorEnv.PYTHONPATH": str(package.parent)}


@pytest.fixture(params=["cluster", "local[2]"])
def place(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home, with `spark_default` on the cluster or on this machine."""
    if request.param != "cluster":
        set_connection(monkeypatch, "spark_default", {"conn_type": "spark", "host": request.param})
    return home


def test_a_picture_that_crashes_its_decoder_is_quarantined_and_all_others_are_predicted(
    place: Path, colour_model: str, context: dict[str, Any], brittle_decoder: dict[str, str]
) -> None:
    keys = [*draw_quick_day(place / "catalog", rows=400), "poison.dcm"]
    (place / "catalog" / f"ds={DAY}" / "poison.dcm").write_bytes(bytes(128) + b"DICM" + bytes(64))

    with running(place, colour_model, context, conf=brittle_decoder) as job:
        result = job.finish()

    assert (result["rows_in"], result["predicted"], result["quarantined"]) == (401, 400, 1)
    publish(result, context)
    assert audit(job.output, DAY, keys, quarantined=["poison.dcm"]) == result["run"]
    (row,) = pq.read_table(job.output / "_quarantine" / f"ds={DAY}").to_pylist()
    assert row["reason"] == "native_crash"
    assert "SIGSEGV" in row["error"]
