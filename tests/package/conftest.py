# SPDX-License-Identifier: Apache-2.0
"""What lies beside the wheel, and an environment that holds it and little else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wheel import install


@pytest.fixture(scope="session")
def sdist(wheel: Path) -> Path:
    (path,) = wheel.parent.glob("*.tar.gz")
    return path


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and its core dependencies, no extra."""
    return install(wheel, tmp_path_factory.mktemp("bare") / "env")
