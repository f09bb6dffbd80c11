# SPDX-License-Identifier: Apache-2.0
"""Days that take their time, and the job over them as one can watch it from outside."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from airflow_onnx_provider import OnnxPublishOperator, OnnxSparkInferenceOperator
from tests.cluster.standalone import free_ports, wait_until
from tests.conftest import COLOURS

DAY = "2026-01-01"
PARTS = 8
"""Spark tasks of the scoring stage."""
SIZING = {"partitions": PARTS, "slots": 2}
"""By hand, as the planner would give so few rows to one worker alone."""


def draw_slow_day(catalog: Path, rows: int = 96, day: str = DAY) -> list[str]:
    """A day of 12-megapixel pictures, of about 60 ms each; gives the keys. Equal pictures are one file on the disk."""
    return _draw(catalog / f"ds={day}", rows, (4000, 3000))


def draw_quick_day(catalog: Path, rows: int = 40, day: str = DAY) -> list[str]:
    """A day of thumbnails; gives the keys."""
    return _draw(catalog / f"ds={day}", rows, (40, 30))


def _draw(folder: Path, rows: int, size: tuple[int, int]) -> list[str]:
    from PIL import Image

    folder.mkdir(parents=True)
    originals = []
    for name, colour in COLOURS.items():
        encoded = io.BytesIO()
        Image.new("RGB", size, colour).save(encoded, "jpeg")
        originals.append(folder.parent / f"_{name}-{size[0]}.jpg")
        originals[-1].write_bytes(encoded.getvalue())
    keys = [f"p-{number:05d}.jpg" for number in range(rows)]
    for number, key in enumerate(keys):
        os.link(originals[number % len(originals)], folder / key)
    (folder / "_SUCCESS").touch()
    return keys


@dataclass
class Job:
    """One execution of the inference operator in a thread, and what its driver says of itself over HTTP.

    :param output: the run's output folder
    :param operator: the one that is executed
    :param ui: address of the driver's web page
    :param result: of the execution
    """

    output: Path
    operator: OnnxSparkInferenceOperator
    ui: str
    result: Future[dict[str, Any]]

    def scoring(self) -> dict[str, Any] | None:
        """The scoring stage while it is at work."""
        assert not self.result.done(), f"too late: {self.result.exception() or 'the job is over'}"
        return scoring_stage(self.ui)

    def wait_for_scoring(self) -> dict[str, Any]:
        """Return in the middle of the scoring stage."""
        return dict(wait_until("the middle of the scoring stage", self.scoring, 90, pause=0.05))

    def finish(self, seconds: float = 180) -> dict[str, Any]:
        """What the operator returns, or its error."""
        return self.result.result(timeout=seconds)


def ask(ui: str, path: str) -> Any:
    """Spark's own monitoring API of the one application whose driver has its web page there."""
    root = f"{ui}/api/v1/applications"
    (application,) = requests.get(root, timeout=30).json()
    return requests.get(f"{root}/{application['id']}/{path}", timeout=30).json()


def scoring_stage(ui: str) -> dict[str, Any] | None:
    """The scoring stage while some of its tasks are done and most are not."""
    stages = [one for one in ask(ui, "stages?status=active") if one["numTasks"] == PARTS]
    return next((one for one in stages if 0 < one["numCompleteTasks"] <= PARTS // 2), None)


@contextmanager
def running(
    home: Path, model: str, context: Mapping[str, Any], *, conf: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Job]:
    """Start the job over ``home/catalog`` in a thread; it is killed if the block is left before it ended.

    :param conf: Spark properties beside those that the test itself needs
    :param changes: further arguments of the operator
    """
    (port,) = free_ports(1)
    arguments = {
        "task_id": "infer",
        "model": model,
        "input_path": str(home / "catalog"),
        "output_path": str(home / "predictions"),
        "sizing": SIZING,
        "conf": {"spark.ui.port": str(port), **(conf or {})},
    }
    operator = OnnxSparkInferenceOperator(**(arguments | changes))
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(operator.execute, dict(context))
        try:
            yield Job(home / "predictions", operator, f"http://127.0.0.1:{port}", result)
        finally:
            if not result.done():
                operator.on_kill()


def publish(predictions: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    return OnnxPublishOperator(task_id="publish", predictions=dict(predictions)).execute(dict(context))
