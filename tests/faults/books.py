# SPDX-License-Identifier: Apache-2.0
"""Do the books of a published day balance? Counted from the Parquet files themselves, as a reader would see them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq

from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout


def audit(output: Path, day: str, keys: Collection[str], quarantined: Collection[str] = ()) -> str:
    """Assert that the published day is one whole run over exactly these keys; gives the run's name.

    No row is lost or doubled, the books balance, and nothing staged is left behind.

    :param keys: of all the day's rows
    :param quarantined: those of them that must be in quarantine
    """
    layout = OutputLayout(output)
    run = audit_version(layout.published(day), layout.quarantine(day), keys, quarantined)
    assert staged(output) == [], "staging is empty after a publish"
    assert not layout.journal(day).exists(), "no publish is half done"
    for version in history(output, day):
        audit_version(version / "predictions", version / "quarantine", keys)
    return run


def audit_version(predictions: Path, quarantine: Path, keys: Collection[str], quarantined: Collection[str] = ()) -> str:
    """The same for one version of a day, published or in the history."""
    manifest = json.loads((predictions / RUN_FILE).read_bytes())
    predicted, refused = read_keys(predictions), read_keys(quarantine)
    found = predicted + refused
    assert len(found) == len(set(found)), f"doubled: {sorted(key for key in set(found) if found.count(key) > 1)[:5]}"
    assert set(found) == set(keys), (
        f"lost {sorted(set(keys) - set(found))[:5]}, new {sorted(set(found) - set(keys))[:5]}"
    )
    assert manifest["state"] == "finished"
    assert manifest["rows_in"] == len(keys) == len(predicted) + len(refused)
    assert manifest["predicted"] == len(predicted)
    assert sum(manifest["quarantined"].values()) == len(refused)
    assert not quarantined or set(refused) == set(quarantined)
    return str(manifest["run"])


def read_keys(folder: Path) -> list[str]:
    return [key for file in folder.glob("*.parquet") for key in pq.read_table(file, columns=["key"])["key"].to_pylist()]


def history(output: Path, day: str) -> list[Path]:
    """Versions of the day that were replaced."""
    return sorted((output / "_history" / f"ds={day}").glob("*"))


def staged(output: Path) -> list[str]:
    """Names of runs that have something in staging."""
    return sorted(path.name for path in (output / "_staging").glob("*"))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def finished_runs(output: Path) -> list[str]:
    """Runs whose job came to its end and signed its manifest."""
    manifests = [json.loads(path.read_bytes()) for path in sorted((output / "_runs").glob("*.json"))]
    return [one["run"] for one in manifests if one["state"] == "finished"]
