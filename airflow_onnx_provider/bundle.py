# SPDX-License-Identifier: Apache-2.0
"""The package without its Airflow face, as one zip that another Python can import from."""

from __future__ import annotations

import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parent
ALWAYS = ("__init__.py", "exceptions.py", "bundle.py")


def write_bundle(target: Path, floors: tuple[str, ...]) -> Path:
    """Zip the given floors' Python files with the few modules that every floor needs.

    :param floors: folder names, for example ``("runtime", "spark")``
    :return: ``target``
    """
    files = [PACKAGE / name for name in ALWAYS]
    for floor in floors:
        files.extend(sorted((PACKAGE / floor).rglob("*.py")))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for file in files:
            bundle.write(file, Path(PACKAGE.name) / file.relative_to(PACKAGE))
    return target
