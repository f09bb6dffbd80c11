# SPDX-License-Identifier: Apache-2.0
"""Which folders the pages may read, and how a file below them is opened without being led astray."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airflow.configuration import conf

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.spark.layout import OutputLayout

RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,249}")
LARGEST = 64 * 1024 * 1024
"""Bytes of a page or record; more is not read into the server's memory."""


class OutsideRootsError(BadInputError):
    """A path that is not below any folder which the pages may read."""


class NotThereError(BadInputError):
    """Nothing is under this name."""


def configured(option: str) -> tuple[str, ...]:
    """The entries of an option of Airflow's section ``onnx``, which commas or line ends separate."""
    listed = conf.get("onnx", option, fallback="") or ""
    return tuple(entry.strip() for entry in re.split(r"[,\n]", listed) if entry.strip())


@dataclass(frozen=True)
class Roots:
    """Local folders that the pages may read, links in their own paths followed.

    :param folders: absolute
    """

    folders: tuple[Path, ...]

    @classmethod
    def of(cls, paths: Iterable[str]) -> Roots:
        """Of these, what is absolute and local."""
        local = (path.removeprefix("file://") for path in paths)
        return cls(tuple(Path(os.path.realpath(path)) for path in local if _plain(path)))

    def inside(self, path: str | os.PathLike[str]) -> Path:
        """Where ``path`` really is, links followed.

        :raises OutsideRootsError: if that is not one of the folders, nor below one
        """
        given = os.fspath(path).removeprefix("file://")
        real = Path(os.path.realpath(given)) if _plain(given) else None
        if real is None or not any(real == folder or folder in real.parents for folder in self.folders):
            raise OutsideRootsError("this path is not below a folder that the administrator has opened to these pages")
        return real

    def read(self, path: Path) -> bytes:
        """The content of a file that really is below one of the folders.

        :raises OutsideRootsError: if it is not
        :raises NotThereError: if there is no such file, or it is no plain file, or too large
        """
        real = self.inside(path)
        try:
            # What may have been put there since the look: a link is not followed, a pipe is not waited for.
            with os.fdopen(os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                    raise NotThereError(f"{path.name} is no plain file of at most {LARGEST // 2**20} MiB")
                return file.read()
        except OSError as error:
            raise NotThereError(f"{path.name}: {error.strerror}") from error

    def layout(self, output: str) -> OutputLayout:
        """The paths below an output folder.

        :raises OutsideRootsError: if it is not below one of the folders
        """
        return OutputLayout(self.inside(output))


def check_run(run: str) -> str:
    """Return ``run`` if it can be a run's name.

    :raises NotThereError: otherwise
    """
    if not RUN.fullmatch(run) or ".." in run:
        raise NotThereError("no run has such a name")
    return run


def output_roots() -> Roots:
    """What ``[onnx] output_roots`` opens."""
    return Roots.of(configured("output_roots"))


def _plain(path: str) -> bool:
    return Path(path).is_absolute() and "\0" not in path and ".." not in Path(path).parts
