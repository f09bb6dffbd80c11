# SPDX-License-Identifier: Apache-2.0
"""The model's manifest: what a model version says about itself, as the executors and the store read it.

A model version is a folder ``<store>/<name>/<version>/`` with ``model.onnx``, ``manifest.json`` and ``golden/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, Preprocessing, preprocessing_from_dict

MANIFEST_NAME = "manifest.json"
MODEL_NAME = "model.onnx"
FORMAT = 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    :param name: as the graph calls it
    :param type: ONNX element type in lower case, for example ``uint8`` or ``float``
    :param shape: one entry an axis: a size, or a name for an axis that varies
    """

    name: str
    type: str
    shape: tuple[int | str, ...]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TensorSpec:
        return cls(data["name"], data["type"], tuple(data["shape"]))

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "type": self.type, "shape": list(self.shape)}


@dataclass(frozen=True)
class Golden:
    """A few real inputs with the answers of the accepted model (``inputs`` and ``answers`` in an npz file).

    :param sha256: digest of the npz file
    :param tolerance: largest accepted absolute difference of any output value, in the output's own unit
    """

    sha256: str
    tolerance: float

    @property
    def file(self) -> str:
        """Where it lies in the version's folder.

        Named by its content: new golden rows never take the place of those that a manifest in use names.
        """
        return f"golden/{self.sha256[:12]}.npz"

    @classmethod
    def keep(cls, rows: Path, folder: Path, tolerance: float) -> Golden:
        """Move an npz file to its place in a version's folder."""
        golden = cls(sha256_of_file(rows), tolerance)
        (folder / golden.file).parent.mkdir(exist_ok=True)
        rows.rename(folder / golden.file)
        return golden


@dataclass(frozen=True)
class ModelManifest:
    """Everything that is known about one model version.

    :param name: the model's name in its store
    :param files: relative path to sha256, for each file that the runtime loads
    :param inputs: the graph's inputs
    :param outputs: the graph's outputs
    :param opset: version of the default operator set
    :param domains: domains of the nodes' operators
    :param preprocessing: how pictures or tokens become the inputs, or None for models that take plain columns
    :param labels: the class names in output order; empty when unknown
    :param origin: framework, source sha256, converter and its version, parent version
    :param recipe: what was done to the parent, for example the quantisation settings
    :param checks: what was checked, with what result
    :param speed: measurements: CPU type, threads, batch, images per second
    :param golden: the golden rows, or None until the model is validated
    """

    name: str
    files: Mapping[str, str]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    domains: tuple[str, ...]
    preprocessing: Preprocessing | None
    labels: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)
    speed: tuple[Mapping[str, Any], ...] = ()
    golden: Golden | None = None

    @property
    def digest(self) -> str:
        """sha256 over what decides the answers: the model's files, its preprocessing and its labels."""
        content = {
            "files": dict(sorted(self.files.items())),
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "labels": list(self.labels),
        }
        return digest_of_json(content)

    @property
    def version(self) -> str:
        """The version's folder name: the first twelve digits of the digest."""
        return self.digest[:12]

    def best_speed(self, cpu: str) -> Mapping[str, Any] | None:
        """The fastest measurement a core on this type of CPU, None if never measured.

        Those that include decoding say more, and come first.
        """
        rows = [row for row in self.speed if row["cpu"] == cpu]
        return max(
            rows,
            key=lambda row: (
                row.get("decode_included", False),  # rows of earlier versions do not say
                float(row["images_per_second"]) / int(row["threads"]),
            ),
            default=None,
        )

    @property
    def image_preprocessing(self) -> ImagePreprocessing:
        """How a picture becomes this model's input.

        :raises BadInputError: if the model takes no pictures
        """
        if not isinstance(self.preprocessing, ImagePreprocessing):
            raise BadInputError(f"model {self.name} has no image preprocessing, so it cannot score pictures")
        return self.preprocessing

    @property
    def all_files(self) -> dict[str, str]:
        """Relative path to sha256 of everything that belongs to the version beside this manifest."""
        return {**self.files, **({self.golden.file: self.golden.sha256} if self.golden else {})}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "files": dict(self.files),
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
            "opset": self.opset,
            "domains": list(self.domains),
            "preprocessing": self.preprocessing.to_dict() if self.preprocessing else None,
            "labels": list(self.labels),
            "origin": dict(self.origin),
            "recipe": dict(self.recipe),
            "checks": dict(self.checks),
            "speed": [dict(row) for row in self.speed],
            "golden": asdict(self.golden) if self.golden else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelManifest:
        """Inverse of :meth:`to_dict`.

        :raises BadInputError: for another format, or a file name that would leave the folder
        :raises DigestMismatchError: if the recorded digest does not follow from the content
        """
        if not isinstance(data, Mapping):
            raise BadInputError(f"{MANIFEST_NAME} is not a model manifest: it holds a {type(data).__name__}")
        if data.get("format") != FORMAT:
            raise BadInputError(f"{MANIFEST_NAME} has format {data.get('format')!r}; this version reads {FORMAT}")
        try:
            manifest = cls(
                name=data["name"],
                files={checked_relative(path): sha for path, sha in data["files"].items()},
                inputs=tuple(TensorSpec.from_dict(spec) for spec in data["inputs"]),
                outputs=tuple(TensorSpec.from_dict(spec) for spec in data["outputs"]),
                opset=int(data["opset"]),
                domains=tuple(data["domains"]),
                preprocessing=preprocessing_from_dict(data["preprocessing"]) if data["preprocessing"] else None,
                labels=tuple(data["labels"]),
                origin=data["origin"],
                recipe=data["recipe"],
                checks=data["checks"],
                speed=tuple(data["speed"]),
                golden=Golden(**data["golden"]) if data["golden"] else None,
            )
            recorded = data["digest"]
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInputError(f"{MANIFEST_NAME} is not a model manifest: {error!r}") from error
        if recorded != manifest.digest:
            raise DigestMismatchError(
                f"{MANIFEST_NAME} of {manifest.name} was changed: it records the digest {recorded[:12]}…, "
                f"its content gives {manifest.digest[:12]}…"
            )
        return manifest

    @classmethod
    def read(cls, folder: Path) -> ModelManifest:
        """Read ``folder/manifest.json``.

        :raises BadInputError: if there is none or it is not JSON
        """
        path = folder / MANIFEST_NAME
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise BadInputError(
                f"{folder} is no model version: it has no {MANIFEST_NAME}. Give the address that the convert, "
                "validate or quantize task returned."
            ) from error
        except ValueError as error:
            raise BadInputError(f"{path} is not JSON: {error}") from error
        return cls.from_dict(data)

    def verify_files(self, folder: Path) -> None:
        """Compare each file in ``folder`` with its recorded digest.

        :raises DigestMismatchError: naming the first file that is missing or differs
        """
        for relative, sha in self.all_files.items():
            path = folder / relative
            actual = sha256_of_file(path) if path.is_file() else "no such file"
            if actual != sha:
                raise DigestMismatchError(
                    f"{path} is not the file that was recorded for {self.name} {self.version}: "
                    f"expected sha256 {sha[:12]}…, found {actual[:12]}. "
                    "Restore it, or delete the version and make it anew"
                )


