# SPDX-License-Identifier: Apache-2.0
"""How much memory an executor needs: the JVM's heap, and Python workers beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_onnx_provider.spark.planning.facts import InputFacts, ModelFacts

HEAP_MB = 1024
"""Spark's own default. The JVM moves keys and labels only."""

LEAST_HEAP_MB = 512
"""Where a worker has little; Spark starts no executor below 450 MiB."""

JVM_OVERHEAD_MB = 384
"""Spark's own least overhead: what a JVM takes beside its heap."""

PYTHON_MB = 200
"""Python with numpy, pyarrow and onnxruntime: peaks of 230 to 250 MiB were measured with a model of 4 MB."""

CUDA_MB = 2048
"""Taken for granted, not measured: memory of the host that CUDA and its libraries take in a process."""

MODEL_FACTOR = 2.5
"""Memory of a session over its file: ResNet50, 102 MB, takes 251 MB more when it is loaded by path."""

ARENA_MB = 75
"""ResNet50 takes so much less without ONNX Runtime's arena."""

ROW_MB = 1
"""A picture of 224 x 224 as float32 is 0.6 MB; three model batches are alive at once."""

BATCHES = 3

DECODED_FACTOR = 10
"""Decoded over encoded: a JPEG of 12 megapixels has about 3.5 MB and becomes 36 MB of pixels."""

MOST_DECODED_MB = 287
"""100 million pixels; a larger picture is quarantined before it is decoded."""

PROCESSES_A_SLOT = 2
"""The worker, and beside it the plain process that measures the raw speed for a few seconds."""


@dataclass(frozen=True)
class WorkerMemory:
    """Memory of one Python worker process.

    :param mb: peak in MiB
    :param words: its sum, for a person
    """

    mb: int
    words: str

    @classmethod
    def of(
        cls, model: ModelFacts, day: InputFacts, batch_size: int, arrow_bytes: int, *, arena: bool, gpu: bool
    ) -> WorkerMemory:
        """From a measured peak, else from the file's size.

        :param batch_size: rows of one ``session.run``
        :param arena: whether ONNX Runtime's arena is on
        :param gpu: whether the model computes on a GPU
        """
        arrow = 2 * math.ceil(arrow_bytes / 2**20)  # the batch that is read and the one that is filled
        if model.memory_mb:
            return cls(math.ceil(model.memory_mb) + arrow, f"{math.ceil(model.memory_mb)} measured + {arrow} Arrow")
        file = math.ceil(model.size_bytes / 2**20)
        loaded, batches = math.ceil(MODEL_FACTOR * file), BATCHES * batch_size * ROW_MB
        decoded = min(MOST_DECODED_MB, math.ceil(DECODED_FACTOR * day.largest / 2**20))
        kept, python = ARENA_MB if arena else 0, PYTHON_MB + (CUDA_MB if gpu else 0)
        return cls(
            python + loaded + kept + batches + decoded + arrow,
            f"{python} Python + {loaded} model + {kept} arena + {batches} batches + {decoded} picture + {arrow} Arrow",
        )

    def overhead(self, tasks: int) -> int:
        """MiB beside the heap of an executor that runs so many tasks at once."""
        return JVM_OVERHEAD_MB + tasks * PROCESSES_A_SLOT * self.mb

    def sum(self, tasks: int) -> str:
        """The same in words."""
        each = f"{tasks} task{'s' if tasks > 1 else ''} x {PROCESSES_A_SLOT} processes x {self.mb:,} MiB ({self.words})"
        return f"{each} + {JVM_OVERHEAD_MB} for the JVM"
