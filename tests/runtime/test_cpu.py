# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from airflow_onnx_provider.runtime.cpu import available_cores, cpu_type


def test_the_processor_has_the_name_that_linux_gives_it() -> None:
    known = Path("/proc/cpuinfo").read_text()

    assert cpu_type()
    assert cpu_type() in known or "model name" not in known


def test_without_that_file_it_still_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(path: Path) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "read_text", unreadable)

    assert cpu_type()


def test_a_process_may_use_no_more_cores_than_its_affinity() -> None:
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("900000 100000", 8),
        ("?", 8),
    ],
)
def test_a_container_may_use_the_cores_of_its_limit(monkeypatch: pytest.MonkeyPatch, limit: str, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(Path, "read_text", lambda path: limit)

    assert available_cores() == cores
