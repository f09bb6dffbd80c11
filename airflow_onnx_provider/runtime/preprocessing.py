# SPDX-License-Identifier: Apache-2.0
"""How an input becomes a tensor: one definition for training, calibration, golden rows and executors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast, get_args

from airflow_onnx_provider.exceptions import BadInputError

Resize = Literal["stretch", "crop"]


@dataclass(frozen=True)
class ImagePreprocessing:
    """From encoded bytes to one ``uint8 [height, width, 3]`` RGB tensor.

    Decoding and resizing happen outside the graph. ``scale``, ``mean`` and ``std`` are folded into the graph when
    a model is converted (``(pixel * scale - mean) / std``), so that executors ship bytes of one byte a channel.

    :param height: rows of the model's input, in pixels
    :param width: columns of the model's input, in pixels
    :param resize: ``stretch`` ignores the aspect ratio; ``crop`` keeps it and cuts the centre
    :param scale: factor applied to each pixel value (0 to 255) inside the graph
    :param mean: subtracted per channel after scaling
    :param std: divisor per channel after subtracting
    """

    height: int
    width: int
    resize: Resize = "stretch"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise BadInputError(f"preprocessing: height and width must be positive, got {self.height} x {self.width}")
        if self.resize not in get_args(Resize):
            raise BadInputError(f"preprocessing: resize must be one of {get_args(Resize)}, got {self.resize!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or 0.0 in self.std:
            raise BadInputError("preprocessing: mean and std need three values each, and no std may be 0")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one decoded picture: (height, width, channels)."""
        return (self.height, self.width, 3)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as the model's manifest keeps it."""
        # An int given for a float must not change the digest that is taken over this.
        numbers = {"scale": float(self.scale), "mean": list(map(float, self.mean)), "std": list(map(float, self.std))}
        return {**asdict(self), **numbers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImagePreprocessing:
        """Inverse of :meth:`to_dict`.

        :raises BadInputError: for an unknown or missing field, naming it
        """
        unknown = set(data) - set(cls.__dataclass_fields__)
        if unknown or not {"height", "width"} <= set(data):
            raise BadInputError(
                f"preprocessing: needs height and width and knows {sorted(cls.__dataclass_fields__)}, "
                f"got {sorted(data)}"
            )
        try:
            return cls(
                height=int(data["height"]),
                width=int(data["width"]),
                resize=cast("Resize", data.get("resize", "stretch")),
                scale=float(data.get("scale", 1.0)),
                mean=_triple(data.get("mean", (0.0, 0.0, 0.0))),
                std=_triple(data.get("std", (1.0, 1.0, 1.0))),
            )
        except (TypeError, ValueError) as error:
            raise BadInputError(f"preprocessing: {error}, in {dict(data)}") from error


def _triple(values: Any) -> tuple[float, float, float]:
    return cast("tuple[float, float, float]", tuple(float(value) for value in values))


@dataclass(frozen=True)
class TokenPreprocessing:
    """From arrays of token ids of any length to padded tensors ``[rows, longest]``.

    :param input_ids: the model's input for the ids
    :param attention_mask: its input for the mask (1: token, 0: padding), or None if it has none
    :param max_length: most tokens of a row; a longer one is quarantined, never cut silently
    :param pad_id: id that fills up short rows
    """

    input_ids: str
    attention_mask: str | None = None
    max_length: int = 512
    pad_id: int = 0

    def __post_init__(self) -> None:
        if self.max_length < 1:
            raise BadInputError(f"preprocessing: max_length must be positive, got {self.max_length}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form, as the model's manifest keeps it."""
        return {"kind": "tokens", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenPreprocessing:
        """Inverse of :meth:`to_dict`.

        :raises BadInputError: for an unknown or missing field, naming it
        """
        fields = {name: value for name, value in data.items() if name != "kind"}
        if set(fields) - set(cls.__dataclass_fields__) or "input_ids" not in fields:
            raise BadInputError(
                f"preprocessing: tokens need input_ids and know {sorted(cls.__dataclass_fields__)}, "
                f"got {sorted(fields)}"
            )
        try:
            whole: dict[str, Any] = {name: int(fields[name]) for name in ("max_length", "pad_id") if name in fields}
            return cls(**{**fields, **whole})
        except (TypeError, ValueError) as error:
            raise BadInputError(f"preprocessing: {error}, in {dict(data)}") from error


Preprocessing = ImagePreprocessing | TokenPreprocessing


def preprocessing_from_dict(data: Mapping[str, Any]) -> Preprocessing:
    """What a manifest keeps, as what it describes; without a ``kind`` it is about pictures."""
    return TokenPreprocessing.from_dict(data) if data.get("kind") == "tokens" else ImagePreprocessing.from_dict(data)
