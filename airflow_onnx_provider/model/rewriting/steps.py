# SPDX-License-Identifier: Apache-2.0
"""The steps of an optimisation: what each is asked for, what it writes, and what its result must answer."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from airflow_onnx_provider.exceptions import BadInputError, ValidationError
from airflow_onnx_provider.model.evidence.parity import ParityLimits, compare, require_parity
from airflow_onnx_provider.model.rewriting.dimensions import set_batch, set_resolution
from airflow_onnx_provider.model.rewriting.forms import Form, Proof, answers_in_batches
from airflow_onnx_provider.model.rewriting.offline import TIED, Level, optimize_offline
from airflow_onnx_provider.model.rewriting.preprocessing import fold_preprocessing, layout_of
from airflow_onnx_provider.model.rewriting.simplify import simplify
from airflow_onnx_provider.model.rewriting.top_k import BEST, LABELS, SCORES, add_argmax, add_top_k
from airflow_onnx_provider.runtime.cpu import cpu_type
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.manifest import MODEL_NAME, ModelManifest
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, Preprocessing


class Step(Protocol):
    """One way to rewrite a model."""

    name: ClassVar[str]

    def rewrite(self, form: Form, folder: Path) -> Form:
        """Write ``folder/model.onnx``.

        :raises ValidationError: if this model does not allow it
        :raises BadInputError: if what is asked for cannot be had of any such model
        """

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:
        """What ``made``, written from ``form``, must answer."""


class _SameAnswers:
    """The new form takes and gives what the old one did."""

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:  # noqa: ARG002
        return before


@dataclass(frozen=True)
class Simplify(_SameAnswers):
    """Fold constants, drop dead and doubled nodes, fuse layers, with onnxslim."""

    name: ClassVar[str] = "simplify"

    def rewrite(self, form: Form, folder: Path) -> Form:
        simplify(form.path, folder / MODEL_NAME)
        return form.made(folder)


@dataclass(frozen=True)
class Graph(_SameAnswers):
    """ONNX Runtime's graph optimisation, written down.

    :param level: ``basic`` is portable; ``extended`` and ``all`` tie the file to this ONNX Runtime and CPU type, and
        ``all`` may write operators of a domain that validation refuses: validate before
    """

    name: ClassVar[str] = "graph"
    level: Level = "basic"

    def rewrite(self, form: Form, folder: Path) -> Form:
        optimize_offline(form.path, folder / MODEL_NAME, self.level)
        return form.made(folder)

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:  # noqa: ARG002
        if self.level not in TIED:
            return before
        note = f"the level {self.level} ties the file to this ONNX Runtime and to CPUs like this one ({cpu_type()})"
        return replace(before, note=note)


@dataclass(frozen=True)
class Dimensions:
    """Other axes.

    :param batch: rows: a number, or a name for any number
    :param height: of the pictures that the model takes, in pixels; with ``width``
    :param width: of the pictures, in pixels
    """

    name: ClassVar[str] = "dimensions"
    batch: int | str | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.batch, str) and self.batch.lstrip("-").isdigit():
            object.__setattr__(self, "batch", int(self.batch))
        for axis in ("height", "width"):
            object.__setattr__(self, axis, _whole(getattr(self, axis), f"dimensions: {axis}"))
        if isinstance(self.batch, int) and self.batch < 1:
            raise BadInputError(f"dimensions: batch must be 1 or more, or a name, got {self.batch}")
        if (self.height is None) != (self.width is None) or (self.batch is None and self.height is None):
            raise BadInputError("dimensions: give batch, or height and width, or all three")

    def rewrite(self, form: Form, folder: Path) -> Form:
        source, preprocessing = form.path, form.manifest.preprocessing
        if self.height is not None and self.width is not None:
            preprocessing = replace(_pictures_of(form), height=self.height, width=self.width)
            if preprocessing == form.manifest.preprocessing:
                raise ValidationError(f"its pictures are {self.height} x {self.width} already")
            set_resolution(source, folder / MODEL_NAME, form.manifest.inputs[0].name, self.height, self.width)
            source = folder / MODEL_NAME
        if self.batch is not None:
            set_batch(source, folder / MODEL_NAME, self.batch)
        return form.made(folder, preprocessing=preprocessing)

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:
        if self.height is None:
            return before
        self._require_same_graph(before, form, made.folder / "free", limits)
        inputs = {
            form.manifest.inputs[0].name: _resized(before, cast("ImagePreprocessing", made.manifest.preprocessing))
        }
        answers = answers_in_batches(made, inputs)
        both = {name: values for name, values in answers.items() if before.answers[name].shape == values.shape}
        agreement = compare(both, {name: before.answers[name] for name in both}).label_agreement if both else None
        note = (
            f"at the old resolution, the same graph with free height and width gives the old answers; at "
            f"{self.height} x {self.width} pixels the answers are others"
            + ("" if agreement is None else f", and {agreement:.1%} of the labels stay what they were")
        )
        return Proof(inputs, answers, before.pictures, note)

    def _require_same_graph(self, before: Proof, form: Form, folder: Path, limits: ParityLimits) -> None:
        """Only where the shapes agree can answers be compared: there, nothing may have changed."""
        folder.mkdir()
        set_resolution(form.path, folder / MODEL_NAME, form.manifest.inputs[0].name, "height", "width")
        answers = answers_in_batches(form.made(folder), before.inputs)
        require_parity(answers, before.answers, limits, "with free height and width, at the old resolution")
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@dataclass(frozen=True)
class FoldPreprocessing:
    """Cast, scale, mean, std and transposition become part of a model that takes pictures as floats.

    It then takes ``uint8 [batch, height, width, 3]``. The fields are those of ``ImagePreprocessing``.

    :param height: in pixels; default: the model's own
    :param width: in pixels; default: the model's own
    :param layout: ``NCHW`` or ``NHWC``; default: where the model's input has three channels
    """

    name: ClassVar[str] = "preprocessing"
    height: int | None = None
    width: int | None = None
    resize: str = "stretch"
    scale: float = 1.0
    mean: Sequence[float] = (0.0, 0.0, 0.0)
    std: Sequence[float] = (1.0, 1.0, 1.0)
    layout: str | None = None

    def __post_init__(self) -> None:
        for axis in ("height", "width"):
            object.__setattr__(self, axis, _whole(getattr(self, axis), f"preprocessing: {axis}"))

    def pictures(self, manifest: ModelManifest) -> ImagePreprocessing:
        """How the model will take pictures.

        :raises BadInputError: if it takes them already, or height and width are neither given nor fixed
        :raises ValidationError: if its input is no picture
        """
        if manifest.preprocessing is not None:
            raise BadInputError(f"preprocessing: model {manifest.name} has its preprocessing in the graph already")
        spec = manifest.inputs[0]
        layout = layout_of(spec, self.layout)
        own = spec.shape[2:] if layout == "NCHW" else spec.shape[1:3]
        sizes = []
        for axis, given, size in zip(("height", "width"), (self.height, self.width), own, strict=True):
            if isinstance(size, int) and given not in {None, size}:
                raise BadInputError(f"preprocessing: the model's {axis} is {size}, not {given}")
            if isinstance(size, str) and given is None:
                raise BadInputError(f"preprocessing: give the {axis}; the model leaves it open")
            sizes.append(size if isinstance(size, int) else given)
        others = {key: getattr(self, key) for key in ("resize", "scale", "mean", "std")}
        return ImagePreprocessing.from_dict({"height": sizes[0], "width": sizes[1], **others})

    def rewrite(self, form: Form, folder: Path) -> Form:
        preprocessing = self.pictures(form.manifest)
        layout = layout_of(form.manifest.inputs[0], self.layout)
        fold_preprocessing(form.path, folder / MODEL_NAME, preprocessing, layout)
        return form.made(folder, preprocessing=preprocessing)

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:  # noqa: ARG002
        pixels = before.inputs[PIXELS]
        return replace(before, inputs={made.manifest.inputs[0].name: pixels})


PIXELS = "<pixels>"
"""Beside a float model's inputs, a proof holds the pictures that they come from under this name."""


