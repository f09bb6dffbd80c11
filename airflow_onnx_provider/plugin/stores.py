# SPDX-License-Identifier: Apache-2.0
"""The models of every store that Airflow knows: their versions, what names them, and what was measured of them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.models.connection import Connection
from airflow.secrets.environment_variables import CONN_ENV_PREFIX, EnvironmentVariablesBackend
from sqlalchemy import select

from airflow_onnx_provider.assets import scores
from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.hooks.model_store import OnnxModelStoreHook, store_of
from airflow_onnx_provider.model.card import HTML_NAME
from airflow_onnx_provider.model.cards.words import variant_name
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import NAME, Address
from airflow_onnx_provider.model.store.aliases import Aliases
from airflow_onnx_provider.model.store.versions import ModelStore
from airflow_onnx_provider.plugin.roots import NotThereError, OutsideRootsError, Roots, configured
from airflow_onnx_provider.runtime.manifest import ModelManifest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MODELS, VERSIONS = 100, 10
"""Most models of one store, and most versions of one model, that are shown."""

REMEMBERED_SECONDS = 60.0
"""How long an object store is not asked again."""


@dataclass(frozen=True)
class VersionRow:
    """One version.

    :param address: of the version
    :param added: day on which it came to the store (UTC)
    :param made: by which stage, and its variant
    :param size_bytes: None if it was not measured
    :param accuracy: share of labelled rows with the right label, 0 to 1, likewise
    :param images_per_second: likewise
    :param card: whether it has a model card
    :param trouble: why it cannot be read, empty if it can
    """

    address: str
    version: str
    added: str
    aliases: tuple[str, ...] = ()
    framework: str = ""
    made: str = ""
    size_bytes: float | None = None
    accuracy: float | None = None
    images_per_second: float | None = None
    card: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class ModelRow:
    """One model: its newest versions, and those with an alias.

    :param left_out: older versions without an alias
    """

    store: str
    name: str
    versions: tuple[VersionRow, ...]
    left_out: int


@dataclass(frozen=True)
class Store:
    """A store that Airflow knows.

    :param name: the connection's, or the root where ``[onnx] model_roots`` gives it
    :param opened: None if it could not be opened
    :param trouble: why
    """

    name: str
    opened: ModelStore | None
    trouble: str = ""


@dataclass(frozen=True)
class Shelf:
    """What a store holds.

    :param trouble: why that is not known, empty if it is
    :param left_out: models that are not shown
    """

    store: str
    models: tuple[ModelRow, ...] = ()
    trouble: str = ""
    left_out: int = 0


def known_stores(session: Session) -> list[Store]:
    """The stores of all connections of the type, in the database and the environment, and of ``[onnx] model_roots``."""
    kind = OnnxModelStoreHook.conn_type
    names = set(session.scalars(select(Connection.conn_id).where(Connection.conn_type == kind)))
    names |= set(_in_environment(kind))
    found = [_open(name, OnnxModelStoreHook(name).get_conn) for name in sorted(names)]
    roots = {str(store.opened.root) for store in found if store.opened}
    for root in configured("model_roots"):
        # The address of any model has the store's root in it.
        store = _open(root, partial(store_of, f"{root}/name/version"))
        if store.opened is None or str(store.opened.root) not in roots:
            found.append(store)
    return found


def _in_environment(kind: str) -> Iterator[str]:
    for variable in os.environ:
        if variable.startswith(CONN_ENV_PREFIX):
            name = variable.removeprefix(CONN_ENV_PREFIX).lower()
            try:
                connection = EnvironmentVariablesBackend().get_connection(name)
            except Exception:  # noqa: S112  # whatever is wrong with somebody else's connection is no matter of this page
                continue
            if connection is not None and connection.conn_type == kind:
                yield name


def _open(name: str, opening: Callable[[], ModelStore]) -> Store:
    try:
        return Store(name, opening())
    except Exception as error:  # a missing provider, a wrong root: the other stores are shown all the same
        return Store(name, None, f"{type(error).__name__}: {error}")


_remembered: dict[str, tuple[float, Shelf]] = {}
_asking = threading.Lock()


def shelf_of(store: Store) -> Shelf:
    """What a store holds now; of an object store, what it held within the last minute."""
    if store.opened is None:
        return Shelf(store.name, trouble=store.trouble)
    if isinstance(store.opened.root, Path):
        return _look(store.name, store.opened)
    key = f"{store.name} {store.opened.root}"
    since, known = _remembered.get(key, (0.0, None))
    if known is not None and time.monotonic() - since < REMEMBERED_SECONDS:
        return known
    # One request waits for a store that does not answer, the others go on.
    if not _asking.acquire(blocking=False):
        return known or Shelf(store.name, trouble="is being asked at this moment; open the page again")
    try:
        shelf = _look(store.name, store.opened)
        _remembered[key] = (time.monotonic(), shelf)
        return shelf
    finally:
        _asking.release()


def _look(name: str, store: ModelStore) -> Shelf:
    try:
        names = [one for one in storage.names(store.root) if NAME.fullmatch(one)]
        models = [model for one in names[:MODELS] if (model := _model(name, store, one))]
        return Shelf(name, tuple(models), left_out=max(0, len(names) - MODELS))
    except Exception as error:  # an object store that does not answer, in whatever words its client has for that
        return Shelf(name, trouble=f"{type(error).__name__}: {error}")


def _model(store_name: str, store: ModelStore, name: str) -> ModelRow | None:
    stored = store.stored(name)
    if not stored:
        return None
    aliases: dict[str, list[str]] = {}
    for alias, version in Aliases(store, name).all().items():
        aliases.setdefault(version, []).append(alias)
    newest = list(reversed(stored))
    shown = [one for place, one in enumerate(newest) if place < VERSIONS or one.version in aliases]
    rows = [
        _version(store, f"{store.root}/{name}/{one.version}", f"{one.added:%Y-%m-%d}", aliases.get(one.version, []))
        for one in shown
    ]
    return ModelRow(store_name, name, tuple(rows), left_out=len(newest) - len(shown))


def _version(store: ModelStore, address: str, added: str, aliases: list[str]) -> VersionRow:
    version = address.rpartition("/")[2]
    try:
        manifest = store.manifest(address)
    except OnnxProviderError as error:
        return VersionRow(address, version, added, tuple(sorted(aliases)), trouble=str(error))
    measured = scores(manifest)
    home = store.root / manifest.name / manifest.version
    return VersionRow(
        address=address,
        version=version,
        added=added,
        aliases=tuple(sorted(aliases)),
        framework=str(manifest.origin.get("framework") or ""),
        made=_made(manifest),
        size_bytes=measured.get("size_bytes") or _size(home, manifest),
        accuracy=measured.get("accuracy"),
        images_per_second=measured.get("images_per_second"),
        card=storage.exists(home / HTML_NAME),
    )


def _made(manifest: ModelManifest) -> str:
    stage = manifest.recipe.get("stage") or ("converted" if "parent" not in manifest.origin else "derived")
    variant = manifest.recipe.get("variant")
    return f"{stage}: {variant_name(variant)}" if isinstance(variant, str) else str(stage)


def _size(home: storage.StorePath, manifest: ModelManifest) -> float | None:
    """Of the files of a version in a local store."""
    if not isinstance(home, Path):
        return None
    try:
        return float(sum((home / file).stat().st_size for file in manifest.files))
    except OSError:
        return None


def read_card(stores: list[Store], model: str) -> bytes:
    """The page of a version's model card.

    :param model: the version's address, or one with an alias
    :raises OutsideRootsError: if it is in none of the stores
    :raises NotThereError: if there is no such card
    :raises BadInputError: if ``model`` is no address, or its alias names nothing
    """
    root = Address.parse(model).root
    store = next((one.opened for one in stores if one.opened and _same(one.opened.root, root)), None)
    if store is None:
        raise OutsideRootsError("this model is in no store that Airflow has a connection for")
    address = store.resolve(model)
    _, name, version = address.rsplit("/", 2)
    page = store.root / name / version / HTML_NAME
    if isinstance(page, Path):
        return Roots.of([str(store.root)]).read(page)
    try:
        return storage.read(page)
    except FileNotFoundError as error:
        raise NotThereError(f"{name} {version} has no card") from error


def _same(root: storage.StorePath, given: str) -> bool:
    if isinstance(root, Path):
        path = given.removeprefix("file://")
        return Path(path).is_absolute() and "\0" not in path and os.path.realpath(path) == os.path.realpath(root)
    return str(root) == given
