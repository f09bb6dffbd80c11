# SPDX-License-Identifier: Apache-2.0
"""The plan for 120 million images, as the page shows it."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "planning.md").read_text()


def test_the_page_shows_what_the_call_prints() -> None:
    [call] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(call, {})  # noqa: S102  # the page's own block

    assert f"```text\n{said.getvalue()}```" in PAGE