@dataclass(frozen=True)
class TopK:
    """The best classes as further outputs: ``top_labels`` (int64) and ``top_scores``, ``[batch, k]``.

    The scorer takes label and score from the model's scores, which therefore stay by default; the new outputs can be
    kept as ``raw`` columns.

    :param k: how many
    :param output: the scores; default: the first output ``float [batch, classes]``
    :param keep_scores: whether the scores stay an output. Without them the version is for other programs: its labels
        no longer fit its first output, and the scorer refuses it
    """

    name: ClassVar[str] = "top_k"
    k: int = 5
    output: str | None = None
    keep_scores: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", _whole(self.k, "top_k: k"))

    def rewrite(self, form: Form, folder: Path) -> Form:
        scores = _scores_of(form, self.output, self.name)
        if not self.keep_scores and not form.manifest.labels:
            raise BadInputError(
                "top_k: keep_scores=False needs a model with labels: without them a scorer would take the best scores "
                "for the scores of the first classes"
            )
        add_top_k(form.path, folder / MODEL_NAME, scores, self.k, keep_scores=self.keep_scores)
        return form.made(folder)

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:  # noqa: ARG002
        name = _scores_of(form, self.output, self.name)
        scores = answers_in_batches(form, before.inputs)[name]
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        best = {LABELS: order.astype(np.int64), SCORES: np.take_along_axis(scores, order, axis=1)}
        kept = {key: values for key, values in before.answers.items() if self.keep_scores or key != name}
        return replace(before, answers={**kept, **best})


