# SPDX-License-Identifier: Apache-2.0
"""Measure what a model does on this machine, over threads, batch sizes, decoders and the arena."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from airflow_onnx_provider.exceptions import BadInputError, GoldenMismatchError
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from airflow_onnx_provider.runtime.profile import Decoder, ExecutionProfile
from airflow_onnx_provider.runtime.raw_speed import images_per_second
from airflow_onnx_provider.runtime.session import LoadedModel, load_model

log = logging.getLogger("airflow_onnx_provider")


@dataclass(frozen=True)
class Space:
    """What is tried; every combination of it.

    :param threads: ONNX Runtime threads of one session
    :param batch_sizes: rows of one ``session.run``
    :param decoders: for models that take pictures
    :param arenas: with ONNX Runtime's arena, without it
    :param seconds: time for each combination
    """

    threads: tuple[int, ...] = (1, 2)
    batch_sizes: tuple[int, ...] = (1, 4, 8, 16)
    decoders: tuple[Decoder, ...] = ("full", "scaled")
    arenas: tuple[bool, ...] = (True, False)
    seconds: float = 1.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """Inverse of ``asdict`` over JSON.

        :raises BadInputError: for an unknown field
        """
        if unknown := sorted(set(data) - set(cls.__dataclass_fields__)):
            raise BadInputError(f"measure: unknown {unknown}; there is {sorted(cls.__dataclass_fields__)}")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
        return cls(**fields)


@dataclass(frozen=True)
class Speed:
    """One measurement of one process.

    :param images_per_second: rows a second, decoding included if ``decode_included``
    """

    cpu: str
    threads: int
    batch: int
    decoder: str
    arena: bool
    images_per_second: float
    decode_included: bool


def sweep(folder: Path, digest: str, pictures: Sequence[bytes], space: Space) -> list[dict[str, Any]]:
    """Run every combination for a moment in this process.

    A decoder that changes the golden pictures' answers is left out, with a line in the log.

    :param folder: a validated model version
    :param pictures: encoded ones, as the catalogue has them, for models that take pictures; others run on their golden
        rows
    :return: :class:`Speed` as JSON, fastest a core first
    :raises BadInputError: if the model takes pictures and none are given
    """
    found: list[Speed] = []
    refused: set[str] = set()
    decoders: Sequence[Decoder] = space.decoders if pictures else ("full",)
    for decoder, arena, threads, size in itertools.product(decoders, space.arenas, space.threads, space.batch_sizes):
        if decoder in refused:
            continue
        profile = ExecutionProfile(threads=threads, batch_size=size, decoder=decoder, arena=arena)
        try:
            model = load_model(folder, digest, profile)
        except (BadInputError, GoldenMismatchError) as error:
            if decoder == "full":
                raise
            log.info("left out: %s", error)
            refused.add(decoder)
            continue
        rate, decoded = _rate(model, pictures, space.seconds)
        found.append(Speed(cpu_type(), threads, size, decoder, arena, round(rate, 1), decoded))
        log.info("%s", found[-1])
    return [asdict(speed) for speed in sorted(found, key=lambda one: -one.images_per_second / one.threads)]


def _rate(model: LoadedModel, pictures: Sequence[bytes], seconds: float) -> tuple[float, bool]:
    if isinstance(model.manifest.preprocessing, ImagePreprocessing):
        if not pictures:
            raise BadInputError(f"measure: model {model.manifest.name} takes pictures; give some of the catalogue's")
        images_per_second(pictures[: model.profile.batch_size], model)
        return images_per_second(itertools.cycle(pictures), model, seconds), True
    size = model.profile.batch_size or 1
    feeds = {name: np.resize(rows, (size, *rows.shape[1:])) for name, rows in model.golden.inputs.items()}
    outputs = list(model.golden.answers)
    model.answer(feeds, outputs)
    runs, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        model.answer(feeds, outputs)
        runs += 1
    return runs * size / spent, False
