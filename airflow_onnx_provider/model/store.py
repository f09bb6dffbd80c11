"""The store of model versions: ``<root>/<name>/<version>/``, on a local folder or an object store."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    ModelManifest,
    digest_of_json,
    write_json,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class StorePath(Protocol):
    """The part of ``pathlib.Path`` that the store needs; object-storage paths have it too."""

    def __truediv__(self, other: str) -> StorePath: ...
    def exists(self) -> bool: ...
    def read_bytes(self) -> bytes: ...
    def write_bytes(self, data: bytes) -> int: ...
    def mkdir(self, mode: int = ..., parents: bool = ..., exist_ok: bool = ...) -> None: ...
    def unlink(self, missing_ok: bool = ...) -> None: ...


@dataclass(frozen=True)
class ModelStore:
    """Model versions under one root.

    A version exists from the moment its manifest does: locally the finished folder is renamed into place, on an
    object store the manifest is uploaded last. Versions are named by their content, so two writers of the same
    version write the same files.

    :param root: a local ``pathlib.Path`` or an object-storage path
    """

    root: StorePath

    def add(self, folder: Path, manifest: ModelManifest) -> str:
        """Keep a finished version; a version that is there already is left as it is.

        :param folder: holds the files that ``manifest`` names
        :return: the version's address
        :raises BadInputError: if the model's name cannot be a folder name
        """
        check_name(manifest.name)
        manifest.verify_files(folder)
        home = self.root / manifest.name / manifest.version
        if not (home / MANIFEST_NAME).exists():
            write_json(folder / MANIFEST_NAME, manifest.to_dict())
            self._copy_in(folder, home, manifest)
        return str(home)

    def manifest(self, address: str) -> ModelManifest:
        """Read one version's manifest.

        :raises BadInputError: if there is no such version
        """
        home = self._home(address)
        try:
            data = json.loads((home / MANIFEST_NAME).read_bytes())
        except FileNotFoundError as error:
            raise BadInputError(
                f"there is no model version at {address}. Give what a convert, validate or quantize task returned, "
                "or <store>/<name>/<version>."
            ) from error
        except ValueError as error:
            raise BadInputError(f"{address}/{MANIFEST_NAME} is not JSON: {error}") from error
        return ModelManifest.from_dict(data)

    @contextmanager
    def local(self, address: str) -> Iterator[Path]:
        """The version as a local folder with every digest checked; a download is removed afterwards.

        :raises BadInputError: if there is no such version
        :raises DigestMismatchError: if a file was changed
        """
        manifest = self.manifest(address)
        home = self._home(address)
        if isinstance(home, Path):
            manifest.verify_files(home)
            yield home
            return
        with tempfile.TemporaryDirectory(prefix="onnx-model-") as temporary:
            folder = Path(temporary)
            for relative in [MANIFEST_NAME, *manifest.all_files]:
                target = folder / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_join(home, relative).read_bytes())
            manifest.verify_files(folder)
            yield folder

    def record(self, address: str, manifest: ModelManifest, golden: Path | None = None) -> None:
        """Replace a version's manifest with one that knows more; the model itself cannot change.

        :param golden: npz file of the golden rows that ``manifest`` names, if they are new
        :raises BadInputError: if ``manifest`` describes another model
        """
        if self.manifest(address).digest != manifest.digest:
            raise BadInputError(f"{address} holds another model than {manifest.name} {manifest.version}")
        home = self._home(address)
        if golden is not None and manifest.golden is not None:
            self._write(_join(home, manifest.golden.file), golden.read_bytes())
        self._write(home / MANIFEST_NAME, json.dumps(manifest.to_dict(), indent=2).encode())

    def recall(self, name: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result that was remembered for ``recipe``, if the version it names still exists."""
        path = self._recipe(name, recipe)
        if not path.exists():
            return None
        result: dict[str, Any] = json.loads(path.read_bytes())
        home = self._home(result["model"])
        # The store may have moved since: the address follows its root.
        return {**result, "model": str(home)} if (home / MANIFEST_NAME).exists() else None

    def remember(self, name: str, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a stage's result under everything that decided it.

        :param recipe: plain JSON; the same recipe must always mean the same result
        :param result: plain JSON with the version's address under ``model``
        """
        path = self._recipe(name, recipe)
        self._write(path, json.dumps(dict(result), indent=2).encode())

    def _recipe(self, name: str, recipe: Mapping[str, Any]) -> StorePath:
        return self.root / check_name(name) / "_recipes" / f"{digest_of_json(dict(recipe))[:24]}.json"

    def _home(self, address: str) -> StorePath:
        name, version = split_address(address)[1:]
        return self.root / name / version

    def _copy_in(self, folder: Path, home: StorePath, manifest: ModelManifest) -> None:
        files = list(manifest.all_files)
        if not isinstance(home, Path):
            for relative in files:
                self._write(_join(home, relative), (folder / relative).read_bytes())
            self._write(home / MANIFEST_NAME, (folder / MANIFEST_NAME).read_bytes())
            return
        home.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
        try:
            for relative in [*files, MANIFEST_NAME]:
                (staged / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / relative, staged / relative)
            staged.chmod(0o755)
            try:
                staged.rename(home)
            except OSError:
                if not (home / MANIFEST_NAME).exists():  # else another writer of the same content was first
                    raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _write(self, path: StorePath, data: bytes) -> None:
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
                file.write(data)
            Path(file.name).chmod(0o644)
            Path(file.name).rename(path)
        else:
            path.write_bytes(data)


def check_name(name: str) -> str:
    """Return ``name`` if it can be a model's or version's folder name.

    :raises BadInputError: otherwise
    """
    if not NAME.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot name a model: use up to 100 letters, digits, '.', '_' and '-', not starting with a sign"
        )
    return name


def split_address(address: str) -> tuple[str, str, str]:
    """``<root>/<name>/<version>`` as (root, name, version).

    :raises BadInputError: if the address has no such form
    """
    parts = address.rstrip("/").rsplit("/", 2)
    if len(parts) != 3 or not all(NAME.fullmatch(part) for part in parts[1:]):
        raise BadInputError(f"{address!r} is no model address; one looks like <store>/<name>/<version>")
    return parts[0] or "/", parts[1], parts[2]


def _join(home: StorePath, relative: str) -> StorePath:
    for part in PurePosixPath(relative).parts:
        home = home / part
    return home
