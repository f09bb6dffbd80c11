# SPDX-License-Identifier: Apache-2.0
"""Where things lie below an output folder; Spark and Hive readers skip every name that begins with ``_``."""

from __future__ import annotations

import re
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from airflow_onnx_provider.exceptions import BadInputError

PARTITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
RUN_FILE = "_run.json"


@dataclass(frozen=True)
class OutputLayout:
    """The paths of one output folder.

    :param root: the folder, on a file system that the Airflow worker and all executors see under this path
    """

    root: Path

    def require_writable(self) -> None:
        """Make the folder and a file in it, and remove the file.

        :raises BadInputError: if that cannot be done, with the system's reason
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise BadInputError(
                f"output_path: {self.root} cannot be written: {error.strerror}; give another, or change its rights"
            ) from error

    def published(self, partition: str) -> Path:
        return self.root / f"ds={partition}"

    def quarantine(self, partition: str) -> Path:
        return self.root / "_quarantine" / f"ds={partition}"

    def staging(self, run: str) -> Path:
        return self.root / "_staging" / run

    def run_manifest(self, run: str) -> Path:
        return self.root / "_runs" / f"{run}.json"

    def checks(self, run: str) -> Path:
        return self.root / "_checks" / f"{run}.json"

    def report(self, run: str) -> Path:
        return self.root / "_reports" / f"{run}.html"

    def history(self, partition: str, run: str) -> Path:
        return self.root / "_history" / f"ds={partition}" / run

    def history_log(self, partition: str) -> Path:
        return self.root / "_history" / "log" / f"ds={partition}.jsonl"

    def discarded(self, partition: str, run: str) -> Path:
        """Where a version of the history goes on its way out."""
        return self.root / "_history" / "discarded" / f"ds={partition}" / run

    def journal(self, partition: str) -> Path:
        return self.root / "_publish" / f"ds={partition}.json"

    def published_partitions(self) -> list[str]:
        """All published partitions in sorted order."""
        return sorted(path.name.removeprefix("ds=") for path in self.root.glob("ds=*") if (path / RUN_FILE).is_file())

    def partitions_with_history(self) -> list[str]:
        """All partitions of which a version was replaced, in sorted order."""
        return sorted(path.name.removeprefix("ds=") for path in (self.root / "_history").glob("ds=*"))


def new_run_name(label: str) -> str:
    """Name a run that no other run is called by, and that can be part of a path.

    :param label: what a person shall recognise it by, such as Airflow's run id
    """
    return f"{re.sub('[^A-Za-z0-9]+', '-', label).strip('-')[:60]}-{uuid.uuid4().hex[:8]}"


def check_partition(partition: str) -> str:
    """Return ``partition`` if it can be part of a path.

    :raises BadInputError: otherwise
    """
    if not PARTITION.fullmatch(partition) or ".." in partition:
        raise BadInputError(
            f"{partition!r} cannot name a partition: use a date such as 2026-01-31, or letters, digits and . _ -"
        )
    return partition


def local_path(path: str, what: str) -> Path:
    """An absolute local path.

    :raises BadInputError: for a URL, because rows are read and moved with the file system's own calls
    """
    if "://" in path and not path.startswith("file://"):
        raise BadInputError(
            f"{what}: {path} is a URL. Give a path on a file system that the Airflow worker and the executors both "
            "see, for example a mounted bucket or a network share."
        )
    return Path(path.removeprefix("file://")).expanduser().absolute()
