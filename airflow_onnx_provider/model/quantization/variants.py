# SPDX-License-Identifier: Apache-2.0
"""Write quantised variants of one graph: static 8-bit, dynamic 8-bit, float16, and 4-bit matrix products."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from airflow_onnx_provider.exceptions import BadInputError, ConversionError, needs_extra
from airflow_onnx_provider.model.evidence.parity import Tensors
from airflow_onnx_provider.model.evidence.trial import batches_of
from airflow_onnx_provider.model.quantization.facts import read_facts
from airflow_onnx_provider.runtime.cpu import available_cores
from airflow_onnx_provider.runtime.profile import ExecutionProfile
from airflow_onnx_provider.runtime.session import import_onnxruntime, open_session

Kind = Literal["static", "dynamic", "float16", "int4"]
Calibration = Literal["minmax", "percentile", "entropy"]
"""How the value ranges of activations are taken. ``minmax``: all that was seen. ``percentile``: all but the rarest
0.01 %, which lets outliers saturate. ``entropy``: the range whose 8-bit histogram tells most of the original one."""

CALIBRATION_BATCH = 8
"""Rows of one calibration run: a histogram needs every activation of a batch in memory at once."""

PERCENTILE = 99.99
ENTROPY_BINS = 512
"""ONNX Runtime's default of 128 bins leaves the search for the range nothing to choose from; 2,048 bins take 0.5 s a
tensor, 512 bins 0.07 s, with the same accuracy on small networks (seen with ONNX Runtime 1.31)."""

ALWAYS_IN_FLOAT = ("Softmax",)
"""Eight bits round the small probabilities of many classes to zero."""

LARGEST = 2_000_000_000
"""Bytes; ONNX Runtime's quantisers hold a model as one protobuf message, which cannot be larger than 2 GB."""


@dataclass(frozen=True)
class Variant:
    """One way to quantise a model.

    :param kind: what is done
    :param calibration: how value ranges are taken, for ``static``
    :param kept: nodes that stay in float beside the ones of :data:`ALWAYS_IN_FLOAT`, for ``static``
    :param block_size: weights that share one scale, for ``int4``
    """

    kind: Kind
    calibration: Calibration = "minmax"
    kept: tuple[str, ...] = ()
    block_size: int = 32

    @property
    def name(self) -> str:
        """Short and fit for a folder's name: ``static``, ``static-entropy``, ``static-keep-2``, ``dynamic``, …"""
        plain = f"{self.kind}-{self.calibration}" if self.calibration != "minmax" else self.kind
        return f"{plain}-keep-{len(self.kept)}" if self.kept else plain


