# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.store.processes import end_all


@pytest.fixture(autouse=True)
def processes_end() -> Iterator[None]:
    yield
    end_all()
