# SPDX-License-Identifier: Apache-2.0
"""The processor that this process runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_type() -> str:
    """The processor's model name, for which speeds are kept."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Cores that this process may use: its affinity and its container's limit."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
