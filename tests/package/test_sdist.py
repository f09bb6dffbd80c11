# SPDX-License-Identifier: Apache-2.0
"""The sdist: what is needed to build and to test, and nothing that git ignores."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.wheel import REPOSITORY

MADE = {"PKG-INFO"}
"""What the build itself writes."""


@pytest.fixture(scope="module")
def names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def known_to_git() -> set[str]:
    """All files of the checkout that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (REPOSITORY / name).exists()}


def test_it_holds_nothing_that_git_ignores(names: set[str]) -> None:
    assert names - MADE <= known_to_git()
    assert {name for name in names if name.startswith(".")} == {".gitignore"}, "folders of tools are no sources"


@pytest.mark.parametrize("folder", ["airflow_onnx_provider", "benchmarks", "dags", "demo", "docker", "docs", "tests"])
def test_it_holds_each_folder_whole(names: set[str], folder: str) -> None:
    assert {name for name in known_to_git() if name.startswith(f"{folder}/")} <= names


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "constraints.txt"]
)
def test_it_holds_what_builds_and_describes_it(names: set[str], name: str) -> None:
    assert name in names
