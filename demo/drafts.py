# SPDX-License-Identifier: Apache-2.0
"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a draft folder to fill; it takes the name of `folder` when the block ends well, else it is thrown away.

    The draft is a hidden sibling, which Spark and Hive readers skip.

    :raises FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there but not complete, so it was not made here; move it away first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # mkdtemp's folder is private to its owner; the cluster may read as another user.
        draft.chmod(0o755)
        yield draft
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