def size_of(folder: Path, manifest: ModelManifest) -> int:
    """Bytes of the model's files, external data included."""
    return sum((folder / file).stat().st_size for file in manifest.files)


def require_scorable(manifest: ModelManifest) -> None:
    """Refuse, before anything runs, a model that the scorer cannot feed or read.

    :raises BadInputError: naming the tensor and what was expected
    """
    pre = manifest.image_preprocessing
    if len(manifest.inputs) != 1 or manifest.inputs[0].type != "uint8" or manifest.inputs[0].shape[1:] != pre.shape:
        found = ", ".join(f"{spec.name}: {spec.type} {list(spec.shape)}" for spec in manifest.inputs)
        raise BadInputError(f"model {manifest.name}: expected one input uint8 [batch, {pre.shape}], found {found}")
    output = manifest.outputs[0]
    if len(output.shape) != 2 or output.type != "float":
        raise BadInputError(
            f"model {manifest.name}: expected the output float [batch, classes], found {output.name}: {output.type} "
            f"{list(output.shape)}"
        )
    classes = output.shape[1]
    if manifest.labels and isinstance(classes, int) and classes != len(manifest.labels):
        raise BadInputError(f"model {manifest.name}: {classes} classes, but {len(manifest.labels)} labels")


def checked_relative(path: str) -> str:
    """Return ``path`` if it stays inside its folder.

    :raises BadInputError: for an absolute path or one with ``..``
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BadInputError(f"the path {path!r} would leave its folder")
    return path


def sha256_of_file(path: Path) -> str:
    """Hex sha256 of one file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_json(value: Any) -> str:
    """Hex sha256 of a JSON value, independent of key order and white space."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the whole new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private; other users of the folder must read it
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
