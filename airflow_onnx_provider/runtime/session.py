# SPDX-License-Identifier: Apache-2.0
"""One ONNX Runtime session per worker process, opened with care and proved by its answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, GoldenMismatchError, needs_extra
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.golden import GoldenRows, largest_difference
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.profile import CPU, ExecutionProfile

DECODER_TOLERANCE = 0.02
"""What other pixels may change of a golden answer; the same that quantisation may."""


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Its Linux wheels create a device id and a database and start a thread on import; only this variable, set before
    the import, stops that.

    :raises MissingExtraError: if no onnxruntime is installed in this Python
    :raises BadInputError: if two are, which overwrite each other
    """
    _require_one_build()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with needs_extra("cpu", "ONNX Runtime", ", or [gpu]; for an executor's Python, pip install onnxruntime"):
        import onnxruntime
    return onnxruntime


@cache
def _require_one_build() -> None:
    builds = [name for name in ("onnxruntime", "onnxruntime-gpu") if next(iter(distributions(name=name)), None)]
    if len(builds) > 1:
        raise BadInputError(
            f"{' and '.join(builds)} are both installed and share one folder, so which of them runs is a matter of "
            "luck: uninstall both, then install airflow-onnx-provider[cpu] or [gpu]"
        )


def open_session(path: Path, profile: ExecutionProfile | None = None) -> Any:
    """Open a session that uses the profile's cores and no more, on its execution provider and on nothing else.

    ONNX Runtime sizes its pool by the host's cores and ignores containers' limits, so the count is always set.
    Spinning is off: Spark tasks share the cores. The file is opened by path, which needs less memory than bytes.

    :param profile: default: one thread on the CPU
    :raises BadInputError: if the session did not get the execution provider that was asked for
    """
    profile = profile or ExecutionProfile()
    ort = import_onnxruntime()
    if profile.provider not in ort.get_available_providers():
        raise BadInputError(
            f"asked for {profile.provider}, but this ONNX Runtime has only {ort.get_available_providers()}"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = profile.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = profile.arena
    # A memory pattern is kept for every shape of input ever seen: with token arrays that never ends.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile.provider not in (CPU, "OpenVINOExecutionProvider"):  # OpenVINO is itself a way to use the CPU
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(str(path), options, providers=profile.providers)
    if session.get_providers()[0] != profile.provider:
        raise BadInputError(
            f"asked for {profile.provider}, but ONNX Runtime opened {path.name} on {session.get_providers()[0]}; "
            f"this build offers {ort.get_available_providers()}"
        )
    return session


@dataclass(frozen=True)
class LoadedModel:
    """A session with the manifest that describes it.

    :param manifest: the model version's manifest
    :param session: an ``onnxruntime.InferenceSession``
    :param profile: how the session was opened, and how it is to be fed
    :param golden: the rows that prove it, if it has any
    :param golden_difference: largest difference that they showed when it was loaded
    """

    manifest: ModelManifest
    session: Any
    profile: ExecutionProfile = field(default_factory=ExecutionProfile)
    golden: GoldenRows = field(default_factory=lambda: GoldenRows({}, {}))
    golden_difference: float = 0.0

    @cached_property
    def input_name(self) -> str:
        return self.manifest.inputs[0].name

    @cached_property
    def output_name(self) -> str:
        return self.manifest.outputs[0].name

    @cached_property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses."""
        return str(self.session.get_providers()[0])

    @cached_property
    def runtime_version(self) -> str:
        return str(import_onnxruntime().__version__)

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The first output's answers to one batch of the first input, for classifiers ``float32 [rows, classes]``.

        :param batch: the first input's tensor, ``[rows, …]``
        """
        return np.asarray(self.answer({self.input_name: batch}, (self.output_name,))[0])

    def answer(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Score one batch.

        :param feeds: model input to tensor ``[rows, …]``
        :param outputs: names of the outputs that are wanted
        :return: one tensor ``[rows, …]`` an output, in the order of ``outputs``
        """
        return list(self.session.run(list(outputs), dict(feeds)))

    def prove(self) -> float:
        """Score the golden rows and compare.

        :return: the largest absolute difference
        :raises GoldenMismatchError: if any value differs by more than the recorded tolerance
        """
        tolerance = self.manifest.golden.tolerance if self.manifest.golden else 0.0
        difference = self._difference(self.golden.inputs)
        if not difference <= tolerance:
            raise GoldenMismatchError(
                f"the golden rows of {self.manifest.name} {self.manifest.version} differ by {difference:.3g} on this "
                f"machine (accepted: {tolerance:.3g}). Wrong model, instruction set or execution provider "
                f"({self.provider}): validate and quantize on the CPU type that runs the model."
            )
        return difference

    def prove_decoder(self) -> None:
        """Other pixels than a full decoding gives are accepted only if the golden pictures get the same answers.

        :raises BadInputError: if the version has no golden pictures
        :raises GoldenMismatchError: if any answer differs by more than :data:`DECODER_TOLERANCE`
        """
        decoder, preprocessing = self.profile.decoder, self.manifest.image_preprocessing
        if not self.golden.pictures:
            raise BadInputError(
                f"profile: the decoder {decoder!r} changes pixels and must prove itself on golden pictures, but "
                f"{self.manifest.name} {self.manifest.version} has none; validate it again with a folder of pictures"
            )
        pixels = np.stack([decode_image(picture, preprocessing, decoder) for picture in self.golden.pictures])
        difference = self._difference({self.input_name: pixels})
        if not difference <= DECODER_TOLERANCE:
            raise GoldenMismatchError(
                f"the decoder {decoder!r} changes the golden answers of {self.manifest.name} {self.manifest.version} "
                f"by {difference:.3g} (accepted: {DECODER_TOLERANCE:.3g}); use the decoder 'full'"
            )

    def _difference(self, inputs: Mapping[str, NDArray[Any]]) -> float:
        """Row by row: batch size 1 is what every model version supports, and padding plays no part."""
        expected, outputs = self.golden.answers, list(self.golden.answers)
        differences = [0.0]
        for row in range(self.golden.rows):
            answers = self.answer({name: values[row : row + 1] for name, values in inputs.items()}, outputs)
            differences.extend(map(largest_difference, answers, (expected[name][row : row + 1] for name in outputs)))
        return float(np.max(differences))  # unlike Python's max, it never passes over a NaN


_loaded: dict[tuple[str, ExecutionProfile], LoadedModel] = {}


def load_model(folder: Path, digest: str, profile: ExecutionProfile | None = None) -> LoadedModel:
    """The model of this worker process: opened, checked and proved once, then kept across Spark tasks.

    :param folder: a model version's folder on this machine
    :param digest: what the manifest's digest must be
    :param profile: default: one thread on the CPU
    :raises BadInputError: if another digest is found, or the model has no golden rows
    :raises DigestMismatchError: if a file differs from its recorded digest
    :raises GoldenMismatchError: if the golden rows get other answers
    """
    profile = profile or ExecutionProfile()
    key = (digest, profile)
    if key not in _loaded:
        manifest = ModelManifest.read(folder)
        if manifest.digest != digest:
            raise BadInputError(f"expected the model {digest[:12]}…, but {folder} holds {manifest.digest[:12]}…")
        if manifest.golden is None:
            raise BadInputError(
                f"{manifest.name} {manifest.version} was never validated, so it has no golden rows to prove it by. Put "
                "an OnnxValidateOperator before inference."
            )
        manifest.verify_files(folder)
        golden = GoldenRows.load(folder / manifest.golden.file, manifest)
        model = LoadedModel(manifest, open_session(folder / MODEL_NAME, profile), profile, golden)
        proved = replace(model, golden_difference=model.prove())
        if profile.decoder != "full":
            model.prove_decoder()
        _loaded.clear()  # a worker serves one model at a time; keeping the last one would double its memory
        _loaded[key] = proved
    return _loaded[key]
