# SPDX-License-Identifier: Apache-2.0
"""Processes that work on one store: ``python -m tests.model.store.processes <root> <role> <own name> <file> <moves>``.

Each prints one JSON object when it ends: what it did. One that sees something that must not be seen ends with an error.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.claims import VersionLeavingError
from airflow_onnx_provider.model.store.retention import Keep, collect
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from tests.model.store.versions import add_version, make_version

NAME = "colours"


def writer(store: ModelStore, own: str, stop: Path, moves: int) -> dict[str, Any]:
    """Makes versions and promotes them; each third time rolls back, if what was before is still there."""
    aliases, made, refused = Aliases(store, NAME), [], 0
    while len(made) < moves:
        by = f"{own}-{len(made)}"
        try:
            if (len(made) + refused) % 3 == 2:
                made.append(aliases.rollback("production", by=by).move.by)
            else:
                made.append(aliases.point("production", add_version(store, by), by=by).move.by)
        except (VersionLeavingError, BadInputError):
            refused += 1  # the collection was faster than the name: nothing was moved, and another move is tried
    return {"made": made, "refused": refused}


def reader(store: ModelStore, own: str, stop: Path, moves: int) -> dict[str, Any]:
    """Loads what the alias names, over and over; that it is whole is what this process is about."""
    seen: list[str] = []
    while not stop.exists() or not seen:
        with store.local(f"{store.root}/{NAME}@production") as folder:
            manifest = ModelManifest.read(folder)
            manifest.verify_files(folder)
            assert {path.name for path in folder.iterdir()} >= {MODEL_NAME, "golden", "manifest.json"}
        seen.append(manifest.version)
    return {"reads": len(seen), "versions": sorted(set(seen))}


def collector(store: ModelStore, own: str, stop: Path, moves: int) -> dict[str, Any]:
    """Removes all that nothing names, as soon as nothing names it."""
    removed: list[str] = []
    while not stop.exists():
        removed += collect(store, NAME, Keep(last=0, moves=1, days=0)).removed
    return {"removed": removed}


def adder(store: ModelStore, own: str, stop: Path, moves: int) -> dict[str, Any]:
    """Adds a version as soon as it is told to, and records something of its own about it."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_version(Path(folder), "the same for all")
        while not stop.exists():
            time.sleep(0.005)
        address = store.add(Path(folder), manifest)
        for number in range(5):
            store.record(address, lambda known, n=number: _checked(known, f"{own}-{n}"))  # type: ignore[misc]
    return {"address": address}


def both(store: ModelStore, own: str, stop: Path, moves: int) -> dict[str, Any]:
    """Adds and then writes: an Airflow worker with an object store takes seconds to start."""
    return adder(store, own, stop, moves) | writer(store, own, stop, moves)


def _checked(manifest: ModelManifest, what: str) -> ModelManifest:
    return replace(manifest, checks={**manifest.checks, what: True})


_started: list[subprocess.Popen[bytes]] = []


def start(root: str, role: str, own: str, file: Path, moves: int = 12) -> subprocess.Popen[bytes]:
    """One such process, which has this one's connections."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.model.store.processes", root, role, own, str(file), str(moves)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    _started.append(process)
    return process


def end_all() -> None:
    """End those that a test which failed has left at work."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def ended(process: subprocess.Popen) -> dict[str, Any]:
    """What it said at its end."""
    said, errors = process.communicate(timeout=300)  # on a busy machine
    assert process.returncode == 0, errors.decode()[-3000:]
    result: dict[str, Any] = json.loads(said.decode().splitlines()[-1])
    return result


def main() -> None:
    root, role, own, stop, moves = sys.argv[1:]
    if "://" in root:
        from airflow_onnx_provider.hooks.model_store import store_of

        store = store_of(f"{root}/{NAME}/000000000000")
    else:
        store = ModelStore(Path(root))
    roles = {"writer": writer, "reader": reader, "collector": collector, "adder": adder, "both": both}
    print(json.dumps(roles[role](store, own, Path(stop), int(moves))))


if __name__ == "__main__":
    main()
