# SPDX-License-Identifier: Apache-2.0
"""The figures of one published day, as a short table and as `summary.json`."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.quality.verdict import CheckRecord
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.session import LoadedModel, open_session
from airflow_onnx_provider.spark.layout import RUN_FILE, OutputLayout
from airflow_onnx_provider.spark.run_manifest import RunManifest


def summarize(home: Path, partition: str) -> dict[str, Any]:
    """Gather the figures; those before quantisation are computed here, on the day's labelled pictures.

    :param home: the demo's folder
    :param partition: a published day
    """
    layout = OutputLayout(home / "predictions")
    run = RunManifest.read(layout.published(partition) / RUN_FILE)
    day = home / "catalog" / f"ds={partition}"
    labels = _labels(day / "_labels.csv")
    predicted = _predictions(layout.published(partition))
    published = Path(run.model["model"])
    original = _original(published)
    record = CheckRecord.read(layout.checks(run.run))
    return {
        "partition": partition,
        "verdict": record.verdict if record else "not judged",
        "checks": len(record.results) if record else 0,
        "doubts": [str(one) for one in (*record.failed, *record.grey)] if record else [],
        "rows_in": run.rows_in,
        "predicted": run.predicted,
        "quarantined": dict(run.quarantined),
        "labelled_rows": len(labels),
        "accuracy_before": _accuracy(_scored_by(original, day, labels), labels),
        "accuracy_after": _accuracy(predicted, labels),
        "model_bytes_before": (original / MODEL_NAME).stat().st_size,
        "model_bytes_after": (published / MODEL_NAME).stat().st_size,
        "quantization": ModelManifest.read(published).recipe.get("variant", "none"),
        "images_per_second": run.images_per_second,
        "raw_images_per_second": run.raw_images_per_second,
        "raw_share": run.raw_share,
        "seconds": dict(run.seconds),
        "latency_ms": dict(run.latency_ms),
        "paths": {
            "predictions": str(layout.published(partition)),
            "quarantine": str(layout.quarantine(partition)),
            "run_manifest": str(layout.run_manifest(run.run)),
            "report": str(layout.report(run.run)),
            "model": str(published),
            "model_card": str(published / "card.html"),
            "catalog": str(home / "catalog"),
        },
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures as aligned lines of name and value."""
    reasons = ", ".join(f"{rows} {reason}" for reason, rows in figures["quarantined"].items())
    before, after, spent = figures["model_bytes_before"], figures["model_bytes_after"], figures["seconds"]
    doubts = "".join(f"; {one}" for one in figures["doubts"])
    rows = {
        "verdict": f"{figures['verdict']}, by {figures['checks']} checks{doubts}",
        "rows in": f"{figures['rows_in']:,}",
        "predicted": f"{figures['predicted']:,}",
        "quarantined": f"{sum(figures['quarantined'].values())}" + (f" ({reasons})" if reasons else ""),
        "accuracy": f"{figures['accuracy_before']:.1%} before, {figures['accuracy_after']:.1%} after quantisation "
        f"({figures['quantization']}), on {figures['labelled_rows']} labelled rows",
        "model size": f"{before / 1e6:.2f} MB before, {after / 1e6:.2f} MB after ({1 - after / before:.0%} smaller)",
        "images per second": f"{figures['images_per_second']:.0f}",
        "share of raw speed": f"{figures['raw_share']:.0%} of {figures['raw_images_per_second']:.0f} images/s: "
        "same decode and model in plain processes, same run",
        "seconds": f"{spent['scoring']:.1f} on the clock for scoring; summed over its tasks: read {spent['read']:.1f}, "
        f"decode {spent['decode']:.1f}, inference {spent['inference']:.1f}",
        **{name.replace("_", " "): path for name, path in figures["paths"].items()},
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _labels(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: row["label"] for row in csv.DictReader(file)}


def _predictions(folder: Path) -> dict[str, str]:
    rows = pq.read_table(folder, columns=["key", "label"])
    return dict(zip(rows["key"].to_pylist(), rows["label"].to_pylist(), strict=True))


def _scored_by(version: Path, day: Path, labels: Mapping[str, str]) -> dict[str, str]:
    """What a model version says of the labelled pictures."""
    model = LoadedModel(ModelManifest.read(version), open_session(version / MODEL_NAME))
    said = {}
    for file in labels:
        picture = decode_image((day / file).read_bytes(), model.manifest.image_preprocessing)
        said[file] = model.manifest.labels[int(model.run(picture[np.newaxis]).argmax())]
    return said


def _original(published: Path) -> Path:
    """The converted version at the beginning of the published one's line."""
    while parent := ModelManifest.read(published).origin.get("parent"):
        published = published.parent / parent
    return published


def _accuracy(predicted: Mapping[str, str], labels: Mapping[str, str]) -> float:
    return sum(predicted.get(file) == label for file, label in labels.items()) / len(labels)


def main() -> None:
    """Print the table and write the same figures to `summary.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the demo's folder")
    parser.add_argument("--partition", required=True, help="a published day")
    options = parser.parse_args()
    try:
        figures = summarize(options.home, options.partition)
    except OnnxProviderError as error:
        parser.exit(1, f"{error}\n")
    (options.home / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(f"\n{table(figures)}\n{'figures':<18}  {options.home / 'summary.json'}")


if __name__ == "__main__":
    main()
