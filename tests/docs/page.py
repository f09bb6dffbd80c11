# SPDX-License-Identifier: Apache-2.0
"""The code blocks of a Markdown page, and a sandbox in which they run one after the other, as a reader would run them.

The parser is markdown-it, on which the documentation's own MyST stands. The runner is ours: libraries that run blocks
of pages run each in the tests' process, where Airflow has read its settings already; here a page is one story, told in
a terminal and in Python.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client
from pathlib import Path

from markdown_it import MarkdownIt

from tests.wheel import REPOSITORY, environment

HERE = Path(__file__).parent
RUN, READ = {"python", "sh"}, {"text", "yaml", "json", "toml", "ini"}
NO_MARKDOWN = {"{literalinclude}", "{include}", "{eval-rst}", "{toctree}"}
CODE = {"{code}", "{code-block}", "{code-cell}", "{sourcecode}"}
"""Directives that would hide a block."""

DATA = re.compile(r"(?<![\w.~}])/data\b")
"""The reader's data folder; ``$PWD/data`` and ``my/data`` are others."""


@dataclass(frozen=True)
class Block:
    """A block of a page: its language (empty: none), its text, and the line, from 1, on which the text begins."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """Where the text is to be saved: the path in a comment on its first line."""
        found = re.match(r"# ([\w./-]+\.py)\n", self.text) if self.language == "python" else None
        return found[1] if found else None


def blocks(markdown: str, line: int = 1) -> Iterator[Block]:
    """Every code block of a page, in order, those inside directives too."""
    for token in MarkdownIt().parse(markdown):
        if token.type not in {"fence", "code_block"}:
            continue
        begins = line + (token.map or [0])[0] + (token.type == "fence")
        language = (token.info.split() or [""])[0]
        if not language.startswith("{") or language in CODE:
            yield Block(language, token.content, begins)
        elif language not in NO_MARKDOWN:
            yield from blocks(token.content, begins)


def pages() -> list[str]:
    """The pages whose blocks run, as paths below the repository."""
    docs = sorted(str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "docs").rglob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *docs]


class Sandbox:
    """A folder with a terminal and a Python of its own; what a block leaves is there for the next one.

    :param work: the folder to work in; ``/data`` in a block is ``data`` in it
    :param pythons: address of the process that :mod:`tests.docs.interpreter` is
    :param newcomer: nothing is installed: the blocks must do that themselves
    :param variables: further environment variables
    """

    def __init__(self, work: Path, pythons: str, *, newcomer: bool = False, **variables: str) -> None:
        self.work, self.state = work, work.parent / "terminal"
        stand_ins = self.state / "bin"
        stand_ins.mkdir(parents=True)
        run = f"{sys.executable} {HERE}/stand_ins.py"
        for name in ("python", "python3", "pip", "make", "docker", "helm", "kubectl", "sudo", "apt-get", "spark-class"):
            (stand_ins / name).write_text(f'#!/bin/sh\nexec {run} {name} "$@"\n')
            (stand_ins / name).chmod(0o755)
        path = [stand_ins, *([] if newcomer else [Path(sys.executable).parent]), os.environ["PATH"]]
        self.variables = {
            **environment(None if newcomer else work),
            "PATH": os.pathsep.join(map(str, path)),
            "BASH_ENV": str(HERE / "terminal.sh"),
            "PAGE_PYTHON": os.path.realpath(sys.executable) if newcomer else sys.executable,
            "PAGE_STATE": str(self.state),
            "PAGE_STAND_INS": run,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__CORE__FERNET_KEY": "",  # one for the terminal and for Python
            **variables,
        }
        self.interpreter = Client(pythons)
        self.interpreter.send([str(work), self.variables, str(self.state / "python.log")])

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.interpreter.close()

    def run(self, page: str, block: Block) -> None:
        """Run a block, or save it; raises an AssertionError with what it said if that fails."""
        text = DATA.sub(str(self.work / "data"), block.text)
        if block.language == "sh":
            self.shell(f"{page}:{block.line}", text)
        elif block.file:
            file = self.work / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            self.python(page, block.line, f"looks_right({block.file!r})")
        else:
            self.python(page, block.line, text)

    def shell(self, where: str, text: str) -> None:
        """Type ``text`` into the page's bash, which stops at the first command that fails."""
        (self.state / "block.sh").write_text(text)
        with (self.state / "shell.log").open("w+") as said:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", str(HERE / "bash.sh")],
                cwd=self.work,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                check=False,
            )
            said.seek(0)
            assert done.returncode == 0, f"{where}\n{text}\n--- ended with {done.returncode}:\n{said.read()[-6000:]}"

    def python(self, page: str, line: int, text: str) -> None:
        """Run ``text`` in the page's Python, whose traceback names the page's own lines."""
        self.interpreter.send([page, line, text])
        try:
            failed = self.interpreter.recv()
        except EOFError:
            failed = "the process ended"
        said = (self.state / "python.log").read_text()[-3000:]
        assert failed is None, f"{page}:{line}\n{text}\n--- failed:\n{failed}\n--- it said:\n{said}"


def checkout(into: Path) -> None:
    """A copy of the repository to play with: what a reader has who has cloned it."""
    shutil.copytree(REPOSITORY, into, ignore=shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "*.png"))
