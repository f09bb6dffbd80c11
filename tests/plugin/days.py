# SPDX-License-Identifier: Apache-2.0
"""Two weeks of two DAGs, among them a day with a warning, a failed one and a job that broke; and two models."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import replace
from pathlib import Path

from sqlalchemy.orm import Session

from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.runtime.manifest import Golden, ModelManifest
from tests.plugin.airflow_records import CHECK, INFERENCE, PUBLISH, Records, Task, figures, leave_files, result

FIRST = dt.date(2026, 3, 2)
DAYS = tuple((FIRST + dt.timedelta(days=number)).isoformat() for number in range(14))
CATALOG, SECRET, HOSTILE = "catalog_image_classification", "price_tags", "<img src=x onerror=alert(1)>"
DRIFTS = (0.02, 0.04, 0.03, 0.05, 0.04, 0.06, 0.05, 0.08, 0.19, 0.06, 0.05, 0.31, 0.07, 0.05)
WARNED, FAILED, BROKEN = DAYS[8], DAYS[11], DAYS[12]
CORRUPT = DAYS[2]


def seed(session: Session, home: Path) -> None:
    """Fill Airflow's database, and folders below ``home``: ``predictions``, ``models``, ``elsewhere``."""
    records = Records(session)
    for dag in (CATALOG, SECRET, HOSTILE):
        records.add_dag(dag)
    models = home / "models"
    address = make_models(models)
    for day, drift in zip(DAYS, DRIFTS, strict=True):
        add_day(records, home / "predictions" / "catalog", CATALOG, day, drift=drift, model=address)
        add_day(records, home / "predictions" / "prices", SECRET, day, drift=drift / 4, model=address)
    (home / "predictions" / "catalog" / "_checks" / f"{run_of(CATALOG, CORRUPT)}.json").write_text(
        '{"format": 1, "run"'
    )
    strange = figures(f"{DAYS[0]}-strange-0badc0de", DAYS[0], home / "elsewhere", model=f"/models/{HOSTILE}/x")
    records.add_run(HOSTILE, [Task("infer", INFERENCE, strange)], DAYS[0])
    leave_files(home / "elsewhere", f"{DAYS[0]}-strange-0badc0de", DAYS[0])


def run_of(dag: str, day: str) -> str:
    return f"{day}-{dag.replace('_', '-')}-0123abcd"


def add_day(records: Records, output: Path, dag: str, day: str, *, drift: float, model: str) -> None:
    if (dag, day) == (CATALOG, BROKEN):
        records.add_run(dag, [Task("infer", INFERENCE, state="failed")], day)
        return
    number = DAYS.index(day)
    run = run_of(dag, day)
    rows = 118_000 + 977 * (number * 7 % 5)
    bad = 37 + number
    said = figures(run, day, output, model=model, rows_in=rows, predicted=rows - bad, quarantined=bad)
    said["images_per_second"], said["raw_share"] = 402.0 + 7 * (number % 4), 0.84 + 0.01 * (number % 4)
    said["carried"] = 52_310 if number % 3 == 1 else 0
    failed = drift > 0.2
    results = [result(value=drift, grey=0.15 < drift <= 0.2), result("quarantine_rate", bad / rows, 0.05)]
    leave_files(output, run, day, *results, published=not failed)
    verdict = "warned" if drift > 0.15 else "passed"
    check = {**said, "checks": [one.to_dict() for one in results], "verdict": verdict}
    tasks = [Task("infer", INFERENCE, said)]
    tasks += [Task("check", CHECK, state="failed")] if failed else [Task("check", CHECK, check)]
    tasks += [] if failed else [Task("publish", PUBLISH, {**said, "changed": True})]
    records.add_run(dag, tasks, day)


def make_models(root: Path) -> str:
    """Two models in a store; returns the address of the one in production."""
    names = [make_version(root, "products", variant) for variant in (None, "static")]
    make_version(root, "price_tags", None)
    Aliases(ModelStore(root), "products").point("candidate", names[1].rpartition("/")[2], by="a test")
    Aliases(ModelStore(root), "products").point("production", names[1].rpartition("/")[2], by="a test")
    (Path(names[1]) / "card.html").write_text("<!DOCTYPE html><title>card</title><h1>products</h1>")
    return names[1]


def make_version(root: Path, name: str, variant: str | None) -> str:
    """A version whose model is a few bytes; nobody runs it here."""
    import hashlib

    folder = root / ".made"
    folder.mkdir(parents=True)
    content = f"{name} {variant}".encode() * 1000
    (folder / "model.onnx").write_bytes(content)
    (folder / "golden.npz").write_bytes(b"rows")
    size = 25_800_000 if variant else 102_000_000
    original = {"variant": "original", "size_bytes": 102_000_000, "accuracy": 0.942, "speedup": 1.0}
    original["images_per_second"] = 29.6
    fast = {"variant": "static", "size_bytes": size, "accuracy": 0.939, "speedup": 2.9, "images_per_second": 84.1}
    manifest = ModelManifest(
        name=name,
        files={"model.onnx": hashlib.sha256(content).hexdigest()},
        inputs=(),
        outputs=(),
        opset=18,
        domains=("",),
        preprocessing=None,
        labels=("a", "b"),
        origin={"framework": "tensorflow"} | ({"parent": "0123456789ab"} if variant else {}),
        recipe={"stage": "quantize", "variant": variant} if variant else {"stage": "convert"},
        checks={"quantize": {"accepted": True, "measurements": [original, fast]}},
    )
    golden = Golden.keep(folder / "golden.npz", folder, tolerance=1e-4)
    address = ModelStore(root).add(folder, replace(manifest, golden=golden))
    shutil.rmtree(folder)
    return address


def store_connection(home: Path) -> str:
    return json.dumps({"conn_type": "onnx_model_store", "extra": {"root": str(home / "models")}})
