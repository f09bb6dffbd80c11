# SPDX-License-Identifier: Apache-2.0
"""The few things a model store does with files, locally and in an object store, beside others who do the same.

Object stores are reached through fsspec, by paths such as Airflow's ``ObjectStoragePath``. fsspec remembers listings;
everything here looks anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from airflow_onnx_provider.exceptions import BadInputError, OnnxProviderError, needs_extra

TRIES = 50
LOCK_NAME = ".lock"
MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""What fsspec's file systems call the time of a file's last change."""
BEATEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409", "OperationAborted"})
"""S3's ways to say that somebody else was faster."""


class StorePath(Protocol):
    """The part of ``pathlib.Path`` that the store needs; object-storage paths have it too."""

    @property
    def name(self) -> str: ...
    @property
    def parent(self) -> StorePath: ...
    def __truediv__(self, other: str) -> StorePath: ...


def join(home: StorePath, relative: str) -> StorePath:
    """``home`` and a relative path of several parts."""
    for part in PurePosixPath(relative).parts:
        home = home / part
    return home


def read(path: StorePath) -> bytes:
    """The file's bytes as they are now.

    :raises FileNotFoundError: if there is none
    """
    if isinstance(path, Path):
        return path.read_bytes()
    return _fetch(*_remote(path))


def exists(path: StorePath) -> bool:
    """Whether there is such a file now."""
    if isinstance(path, Path):
        return path.is_file()
    files, key = _remote(path)
    files.invalidate_cache()
    return bool(files.isfile(key))


def write(path: StorePath, data: bytes) -> None:
    """Write or replace a file; a reader sees the old one or the whole new one."""
    if isinstance(path, Path):
        with _temporary(path, data) as temporary:
            temporary.replace(path)
    else:
        files, key = _remote(path)
        files.pipe_file(key, data)


