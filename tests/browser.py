# SPDX-License-Identifier: Apache-2.0
"""A real browser: Debian's headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
"""Viewports that every page must work at, in pixels."""

THEMES = ("light", "dark")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window; what it started ends with it."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def page_of(
    browser: Any,
    size: str = "desk",
    theme: str = "light",
    *,
    cookies: Sequence[Mapping[str, Any]] = (),
    **context: Any,
) -> Iterator[Any]:
    """A page in a context of its own. Whatever it complains of in the console fails the test.

    :param size: a key of :data:`SIZES`
    :param theme: ``light`` or ``dark``
    """
    held = browser.new_context(viewport=SIZES[size], color_scheme=theme, **context)
    held.add_cookies(list(cookies))
    try:
        page = held.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page
        assert not complaints, complaints
    finally:
        held.close()


def fits(page: Any) -> bool:
    """Whether the page needs no sideways scrolling."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))
