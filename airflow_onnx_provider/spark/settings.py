"""What the operator tells the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MODEL_ARCHIVE = "onnx_model"
"""Folder name under which ``--archives`` unpacks the model version on the driver and on each executor."""


@dataclass(frozen=True)
class JobSettings:
    """One run's settings; they travel as one JSON argument of the application.

    :param run: the run's name
    :param partition: of the data
    :param input_path: catalogue folder with ``ds=<partition>`` below it
    :param output_path: output folder
    :param model: address, name, version and digest of the model version
    :param plan: the plan's JSON form, for the manifest
    :param threads: ONNX Runtime threads of a task
    :param batch_size: rows of one ``session.run``
    :param partitions: Spark tasks of the scoring stage
    :param slots: tasks that run at once
    """

    run: str
    partition: str
    input_path: str
    output_path: str
    model: dict[str, Any]
    plan: dict[str, Any]
    threads: int
    batch_size: int
    partitions: int
    slots: int