class Workshop:
    """Makes variants of one graph; what they share is made once.

    :param source: the original graph
    :param work: an empty folder for what is made on the way
    :param calibration: inputs ``[rows, …]`` that the value ranges of static variants are taken from
    """

    def __init__(self, source: Path, work: Path, calibration: Tensors | None = None) -> None:
        self.work = work
        self._source, self._calibration = source, calibration

    def write(self, variant: Variant, target: Path) -> None:
        """Write one variant.

        :raises ConversionError: if this graph has no such variant
        :raises BadInputError: if a static variant is wanted without calibration rows
        """
        with self._guarded():
            if variant.kind == "static":
                self._write_static(variant, target)
            elif variant.kind == "dynamic":
                self._write_dynamic(target)
            elif variant.kind == "float16":
                self._write_float16(target)
            else:
                self._write_int4(variant, target)
        facts = read_facts(target)
        if not (facts.half if variant.kind == "float16" else facts.quantized):
            raise ConversionError(_NOTHING[variant.kind])

    def write_static_part(self, nodes: Sequence[str], calibration: Calibration, target: Path) -> None:
        """Write the graph with these nodes in 8 bits and all others in float.

        :raises ConversionError: if that cannot be made
        """
        with self._guarded():
            self._quantize_static(calibration, target, nodes_to_quantize=list(nodes))

    @cached_property
    def nodes(self) -> dict[str, str]:
        """Name to operator type of the nodes that static variants are made of, in the graph's order."""
        import onnx

        with self._guarded():
            return {node.name: node.op_type for node in onnx.load(str(self._prepared)).graph.node}

    @cached_property
    def _prepared(self) -> Path:
        """The graph with constants folded, batch normalisation inside convolutions, and a name for each node."""
        import_onnxruntime()
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        path = self.work / "prepared.onnx"
        quant_pre_process(str(self._source), str(path), skip_symbolic_shape=True)
        model = onnx.load(str(path))
        for number, node in enumerate(model.graph.node):
            node.name = f"{node.op_type}_{number}"  # nodes are kept from quantisation by name, and ONNX asks for none
        # Some exporters declare the shapes of weights too; they contradict the weights that a quantiser transposes.
        weights = {tensor.name for tensor in model.graph.initializer}
        declared = [value for value in model.graph.value_info if value.name not in weights]
        del model.graph.value_info[:]
        model.graph.value_info.extend(declared)
        onnx.save(model, str(path))
        return path

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._source.stat().st_size > LARGEST:
            raise ConversionError("the model is larger than 2 GB, which ONNX Runtime's quantisers cannot hold")
        try:
            with _silence():
                yield
        except (BadInputError, ImportError, MemoryError):
            raise
        except Exception as error:  # the quantisers raise whatever their code raises
            raise ConversionError(f"{type(error).__name__}: {error}") from error

    def _write_static(self, variant: Variant, target: Path) -> None:
        softmax = [name for name, op_type in self.nodes.items() if op_type in ALWAYS_IN_FLOAT]
        self._quantize_static(variant.calibration, target, nodes_to_exclude=[*softmax, *variant.kept])

    def _quantize_static(self, calibration: Calibration, target: Path, **nodes: list[str]) -> None:
        ranges = self._ranges(calibration)
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        quantize_static(
            str(self._prepared),
            str(target),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_method(calibration),
            calibration_cache_path=ranges,
            **nodes,
        )

    def _write_dynamic(self, target: Path) -> None:
        prepared = self._prepared
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8)

    def _write_float16(self, target: Path) -> None:
        prepared = self._prepared
        import onnx

        with needs_extra("optimize", "the variant float16"):
            from onnxconverter_common.float16 import convert_float_to_float16

        model = onnx.load(str(prepared))
        casts = {node.name for node in model.graph.node if node.op_type == "Cast"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a line for each weight too small for float16
            model = convert_float_to_float16(model, keep_io_types=True)
        # The converter declares every float value as float16, but leaves the graph's own casts to float as they are.
        for node in model.graph.node:
            if node.name in casts:
                for attribute in node.attribute:
                    if attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                        attribute.i = onnx.TensorProto.FLOAT16
        onnx.save(model, str(target))

    def _write_int4(self, variant: Variant, target: Path) -> None:
        prepared = self._prepared
        import onnx

        with needs_extra("optimize", "the variant int4"):
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # imports onnx_ir
        from onnxruntime.quantization.onnx_model import ONNXModel

        model = ONNXModel(onnx.load(str(prepared)))
        model.replace_gemm_with_matmul()
        # Accuracy level 4 lets ONNX Runtime multiply in 8 bits, which is what makes the result fast.
        quantizer = MatMulNBitsQuantizer(
            model.model, bits=4, block_size=variant.block_size, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(target))

    def _ranges(self, calibration: Calibration) -> Path:
        """Value ranges of all activations, as ONNX Runtime keeps them between runs."""
        path = self.work / f"ranges-{calibration}.json"
        if path.exists():
            return path
        if self._calibration is None:
            raise BadInputError("quantize: a static variant needs calibration rows; give calibration")
        prepared = self._prepared
        from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        augmented = self.work / f"augmented-{calibration}.onnx"
        calibrator = create_calibrator(
            prepared,
            sorted({*QDQRegistry, *QLinearOpsRegistry}),
            augmented_model_path=str(augmented),
            calibrate_method=_method(calibration),
            extra_options={"percentile": PERCENTILE} if calibration == "percentile" else {"num_bins": ENTROPY_BINS},
        )
        calibrator.infer_session = open_session(augmented, ExecutionProfile(threads=available_cores()))
        rows = len(next(iter(self._calibration.values())))
        for batch in batches_of(self._calibration, _rows_at_once(calibrator.infer_session, rows)):
            calibrator.collect_data(_Once(batch))
        save_tensors_data(calibrator.compute_data(), path)
        return path


_NOTHING = {
    "static": "it has no operator that is made 8-bit",
    "dynamic": "it has no matrix product, convolution or LSTM with constant weights",
    "float16": "it has no weights in float",
    "int4": "it has no matrix product with constant weights",
}


def _method(calibration: Calibration) -> Any:
    from onnxruntime.quantization import CalibrationMethod

    return {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }[calibration]


def _rows_at_once(session: Any, rows: int) -> int:
    fixed = [value.shape[0] for value in session.get_inputs() if value.shape and isinstance(value.shape[0], int)]
    return fixed[0] if fixed else min(rows, CALIBRATION_BATCH)


class _Once:
    """One batch in the form that calibrators read."""

    def __init__(self, batch: Tensors) -> None:
        self._left: list[dict[str, Any]] = [dict(batch)]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


@contextmanager
def _silence() -> Iterator[None]:
    """The quantisers print their progress, and warn of things like vectors without channels."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
