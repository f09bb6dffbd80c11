# SPDX-License-Identifier: Apache-2.0
"""Each source file names its licence in its first lines."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.wheel import REPOSITORY

LINE = "SPDX-License-Identifier: Apache-2.0"
SOURCES = {".cfg", ".css", ".dockerfile", ".ini", ".jinja", ".js", ".py", ".sh", ".toml", ".yaml", ".yml"}
NAMED = {"Dockerfile", "Makefile"}
GENERATED = {"constraints.txt"}


def is_source(path: Path) -> bool:
    return path.suffix in SOURCES or path.name.split(".")[0] in NAMED or path.parts[:1] == (".ci",)


def test_each_source_file_names_its_licence() -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    sources = [path for path in map(Path, listed) if is_source(path) and (REPOSITORY / path).is_file()]
    without = [
        str(path)
        for path in sources
        if not any(LINE in line for line in (REPOSITORY / path).read_text().splitlines()[:3])
    ]
    assert len(sources) > 400
    assert without == []