@dataclass(frozen=True)
class ArgMax:
    """The best class as a further output ``best: int64 [batch]``.

    :param output: the scores; default: the first output ``float [batch, classes]``
    """

    name: ClassVar[str] = "argmax"
    output: str | None = None

    def rewrite(self, form: Form, folder: Path) -> Form:
        add_argmax(form.path, folder / MODEL_NAME, _scores_of(form, self.output, self.name))
        return form.made(folder)

    def proof(self, before: Proof, form: Form, made: Form, limits: ParityLimits) -> Proof:  # noqa: ARG002
        scores = answers_in_batches(form, before.inputs)[_scores_of(form, self.output, self.name)]
        return replace(before, answers={**before.answers, BEST: scores.argmax(axis=1)})


STEPS: Mapping[str, type[Any]] = {
    step.name: step for step in (Simplify, Graph, Dimensions, FoldPreprocessing, TopK, ArgMax)
}

StepRequest = str | Mapping[str, Any]
"""A step's name, or ``{name: {argument: value}}``."""


def read_steps(requests: Sequence[StepRequest]) -> tuple[Step, ...]:
    """The steps that are asked for, in order.

    :raises BadInputError: for an unknown step or argument, or a value that cannot be
    """
    if isinstance(requests, str | Mapping) or not requests:
        raise BadInputError(f"steps: expected a list such as ['simplify', {{'top_k': {{'k': 5}}}}], got {requests!r}")
    return tuple(map(_read_step, requests))


def step_to_dict(step: Step) -> dict[str, Any]:
    """The request again, in plain JSON, with all defaults."""
    return {step.name: {key: list(value) if isinstance(value, tuple) else value for key, value in _fields(step)}}


def _read_step(request: StepRequest) -> Step:
    arguments: Any = {}
    if isinstance(request, str):
        name = request
    elif isinstance(request, Mapping) and len(request) == 1:
        name, arguments = next(iter(request.items()))
    else:
        raise BadInputError(f"steps: a step is its name or {{name: {{argument: value}}}}, got {request!r}")
    if name not in STEPS:
        raise BadInputError(f"steps: there is no step {name!r}; there is: {', '.join(STEPS)}")
    known = [field.name for field in fields(STEPS[name])]
    if not isinstance(arguments, Mapping) or (unknown := sorted(set(arguments) - set(known))):
        wrong = arguments if not isinstance(arguments, Mapping) else unknown
        raise BadInputError(f"steps: {name} does not know {wrong}; it takes: {', '.join(known) or 'nothing'}")
    step: Step = STEPS[name](**arguments)
    return step


def _fields(step: Any) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in asdict(step).items() if value is not None]


def _whole(value: Any, what: str) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{what} must be a whole number, got {value!r}") from error
    if number < 1:
        raise BadInputError(f"{what} must be 1 or more, got {number}")
    return number


def _pictures_of(form: Form) -> ImagePreprocessing:
    preprocessing: Preprocessing | None = form.manifest.preprocessing
    if not isinstance(preprocessing, ImagePreprocessing):
        raise BadInputError(
            f"dimensions: model {form.manifest.name} takes no pictures, so it has no height and width. If it takes "
            "them as floats, put the step preprocessing before this one."
        )
    return preprocessing


def _scores_of(form: Form, output: str | None, step: str) -> str:
    found = [spec for spec in form.manifest.outputs if spec.type.startswith("float") and len(spec.shape) == 2]
    names = [spec.name for spec in found]
    if output is not None and output not in names:
        raise BadInputError(f"{step}: there is no output {output!r} float [batch, classes]; there is: {names}")
    if not names:
        raise BadInputError(f"{step}: model {form.manifest.name} has no output float [batch, classes]")
    return output or names[0]


def _resized(proof: Proof, preprocessing: ImagePreprocessing) -> NDArray[np.uint8]:
    """The same pictures at another resolution, from their encoded form where there is one."""
    if proof.pictures:
        return np.stack([decode_image(picture, preprocessing) for picture in proof.pictures])
    from PIL import Image

    encoded = []
    for pixels in next(iter(proof.inputs.values())):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        encoded.append(stream.getvalue())
    return np.stack([decode_image(picture, preprocessing) for picture in encoded])
