# SPDX-License-Identifier: Apache-2.0
"""Every Python and shell block of README, CONTRIBUTING and docs runs, in its order, in a sandbox of its page.

What a page takes for granted (a day of pictures, a DAG around a task, a published run) is in `pages/<page>.py`, which
runs in the page's Python before its first block; a function `after` in it says what must hold behind the last one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from demo.environment import on_port
from tests.docs.page import READ, RUN, Block, Sandbox, blocks, checkout, pages
from tests.integration.serving import free_port
from tests.wheel import REPOSITORY

pytestmark = pytest.mark.spark

NEWCOMERS = {"docs/start.md"}
"""They begin in an empty folder with nothing but Python and Java."""

ALONE = {*NEWCOMERS, "docs/own-model.md", "docs/reruns.md"}
"""They need no checkout; its example DAGs would be parsed by each command."""

PAGES = {page: list(blocks((REPOSITORY / page).read_text())) for page in pages()}
RUNNING = [page for page, found in PAGES.items() if any(block.language in RUN for block in found)]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_its_language(page: str) -> None:
    unknown = [f"{page}:{block.line} {block.language!r}" for block in PAGES[page] if block.language not in RUN | READ]
    assert not unknown, f"these run: {sorted(RUN)}, these do not: {sorted(READ)}"


@pytest.mark.parametrize("page", RUNNING)
def test_the_blocks_of(page: str, tmp_path: Path, pythons: str, migrated: Path, wheel: Path) -> None:
    newcomer = page in NEWCOMERS
    work = tmp_path / "work"
    if page in ALONE:
        work.mkdir()
    else:
        checkout(work)
    if not newcomer:
        shutil.copy(migrated, work / "airflow.db")
    variables = {
        # As if the wheel were on PyPI. All else is pinned: what tomorrow brings is the matrix' business.
        "UV_FIND_LINKS": f"{wheel.parent},{os.environ.get('PIP_FIND_LINKS', '')}".rstrip(","),
        "UV_CONSTRAINT": str(REPOSITORY / "constraints.txt"),
        **(on_port(free_port()) if newcomer else {}),
    }
    context = Path(__file__).parent / "pages" / Path(page).relative_to("docs" if page.startswith("docs/") else ".")
    context = context.with_suffix(".py")
    with Sandbox(work, pythons, newcomer=newcomer, **variables) as sandbox:
        if context.exists():
            sandbox.python(str(context), 1, context.read_text())
        for block in PAGES[page]:
            if block.language in RUN:
                sandbox.run(page, block)
        if context.exists() and re.search(r"^def after\(", context.read_text(), re.M):
            sandbox.python(page, 1, "after()")


def test_a_block_without_a_language_is_seen_wherever_it_hides() -> None:
    page = "- one\n\n  ```\n  a\n  ```\n\n```{note}\n~~~\nb\n~~~\n```\n\n    c\n\n```{code-block} sh\nd\n```\n"
    assert [(block.language, block.text, block.line) for block in blocks(page)] == [
        ("", "a\n", 4),
        ("", "b\n", 9),
        ("", "c\n", 13),
        ("{code-block}", "d\n", 16),
    ]


@pytest.mark.parametrize(
    "block",
    [
        Block("sh", "x=1\nfalse\ntrue\n", 1),
        Block("python", "1 / 0\n", 7),
        Block("python", "# dags/no.py\nfrom airflow.sdk import dag\n", 1),
    ],
)
def test_a_block_that_fails_fails_its_page(block: Block, tmp_path: Path, pythons: str) -> None:
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work", pythons) as sandbox, pytest.raises(AssertionError, match=f"a.md:{block.line}"):
        sandbox.run("a.md", block)


def test_a_page_is_one_terminal_and_one_python(tmp_path: Path, pythons: str) -> None:
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work", pythons) as sandbox:
        sandbox.run("a.md", Block("sh", "export COLOUR='light red'\nmkdir sub\ncd sub\n", 1))
        sandbox.run("a.md", Block("sh", 'test "$COLOUR" = "light red"\ntouch here\n', 5))
        sandbox.run("a.md", Block("python", "from pathlib import Path\n", 9))
        sandbox.run("a.md", Block("python", "assert Path('sub/here').exists()\nassert '/data' != '/' + 'data'\n", 12))


def test_the_readme_and_the_start_have_one_dag() -> None:
    """The start runs it for a day."""

    def dag(page: str) -> str:
        (found,) = [block for block in PAGES[page] if "def classify_catalog" in block.text]
        return re.sub(r"^# .*\n", "", found.text)

    assert dag("README.md") == dag("docs/start.md")
