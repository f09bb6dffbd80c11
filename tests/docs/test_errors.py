# SPDX-License-Identifier: Apache-2.0
"""The page of error messages says what the package says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from airflow_onnx_provider import exceptions
from airflow_onnx_provider.exceptions import OnnxProviderError
from airflow_onnx_provider.quality.reports.words import REASONS

REPOSITORY = Path(__file__).parents[2]
LONGEST = 700  # what is longer is a docstring
PAGE = (REPOSITORY / "docs" / "errors.md").read_text()
CLASSES = {
    name: kind
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, OnnxProviderError)
}


def rows(head: str) -> list[list[str]]:
    """The cells of all tables on the page whose first column has this title."""
    tables = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for table in tables for line in table.splitlines()]


MESSAGES = [(message.strip("| `"), retry.strip("| ")) for message, _, retry in rows("message")]


def words(node: ast.expr) -> str:
    """A string in the source with … for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(words, parts))
        case ast.BinOp(left=left, right=right):
            return words(left) + words(right)
        case _:
            return "…"


@cache
def said() -> set[tuple[str, str]]:
    """Every sentence of the package that could be a message, with what it is given to, such as an error's class."""
    found = set()
    for file in (REPOSITORY / "airflow_onnx_provider").rglob("*.py"):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                found.add((words(node.args[0]), name))
            elif isinstance(node, ast.Constant | ast.JoinedStr):
                found.add((words(node), ""))
    return {(text, name) for text, name in found if " " in text and len(text) < LONGEST}


def test_every_class_is_on_the_page_with_whether_a_retry_helps() -> None:
    table = {name.strip("`"): retry for name, _, retry in rows("class")}

    assert set(table) == set(CLASSES)
    wrong = {
        name
        for name, kind in CLASSES.items()
        if kind is not exceptions.RowError and table[name] != ("yes" if kind.retryable else "no")
    }
    assert not wrong


def test_every_message_is_one_of_the_package_and_says_rightly_whether_a_retry_helps() -> None:
    unknown, wrong = [], []
    for message, retry in MESSAGES:
        wanted = re.compile(".*".join(map(re.escape, re.split(r"\s*…\s*", message))), re.DOTALL)
        raised = [name for text, name in said() if wanted.search(text)]
        if not raised:
            unknown.append(message)
        told = {CLASSES[name].retryable for name in raised if name in CLASSES}
        if retry in {"yes", "no"} and told - {retry == "yes"}:
            wrong.append(message)
    assert not unknown
    assert not wrong


def test_there_are_enough_messages_to_be_of_use() -> None:
    assert len(MESSAGES) >= 40


def test_every_reason_of_a_quarantined_row_is_on_the_page() -> None:
    told = {code for codes, *_ in rows("reason") for code in re.findall(r"`(\w+)`", codes)}

    assert told == set(REASONS)
