"""One ONNX Runtime session per worker process, opened with care and proved by its answers."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, GoldenMismatchError
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Its Linux wheels create a device id and a database and start a thread on import; only this variable, set before
    the import, stops that.

    :raises BadInputError: if no onnxruntime is installed in this Python, or two that overwrite each other
    """
    _require_one_build()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise BadInputError(
            "onnxruntime is not installed in this Python: pip install 'airflow-onnx-provider[cpu]' (or [gpu])"
        ) from error
    return onnxruntime


@cache
def _require_one_build() -> None:
    builds = [name for name in ("onnxruntime", "onnxruntime-gpu") if next(iter(distributions(name=name)), None)]
    if len(builds) > 1:
        raise BadInputError(
            f"{' and '.join(builds)} are both installed and share one folder, so which of them runs is a matter of "
            "luck: uninstall both, then install airflow-onnx-provider[cpu] or [gpu]"
        )


def open_session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> Any:
    """Open a session that uses ``threads`` cores and no more, on ``provider`` and on nothing else.

    ONNX Runtime sizes its pool by the host's cores and ignores containers' limits, so the count is always set.
    Spinning is off: Spark tasks share the cores. The file is opened by path, which needs less memory than bytes.

    :raises BadInputError: if the session did not get the execution provider that was asked for
    """
    ort = import_onnxruntime()
    if provider not in ort.get_available_providers():
        raise BadInputError(f"asked for {provider}, but this ONNX Runtime has only {ort.get_available_providers()}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != "CPUExecutionProvider":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise BadInputError(
            f"asked for {provider}, but ONNX Runtime opened {path.name} on {session.get_providers()[0]}; "
            f"this build offers {ort.get_available_providers()}"
        )
    return session


@dataclass(frozen=True)
class LoadedModel:
    """A session with the manifest that describes it.

    :param manifest: the model version's manifest
    :param session: an ``onnxruntime.InferenceSession``
    :param threads: cores that the session uses
    :param golden_difference: largest difference that its golden rows showed when it was loaded
    """

    manifest: ModelManifest
    session: Any
    threads: int
    golden_difference: float = 0.0

    @cached_property
    def input_name(self) -> str:
        return self.manifest.inputs[0].name

    @cached_property
    def output_name(self) -> str:
        return self.manifest.outputs[0].name

    @cached_property
    def preprocessing(self) -> ImagePreprocessing:
        """How a picture becomes this model's input.

        :raises BadInputError: if the model takes no pictures
        """
        if self.manifest.preprocessing is None:
            raise BadInputError(f"model {self.manifest.name} has no image preprocessing, so it cannot score pictures")
        return self.manifest.preprocessing

    @cached_property
    def provider(self) -> str:
        """The execution provider that ONNX Runtime really uses."""
        return str(self.session.get_providers()[0])

    @cached_property
    def runtime_version(self) -> str:
        return str(import_onnxruntime().__version__)

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Score one batch.

        :param batch: the first input's tensor, ``[rows, …]``
        :return: the first output, for classifiers ``float32 [rows, classes]``
        """
        (answers,) = self.session.run([self.output_name], {self.input_name: batch})
        return np.asarray(answers)

    def require_golden_answers(self, folder: Path) -> float:
        """Score the golden rows and compare.

        :return: the largest absolute difference
        :raises BadInputError: if the version has no golden rows
        :raises GoldenMismatchError: if any value differs by more than the recorded tolerance
        """
        golden = self.manifest.golden
        if golden is None:
            raise BadInputError(
                f"{self.manifest.name} {self.manifest.version} was never validated, so it has no golden rows to prove "
                "it by. Put an OnnxValidateOperator before inference."
            )
        with np.load(folder / golden.file, allow_pickle=False) as rows:
            inputs, expected = rows["inputs"], rows["answers"]
        # Row by row: batch size 1 is what every model version supports, and padding plays no part.
        answers = np.concatenate([self.run(inputs[index : index + 1]) for index in range(len(inputs))])
        difference = float(np.max(np.abs(answers.astype(np.float64) - expected.astype(np.float64))))
        if not difference <= golden.tolerance:
            raise GoldenMismatchError(
                f"the golden rows of {self.manifest.name} {self.manifest.version} differ by {difference:.3g} on this "
                f"machine (accepted: {golden.tolerance:.3g}). Wrong model, instruction set or execution provider "
                f"({self.provider}): validate and quantize on the CPU type that runs the model."
            )
        return difference


_loaded: dict[tuple[str, int], LoadedModel] = {}


def load_model(folder: Path, digest: str, threads: int) -> LoadedModel:
    """The model of this worker process: opened, checked and proved once, then kept across Spark tasks.

    :param folder: a model version's folder on this machine
    :param digest: what the manifest's digest must be
    :param threads: cores that one run may use
    :raises BadInputError: if another digest is found, or the model has no golden rows
    :raises DigestMismatchError: if a file differs from its recorded digest
    :raises GoldenMismatchError: if the golden rows get other answers
    """
    key = (digest, threads)
    if key not in _loaded:
        manifest = ModelManifest.read(folder)
        if manifest.digest != digest:
            raise BadInputError(f"expected the model {digest[:12]}…, but {folder} holds {manifest.digest[:12]}…")
        manifest.verify_files(folder)
        model = LoadedModel(manifest, open_session(folder / MODEL_NAME, threads), threads)
        proved = replace(model, golden_difference=model.require_golden_answers(folder))
        _loaded.clear()  # a worker serves one model at a time; keeping the last one would double its memory
        _loaded[key] = proved
    return _loaded[key]
