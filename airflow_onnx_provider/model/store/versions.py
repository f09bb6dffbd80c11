# SPDX-License-Identifier: Apache-2.0
"""The store of model versions: ``<root>/<name>/<version>/``, on a local folder or an object store."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from airflow_onnx_provider.exceptions import BadInputError, DigestMismatchError, OnnxProviderError
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import NAME, Address, check_name, split_address
from airflow_onnx_provider.model.store.aliases import Move, last_move
from airflow_onnx_provider.model.store.claims import VersionLeavingError, claimed
from airflow_onnx_provider.model.store.storage import TRIES, StorePath, join
from airflow_onnx_provider.runtime.manifest import (
    MANIFEST_NAME,
    ModelManifest,
    digest_of_json,
    write_json,
)

VERSION = re.compile(r"[0-9a-f]{12}")
RECIPES = "_recipes"

T = TypeVar("T")


@dataclass(frozen=True)
class StoredVersion:
    """When a version came, by the clock of the store.

    :param added: its first file
    :param recorded: its manifest's last change, or the last time that a stage found the version in the store
    """

    version: str
    added: datetime
    recorded: datetime


@dataclass(frozen=True)
class ModelStore:
    """Model versions under one root.

    A version exists from the moment its manifest does: locally the finished folder is renamed into place, on an
    object store the manifest is uploaded last. Versions are named by their content, so two writers of the same
    version write the same files.

    An address is ``<root>/<name>/<version>``, or ``<root>/<name>@<alias>`` for the version that an alias names when it
    is read.

    :param root: a local ``pathlib.Path`` or an object-storage path
    """

    root: StorePath

    def add(self, folder: Path, manifest: ModelManifest) -> str:
        """Keep a finished version; a version that is there already is left as it is.

        :param folder: holds the files that ``manifest`` names
        :return: the version's address
        :raises BadInputError: if the model's name cannot be a folder name
        :raises VersionLeavingError: if this version is being removed at this moment
        """
        home = self.root / check_name(manifest.name)
        manifest.verify_files(folder)
        with claimed(home, manifest.version):
            if storage.exists(home / manifest.version / MANIFEST_NAME):
                storage.touch(home / manifest.version / MANIFEST_NAME)
            else:
                self._copy_in(folder, home / manifest.version, manifest)
        return str(home / manifest.version)

    def resolve(self, address: str) -> str:
        """The address of the version that ``address`` names now.

        What works on one version in several steps resolves once: an alias may move between two looks.

        :raises BadInputError: if the alias was never pointed at a version
        """
        return self._follow(address)[0]

    def names(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        return tuple(name for name in storage.names(self.root) if NAME.fullmatch(name) and self.stored(name))

    def versions(self, name: str) -> tuple[str, ...]:
        """A model's versions, oldest first."""
        return tuple(stored.version for stored in self.stored(name))

    def stored(self, name: str) -> tuple[StoredVersion, ...]:
        """A model's versions with their times, oldest first.

        The order is that of the files' times: a copy of the store keeps it only if it keeps these.
        """
        files = storage.below(self.root / check_name(name))
        found: dict[str, list[datetime]] = {}
        for path, changed in files.items():
            version = path.partition("/")[0]
            if VERSION.fullmatch(version) and f"{version}/{MANIFEST_NAME}" in files:
                found.setdefault(version, []).append(changed)
        every = [
            StoredVersion(version, min(times), files[f"{version}/{MANIFEST_NAME}"]) for version, times in found.items()
        ]
        return tuple(sorted(every, key=lambda stored: (stored.added, stored.version)))

    def manifest(self, address: str) -> ModelManifest:
        """Read one version's manifest.

        :raises BadInputError: if there is no such version
        """
        return self._reading(address, self._manifest)

    @contextmanager
    def local(self, address: str) -> Iterator[Path]:
        """The version as a local folder with every digest checked; a download is removed afterwards.

        A version in a local store cannot be collected while its folder is open here.

        :raises BadInputError: if there is no such version
        :raises DigestMismatchError: if a file was changed
        """
        with ExitStack() as stack:
            yield self._reading(address, lambda version: self._opened(version, stack))

    def record(
        self, address: str, change: Callable[[ModelManifest], ModelManifest], golden: Path | None = None
    ) -> ModelManifest:
        """Replace a version's manifest with one that knows more; the model itself cannot change.

        Locally under a lock; on S3 written only if nobody else wrote meanwhile, else ``change`` is asked again with
        what they wrote. On other object stores, of two records in the same moment the later one stays.

        :param address: of a version, not of an alias
        :param change: the manifest as it is now to the one that replaces it; may be called several times
        :param golden: npz file of the golden rows that the new manifest names, if they are new
        :return: the new manifest
        :raises BadInputError: if there is no such version, or ``change`` makes a manifest of another model
        """
        version = str(join(self.root, "/".join(split_address(address)[1:])))
        home = self._home(version)

        def edit(data: bytes) -> bytes:
            known = self._parsed(version, data)
            made = change(known)
            if (made.name, made.digest) != (known.name, known.digest):
                raise BadInputError(f"{version} holds another model than {made.name} {made.version}")
            if golden is not None and made.golden is not None:
                # Before the manifest that names it; named by its content, so it replaces no other.
                storage.write(join(home, made.golden.file), golden.read_bytes())
            return json.dumps(made.to_dict(), indent=2).encode()

        try:
            return self._parsed(version, storage.change(home / MANIFEST_NAME, edit))
        except FileNotFoundError as error:
            raise self._missing(version) from error

    def recall(self, name: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result that was remembered for ``recipe``, if the version it names still exists.

        That version then counts as new: a collection spares it as long as one that was just made.
        """
        try:
            result: dict[str, Any] = json.loads(storage.read(self._recipe(name, recipe)))
            _, owner, version = split_address(result["model"])
            with claimed(self.root / owner, version):
                storage.touch(self.root / owner / version / MANIFEST_NAME)
        except (FileNotFoundError, VersionLeavingError):
            return None
        # The store may have moved since: the address follows its root.
        return {**result, "model": str(self.root / owner / version)}

    def remember(self, name: str, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Keep a stage's result under everything that decided it.

        :param recipe: plain JSON; the same recipe must always mean the same result
        :param result: plain JSON with the version's address under ``model``
        """
        storage.write(self._recipe(name, recipe), json.dumps(dict(result), indent=2).encode())

    def _recipe(self, name: str, recipe: Mapping[str, Any]) -> StorePath:
        return self.root / check_name(name) / RECIPES / f"{digest_of_json(dict(recipe))[:24]}.json"

    def _home(self, version: str) -> StorePath:
        return join(self.root, "/".join(split_address(version)[1:]))

    def _follow(self, address: str) -> tuple[str, Move | None]:
        """The version's address, and the alias's move that named it."""
        parts = Address.parse(address)
        home = self.root / parts.name
        if parts.alias is None:
            return str(home / str(parts.version)), None
        move = last_move(home, parts.alias)
        if move is None:
            raise BadInputError(
                f"the alias {parts.alias!r} of {home} was never pointed at a version: promote one, or give "
                "<store>/<name>/<version>"
            )
        return str(home / move.version), move

    def _reading(self, address: str, read: Callable[[str], T]) -> T:
        """Read what ``address`` names; if an alias moved meanwhile, read what it names now instead of failing."""
        for _ in range(TRIES):
            version, move = self._follow(address)
            try:
                return read(version)
            except (BadInputError, FileNotFoundError):
                if move is None or self._follow(address)[1] == move:
                    raise
        raise OnnxProviderError(f"{address} could not be read: it moves all the time")

    def _manifest(self, version: str) -> ModelManifest:
        try:
            return self._parsed(version, storage.read(self._home(version) / MANIFEST_NAME))
        except FileNotFoundError as error:
            raise self._missing(version) from error

    def _parsed(self, version: str, data: bytes) -> ModelManifest:
        try:
            manifest = ModelManifest.from_dict(json.loads(data))
        except ValueError as error:
            raise BadInputError(f"{version}/{MANIFEST_NAME} is not JSON: {error}") from error
        if manifest.version != version.rpartition("/")[2]:
            raise DigestMismatchError(f"{version}/{MANIFEST_NAME} is that of another version, {manifest.version}")
        return manifest

    def _missing(self, version: str) -> BadInputError:
        return BadInputError(
            f"there is no model version at {version}. Give what a convert, validate or quantize task returned, "
            "<store>/<name>/<version> or <store>/<name>@<alias>."
        )

    def _opened(self, version: str, stack: ExitStack) -> Path:
        """The version's folder, verified, for as long as the stack is open."""
        home = self._home(version)
        with ExitStack() as mine:
            if isinstance(home, Path):
                try:
                    mine.enter_context(storage.held(home))
                except FileNotFoundError as error:
                    raise self._missing(version) from error
                manifest, folder = self._manifest(version), home
            else:
                manifest = self._manifest(version)
                folder = Path(mine.enter_context(tempfile.TemporaryDirectory(prefix="onnx-model-")))
                self._download(home, folder, manifest)
            manifest.verify_files(folder)
            stack.enter_context(mine.pop_all())
        return folder

    def _download(self, home: StorePath, folder: Path, manifest: ModelManifest) -> None:
        # The manifest that names these files, not one that was recorded since and may name others.
        write_json(folder / MANIFEST_NAME, manifest.to_dict())
        for relative in manifest.all_files:
            try:
                storage.download(join(home, relative), folder / relative)
            except FileNotFoundError as error:
                self._manifest(str(home))  # has the whole version been removed meanwhile?
                raise DigestMismatchError(
                    f"{home}/{relative} is missing. Delete the version and make it anew"
                ) from error

    def _copy_in(self, folder: Path, home: StorePath, manifest: ModelManifest) -> None:
        if not isinstance(home, Path):
            for relative in manifest.all_files:
                storage.upload(folder / relative, join(home, relative))
            # Not over the manifest of another writer of the same content, which may know more by now.
            storage.create(home / MANIFEST_NAME, json.dumps(manifest.to_dict(), indent=2).encode())
            return
        home.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=home.parent, prefix=f".{home.name}."))
        try:
            for relative in manifest.all_files:
                (staged / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / relative, staged / relative)
            write_json(staged / MANIFEST_NAME, manifest.to_dict())
            staged.chmod(0o755)
            try:
                staged.rename(home)
            except OSError:
                if not (home / MANIFEST_NAME).exists():  # else another writer of the same content was first
                    raise
        finally:
            shutil.rmtree(staged, ignore_errors=True)
