# SPDX-License-Identifier: Apache-2.0
"""The threat model names a test for what it claims; each is there."""

from __future__ import annotations

import re

from tests.wheel import REPOSITORY


def test_each_test_that_the_threat_model_names_is_there() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text()
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    functions = set(re.findall(r"`(test_\w+)`", page))
    known = "\n".join((REPOSITORY / file).read_text() for file in sorted(files))

    assert len(files) > 10
    assert len(functions) > 10
    assert [name for name in sorted(functions) if f"def {name}(" not in known] == []
