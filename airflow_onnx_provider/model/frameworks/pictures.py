# SPDX-License-Identifier: Apache-2.0
"""How a picture becomes what a network was trained on: the part of preprocessing that goes into the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.source import SourceModel
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, preprocessing_from_dict

INPUT_NAME = "image"
OUTPUT_NAME = "scores"

Shape = Sequence[int | str | None]


def takes_pictures(source: SourceModel, shapes: Sequence[Shape]) -> bool:
    """Whether the graph is to take pictures: as the source says, and otherwise by its one input's shape.

    :param shapes: of the network's inputs, ``[batch, …]`` each; an axis that varies is a name or None
    """
    if source.preprocessing:
        return source.preprocessing.get("kind") not in ("columns", "tokens")
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][3] == 3


def other_preprocessing(source: SourceModel) -> dict[str, Any] | None:
    """What the manifest keeps for a graph that takes no pictures: how token ids become tensors, or nothing."""
    if source.preprocessing.get("kind") != "tokens":
        return None
    return preprocessing_from_dict(source.preprocessing).to_dict()


def agreed(source: SourceModel, height: Any, width: Any) -> ImagePreprocessing:
    """The preprocessing as given, filled up and compared with the size that the network takes.

    :param height: rows in pixels, or anything but a number if the network leaves it open
    :raises BadInputError: if neither says it, or both and they differ
    """
    given = dict(source.preprocessing)
    for axis, size in (("height", height), ("width", width)):
        if not isinstance(size, int) and axis not in given:
            raise BadInputError(f"{source.location}: the model leaves its {axis} open; give it in preprocessing")
        if isinstance(size, int) and given.setdefault(axis, size) != size:
            raise BadInputError(f"{source.location}: preprocessing says {axis} {given[axis]}, the model takes {size}")
    return ImagePreprocessing.from_dict(given)


def factor_and_offset(preprocessing: ImagePreprocessing) -> tuple[list[float], list[float]]:
    """``(pixel * scale - mean) / std`` as one factor and one offset a channel.

    One number instead of three if the channels agree: over pixels, a broadcast of three takes several times as long.
    An empty list if there is nothing to do.
    """
    factor = [preprocessing.scale / std for std in preprocessing.std]
    offset = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    return (
        [] if set(factor) == {1.0} else factor[:1] if len(set(factor)) == 1 else factor,
        [] if not any(offset) else offset[:1] if len(set(offset)) == 1 else offset,
    )
