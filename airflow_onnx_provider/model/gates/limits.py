# SPDX-License-Identifier: Apache-2.0
"""How large, how new and how deep a model may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """What a model may ask for. A larger one is refused before anything is allocated for it.

    :param opset: newest default operator set that ONNX Runtime 1.31 runs; the ONNX checker itself accepts later ones
    :param ml_opset: the same of the domain ``ai.onnx.ml``
    :param ir_version: newest file format that ONNX Runtime 1.31 reads
    :param depth: graphs inside graphs, as in the branches of an ``If``; converters write one to four
    :param nodes: operators after each local function is put in place of its calls; a large language model has 20,000
    :param weight_bytes: all weights together, embedded, external and sparse ones as they lie in memory
    :param tensor_bytes: any one tensor between two operators, for one row
    :param iterations: rounds of a loop whose number is written in the graph
    """

    opset: int = 26
    ml_opset: int = 5
    ir_version: int = 13
    depth: int = 16
    nodes: int = 500_000
    weight_bytes: int = 16 * GIB
    tensor_bytes: int = 4 * GIB
    iterations: int = 10_000_000

    def within(self, memory_mb: int) -> Limits:
        """These limits for a process that may use this much memory, in MiB."""
        memory = memory_mb << 20
        return replace(self, weight_bytes=min(self.weight_bytes, memory), tensor_bytes=min(self.tensor_bytes, memory))


def readable(size: int) -> str:
    """A number of bytes for a person."""
    for unit, scale in (("TiB", 1 << 40), ("GiB", GIB), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:,.1f} {unit}"
    return f"{size} bytes"