def create(path: StorePath, data: bytes) -> bool:
    """Write a file that must not exist yet, whole or not at all; of several who try at once one succeeds.

    On an object store this needs a conditional write (S3's ``If-None-Match``, and what fsspec calls ``create`` for
    others). Where the service says that it has none, the file is looked for and then written: two who do that in the
    same moment may both believe that they made it.

    :return: whether this call made it. A file with the very same bytes counts as made: it is the trace of a request
        that was repeated because its first answer got lost
    """
    if isinstance(path, Path):
        with _temporary(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return path.read_bytes() == data
            except OSError as error:
                raise BadInputError(
                    f"{path.parent} is on a file system without hard links ({error.strerror}), which a model store "
                    "needs to move an alias safely; keep the store on another one, or in an object store"
                ) from error
        return True
    files, key = _remote(path)
    for _ in range(TRIES):
        try:
            files.pipe_file(key, data, mode="create")
        except FileExistsError:
            return read(path) == data
        except (OSError, NotImplementedError) as error:
            if _code(error) in {"NotImplemented", "501"} or isinstance(error, NotImplementedError):
                if exists(path):
                    return read(path) == data
                files.pipe_file(key, data)
                return True
            if _code(error) not in BEATEN:
                raise
            _pause()
        else:
            return True
    raise OnnxProviderError(f"{path} could not be written: others keep writing it")


def change(path: StorePath, edit: Callable[[bytes], bytes]) -> bytes:
    """Read, change and replace a file so that no change made by others meanwhile is lost.

    Locally under a lock (``flock`` on ``.lock`` in the folder above the file's). On S3 the new bytes are written only
    if the old ones are still there (``If-Match``), and else ``edit`` is asked again. Other object stores have no such
    write in fsspec: there, of two changes in the same moment, the later one stays.

    :param edit: the old bytes to the new ones; may be called several times
    :return: the new bytes
    :raises FileNotFoundError: if there is no such file
    """
    if isinstance(path, Path):
        with _locked(path.parent.parent / LOCK_NAME, missing=path):
            changed = edit(path.read_bytes())
            write(path, changed)
            return changed
    files, key = _remote(path)
    conditional = _is_s3(files)
    for _ in range(TRIES):
        files.invalidate_cache()
        # The tag before the bytes: if they change in between, the write is refused.
        condition = {"IfMatch": files.info(key)["ETag"]} if conditional else {}
        changed = edit(_fetch(files, key))
        try:
            files.pipe_file(key, changed, **condition)
        except OSError as error:
            if _code(error) not in BEATEN:
                raise
            _pause()
        else:
            return changed
    raise OnnxProviderError(f"{path} could not be changed: others keep changing it")


def touch(path: StorePath) -> None:
    """Make a file's last change now, without changing it.

    :raises FileNotFoundError: if there is no such file
    """
    if isinstance(path, Path):
        with contextlib.suppress(PermissionError):  # somebody else's file
            os.utime(path)
    else:
        change(path, lambda data: data)


def upload(source: Path, target: StorePath) -> None:
    """Copy a local file into an object store, without holding it in memory."""
    files, key = _remote(target)
    files.put_file(str(source), key)


def download(source: StorePath, target: Path) -> None:
    """Copy a file of an object store to this machine, without holding it in memory.

    :raises FileNotFoundError: if there is none
    """
    files, key = _remote(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    files.get_file(key, str(target))


def remove(path: StorePath) -> None:
    """Remove a file; none is fine too."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return
    files, key = _remote(path)
    with contextlib.suppress(FileNotFoundError):
        files.rm_file(key)
    files.invalidate_cache()


def names(folder: StorePath) -> list[str]:
    """Sorted names of what is directly in a folder; a folder that does not exist holds nothing."""
    if isinstance(folder, Path):
        try:
            return sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is needed
        except FileNotFoundError:
            return []
    files, key = _remote(folder)
    files.invalidate_cache()
    try:
        found = files.ls(key, detail=False)
    except FileNotFoundError:
        return []
    finally:
        files.invalidate_cache()
    # s3fs lists a folder's own placeholder too.
    return sorted({PurePosixPath(entry).name for entry in found if entry.strip("/") != key.strip("/")})


def below(folder: StorePath) -> dict[str, datetime]:
    """Relative path to the time of the last change (UTC) of every file below a folder."""
    if isinstance(folder, Path):
        found: dict[str, datetime] = {}
        for parent, _, entries in os.walk(folder):
            for entry in entries:
                path = Path(parent, entry)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    found[path.relative_to(folder).as_posix()] = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
        return found
    files, key = _remote(folder)
    files.invalidate_cache()
    try:
        entries = files.find(key, detail=True)
    except FileNotFoundError:
        return {}
    finally:
        files.invalidate_cache()
    start = len(key.strip("/")) + 1
    return {name.strip("/")[start:]: _modified(files, name, info) for name, info in entries.items()}


def discard(folder: StorePath, first: str) -> None:
    """Remove a folder: locally it vanishes at once, on an object store the file ``first`` goes first.

    :raises BlockingIOError: if a local reader holds it, see :func:`held`
    """
    if not isinstance(folder, Path):
        for relative in sorted(below(folder), key=lambda name: (name != first, name)):
            remove(join(folder, relative))
        return
    gone = folder.parent / f".removed.{folder.name}.{os.getpid()}.{random.getrandbits(32):08x}"
    with _folder_lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a local folder against :func:`discard` by other processes, as far as its file system has ``flock``.

    :raises FileNotFoundError: if it does not exist, or has just been removed
    """
    with _folder_lock(folder, fcntl.LOCK_SH) as handle:
        if not os.path.samestat(os.fstat(handle), folder.stat()):
            raise FileNotFoundError(f"{folder} was replaced")
        yield


@contextlib.contextmanager
def _folder_lock(folder: Path, kind: int) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, kind)
        except BlockingIOError:
            raise
        except OSError:  # a network file system without locks on folders: there, a version's age protects it
            pass
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(path: Path, missing: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise FileNotFoundError(str(missing))
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _temporary(path: Path, data: bytes) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; other users of the store must read it
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _remote(path: Any) -> tuple[Any, str]:
    """The fsspec file system and the path in it.

    :raises BadInputError: if the package that knows such addresses is not installed
    """
    try:
        try:
            files = path.fs
        except ValueError:  # Airflow knows no connection type for it; fsspec itself may know it
            files = path.__wrapped__.fs
    except ImportError as error:
        if path.protocol in ("s3", "s3a"):
            with needs_extra("s3", f"the store {path}"):
                raise
        raise BadInputError(f"the store {path} cannot be opened in this Python: {error}") from error
    return files, path.path


def _fetch(files: Any, key: str) -> bytes:
    files.invalidate_cache()
    # In one request: s3fs would ask for the size first, to read a large file in parts at once.
    data: bytes = files.cat_file(key, max_concurrency=1) if _is_s3(files) else files.cat_file(key)
    return data


def _is_s3(files: Any) -> bool:
    return "s3" in files.protocol


def _modified(files: Any, name: str, info: dict[str, Any]) -> datetime:
    said = next((info[key] for key in MODIFIED if info.get(key)), None) or files.modified(name)
    if isinstance(said, str):
        said = datetime.fromisoformat(said)
    elif isinstance(said, (int, float)):
        said = datetime.fromtimestamp(said, UTC)
    moment: datetime = said
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _code(error: BaseException) -> str:
    answer = getattr(error.__cause__ or error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def _pause() -> None:
    time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - so that those who met once do not meet again
