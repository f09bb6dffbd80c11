# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from PIL import Image

from airflow_onnx_provider.model.stage import Stage
from airflow_onnx_provider.runtime.manifest import MODEL_NAME
from airflow_onnx_provider.runtime.session import LoadedModel, open_session
from tests.runtime.tiny import LABELS, encoded, write_version

PRIMARIES = {"red": (220, 30, 20), "green": (20, 210, 40), "blue": (30, 20, 230)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of three colours with their `labels.csv`, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(12):
        label = LABELS[number % 3]
        colour = tuple(max(0, channel - number) for channel in PRIMARIES[label])
        (folder / f"{number:02}.png").write_bytes(encoded(Image.new("RGB", (10, 6), colour)))
        rows.append((f"{number:02}.png", label))
    (folder / "notes.txt").write_text("no picture")
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows])
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """The classifier of colours, opened on one thread."""
    folder = tmp_path_factory.mktemp("version")
    return LoadedModel(write_version(folder), open_session(folder / MODEL_NAME))


class Lines(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(record.getMessage())


@pytest.fixture
def lines() -> list[str]:
    """What the children of the fixture `stage` print."""
    return []


@pytest.fixture
def stage(lines: list[str]) -> Stage:
    """Runs real child processes of this Python."""
    handler = Lines()
    handler.text = lines
    log = logging.Logger("stage")  # one of its own, so that no test hears another's children
    log.addHandler(handler)
    return Stage(log)


@pytest.fixture(scope="session")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet50 for 224 x 224 pictures, with random weights that give different pictures different classes."""
    from tests.model.graphs import write_resnet50

    return write_resnet50(tmp_path_factory.mktemp("resnet50") / "resnet50.onnx")
