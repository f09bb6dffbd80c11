# SPDX-License-Identifier: Apache-2.0
"""A home like the demo's, with a network whose weights are set by hand so that no training is needed."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import COLOURS

NETWORK = """
import sys, numpy, keras
image = keras.Input((16, 16, 3), name="image")
mean = keras.layers.GlobalAveragePooling2D()(image)
scores = keras.layers.Dense(4, activation="softmax", name="scores")
network = keras.Model(image, scores(mean))
weights = numpy.array([[2, -1, -1, 0], [-1, 2, -1, 0], [-1, -1, 2, 0]], dtype="float32") / 20
scores.set_weights([weights, numpy.array([0, 0, 0, 0.5], dtype="float32")])
network.save(sys.argv[1])
"""


def draw(folder: Path, good: int, broken: int = 0) -> dict[str, str]:
    """Plain pictures, each with another shade of its colour; gives file name to colour."""
    from PIL import Image

    folder.mkdir(parents=True)
    labels = {}
    for number in range(good):
        colour = list(COLOURS)[number % len(COLOURS)]
        name = f"p-{number:04d}.jpg"
        shade = tuple(max(0, channel - number // 4) for channel in COLOURS[colour])
        Image.new("RGB", (40, 30), shade).save(folder / name)
        labels[name] = colour
    for number in range(broken):
        (folder / f"x-{number}.jpg").write_bytes(b"no picture")
    return labels


def draw_day(home: Path, day: str, good: int = 40, broken: int = 1) -> None:
    folder = home / "catalog" / f"ds={day}"
    draw(folder, good, broken)
    (folder / "_SUCCESS").touch()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `training/` and an empty `catalog/`."""
    home = tmp_path_factory.mktemp("home")
    training = home / "training"
    labels = draw(training / "labelled", 40)
    with (training / "labelled" / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows(labels.items())
    draw(training / "calibration", 16)
    (training / "labels.txt").write_text("\n".join(COLOURS) + "\n")
    subprocess.run([sys.executable, "-c", NETWORK, str(training / "classifier.keras")], check=True)
    (home / "catalog").mkdir()
    return home
