# SPDX-License-Identifier: Apache-2.0
"""The site as it is built: no warning, no link that leads nowhere, nothing that is fetched from elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

import airflow_onnx_provider
from tests.browser import SIZES, THEMES, chromium, fits, page_of

DOCS = Path(__file__).parents[2] / "docs"
HEAVY = (
    "duckdb",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "pyspark",
    "sklearn",
    "tensorflow",
    "torch",
    "xgboost",
)
BUILD = f"""
import json, sys
from sphinx.cmd.build import main
status = main(sys.argv[1:])
print("imported:", json.dumps(sorted(set({HEAVY}) & set(sys.modules))))
sys.exit(status)
"""
FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page:
    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def soup(self) -> BeautifulSoup:
        return BeautifulSoup(self.path.read_text(), "html.parser")

    @cached_property
    def anchors(self) -> set[str]:
        return {str(tag[name]) for name in ("id", "name") for tag in self.soup.find_all(attrs={name: True})}

    def links(self, within: Tag | None = None) -> Iterator[str]:
        """Every address that the page names, whether a reader follows it or the browser."""
        for tag, attribute in {**FETCHED, "a": "href"}.items():
            for found in (within or self.soup).find_all(tag, {attribute: True}):
                yield str(found[attribute])

    def target(self, link: str) -> tuple[Path, str]:
        """The file and the anchor that a link within the site leads to."""
        address, anchor = urldefrag(link)
        return ((self.path.parent / unquote(urlsplit(address).path)).resolve() if address else self.path), unquote(
            anchor
        )


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).scheme or link.startswith("//")) and not link.startswith("data:")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site's folder, and what Sphinx said."""
    folder = tmp_path_factory.mktemp("site").resolve()
    options = [
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "-d",
        str(folder / "doctrees"),
        str(DOCS),
        str(folder / "html"),
    ]
    done = subprocess.run([sys.executable, "-c", BUILD, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html", done.stdout


@pytest.fixture(scope="module")
def pages(built: tuple[Path, str]) -> Mapping[Path, Page]:
    return {path: Page(path) for path in built[0].rglob("*.html") if "_static" not in path.parts}


def test_the_site_is_built_without_a_framework(built: tuple[Path, str]) -> None:
    assert json.loads(built[1].rpartition("imported:")[2]) == []


def test_no_link_leads_nowhere(built: tuple[Path, str], pages: Mapping[Path, Page]) -> None:
    wrong = []
    for page in pages.values():
        for link in {link for link in page.links() if not is_elsewhere(link) and not link.startswith("data:")}:
            file, anchor = page.target(link)
            there = file.is_file() and (not anchor or file not in pages or anchor in pages[file].anchors)
            if not there:
                wrong.append(f"{page.path.relative_to(built[0])}: {link}")
    assert not wrong


def test_every_page_is_in_the_navigation(built: tuple[Path, str], pages: Mapping[Path, Page]) -> None:
    start = built[0] / "index.html"
    seen, ahead = {start}, [start]
    while ahead:
        page = pages[ahead.pop()]
        for nav in page.soup.find_all("nav"):
            found = {page.target(link)[0] for link in page.links(nav) if not is_elsewhere(link)}
            ahead += (new := sorted((found & set(pages)) - seen))
            seen.update(new)
    wanted = {built[0] / path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert not wanted - seen


def test_nothing_is_fetched_from_elsewhere(built: tuple[Path, str], pages: Mapping[Path, Page]) -> None:
    fetched = {
        str(found[attribute])
        for page in pages.values()
        for tag, attribute in FETCHED.items()
        for found in page.soup.find_all(tag, {attribute: True})
        if tag != "link" or set(found.get("rel") or ()) & {"stylesheet", "icon", "preload", "modulepreload", "manifest"}
    }
    styles = "".join(path.read_text(errors="replace") for path in built[0].rglob("*.css"))

    assert not [link for link in fetched if is_elsewhere(link)]
    assert not re.findall(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^)\"']+", styles)


def test_every_public_name_is_in_the_reference(built: tuple[Path, str], pages: Mapping[Path, Page]) -> None:
    there = set().union(*(page.anchors for path, page in pages.items() if path.parent.name == "reference"))
    public = {f"airflow_onnx_provider.{name}" for name in airflow_onnx_provider.__all__ if name != "__version__"}

    assert not public - there


def test_operators_tell_their_template_fields(built: tuple[Path, str], pages: Mapping[Path, Page]) -> None:
    text = pages[built[0] / "reference" / "airflow.html"].soup.get_text()
    operators = [name for name in airflow_onnx_provider.__all__ if name.endswith(("Operator", "Sensor"))]

    assert text.count("Template fields:") >= len(operators)


def test_pages_fit_and_fetch_nothing_in_a_browser(built: tuple[Path, str]) -> None:
    asked: set[str] = set()
    with chromium() as browser:
        for size, theme in zip(SIZES, THEMES, strict=True):
            with page_of(browser, size, theme) as page:
                page.on("request", lambda request: asked.add(request.url))
                for name in ("index", "operators/index", "planning", "errors", "reference/airflow"):
                    page.goto((built[0] / f"{name}.html").as_uri())
                    assert fits(page), f"{name}, {size}, {theme}"
    assert asked
    assert not [url for url in asked if not url.startswith((built[0].as_uri(), "data:"))]
