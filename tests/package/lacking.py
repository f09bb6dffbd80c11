# SPDX-License-Identifier: Apache-2.0
"""Uses features in an environment that lacks what they need."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conftest import make_colour_model
from tests.wheel import environment

FEATURES = Path(__file__).with_name("features.py")


def used(python: Path, features: Iterable[str], folder: Path) -> dict[str, dict[str, str]]:
    """What each feature ended with: ``class`` and ``said``.

    :param python: of the environment
    :param features: their names in ``features.py``
    :param folder: an empty one
    """
    command = [python, "-P", FEATURES, folder / "scratch", make_colour_model(folder), *features]
    env = environment(folder / "airflow")
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def require_line(said: Mapping[str, str], extra: str) -> None:
    assert said["class"] == "MissingExtraError", said
    assert f"needs the extra {extra}: pip install 'airflow-onnx-provider[{extra}]'" in said["said"]
    assert "\n" not in said["said"]
