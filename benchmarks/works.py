# SPDX-License-Identifier: Apache-2.0
"""What is measured: each work is a model, a data set, and the ways that score it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["images", "tabular", "tokens"]

FILES = 16
"""Every data set is this many Parquet files of equal size; Spark makes tasks of them by its own defaults."""


@dataclass(frozen=True)
class Data:
    """A data set.

    :param size: width and height of photographs, in pixels
    :param rows: in all its files
    :param quick_rows: the same for a quick run
    """

    name: str
    kind: Kind
    rows: int
    quick_rows: int
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Work:
    """One model on one data set.

    :param ways: way to the number of files that it scores in a pass; slow ways get fewer, and are compared by rate
    :param least_agreement: share of rows whose label must be the limit's
    :param score_tolerance: largest difference of a score from the limit's for the same label
    """

    name: str
    title: str
    model: str
    data: Data
    ways: Mapping[str, int]
    least_agreement: float = 0.999
    score_tolerance: float = 0.01


@dataclass(frozen=True)
class Task:
    """What a child process is told to score.

    :param model: folder of a model version
    :param files: Parquet files, scored in every pass
    :param arrow_rows: rows of an Arrow batch
    """

    kind: Kind
    model: str
    files: tuple[str, ...]
    arrow_rows: int

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        return cls(**{**data, "files": tuple(data["files"])})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SMALL = Data("photographs-500x375", "images", 2000, 256, (500, 375))
LARGE = Data("photographs-4000x3000", "images", 400, 64, (4000, 3000))
TABLE = Data("table-100", "tabular", 2_000_000, 200_000)
TEXTS = Data("texts", "tokens", 50_000, 12_000)

ARROW_ROWS = {SMALL.name: 128, LARGE.name: 16, TABLE.name: 10_000, TEXTS.name: 10_000}
"""Pictures are large, so their Arrow batches are cut short for every way alike; 10,000 is Spark's default."""

_THREE = ("limit", "product", "predict_batch_udf")
_SPARK = ("product", "predict_batch_udf", "pandas_udf", "mlflow")

WORKS = (
    Work(
        "mobilenet",
        "MobileNetV2 fp32, photographs 500 x 375",
        "mobilenet",
        SMALL,
        {**dict.fromkeys((*_THREE, "product-parquet", "mlflow"), 16), "pandas_udf": 8, "ray": 4},
    ),
    Work(
        "mobilenet-int8",
        "MobileNetV2 int8, photographs 500 x 375",
        "mobilenet-int8",
        SMALL,
        dict.fromkeys((*_THREE, "product-parquet"), 16),
    ),
    Work("resnet", "ResNet50 fp32, photographs 500 x 375", "resnet", SMALL, dict.fromkeys(("limit", "product"), 4)),
    Work(
        "resnet-int8",
        "ResNet50 int8, photographs 500 x 375",
        "resnet-int8",
        SMALL,
        dict.fromkeys(("limit", "product"), 8),
    ),
    Work(
        "large",
        "MobileNetV2 fp32, photographs 4,000 x 3,000",
        "mobilenet_large",
        LARGE,
        {"limit": 4, "product": 4, "product-scaled": 16},
        least_agreement=0.8,
        score_tolerance=0.02,
    ),
    Work(
        "table",
        "Network on 100 float columns",
        "table",
        TABLE,
        {"limit": 16, "product-parquet": 16, **dict.fromkeys(_SPARK, 4)},
    ),
    Work("texts", "Small text encoder on token arrays", "encoder", TEXTS, {"limit": 8, "product": 8, "fixed": 2}),
)
