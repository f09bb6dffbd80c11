# SPDX-License-Identifier: Apache-2.0
"""What the operators share: how they name a model and run its heavy stages."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.sdk import XComArg

from airflow_onnx_provider.exceptions import BadInputError
from airflow_onnx_provider.model.stage import Stage

ModelReference = str | Mapping[str, Any] | XComArg
"""A model version's address, or what a model task returned (``task.output`` when the DAG is written)."""


class StageMixin:
    """Gives an operator one child-process runner and its ``on_kill``; it declares no arguments."""

    log: Any
    python: str | None
    stage_timeout: float = 3600.0

    @cached_property
    def _stage(self) -> Stage:
        return Stage(self.log, python=self.python or sys.executable, timeout=self.stage_timeout)

    def on_kill(self) -> None:
        """End the child process and all that it started."""
        self._stage.kill()


def address_of(model: ModelReference) -> str:
    """The address in either form of a reference.

    :raises BadInputError: if there is none
    """
    address = model.get("model") if isinstance(model, Mapping) else model
    if not isinstance(address, str) or not address:
        raise BadInputError(
            f"model: expected an address <store>/<name>/<version> or a model task's output, got {model!r}"
        )
    return address


def number(value: float | str, name: str) -> float:
    """A rendered numeric argument; templates give numbers as text.

    :raises BadInputError: naming the argument
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{name}: expected a number, got {value!r}") from error


def count(value: float | str, name: str) -> int:
    """A rendered whole number of at least 0.

    :raises BadInputError: naming the argument
    """
    found = number(value, name)
    if found < 0 or found % 1:
        raise BadInputError(f"{name}: expected a whole number, at least 0, got {value!r}")
    return int(found)


def optional_path(value: str | None) -> Path | None:
    """A rendered path argument; empty means not given."""
    return Path(value) if value else None


def truth(value: bool | str, name: str) -> bool:
    """A rendered yes or no; templates give it as text.

    :raises BadInputError: naming the argument
    """
    known = {"true": True, "false": False, "": False, "none": False}
    if (word := str(value).strip().lower()) not in known:
        raise BadInputError(f"{name}: expected true or false, got {value!r}")
    return known[word]


def read_labels(labels: Sequence[str] | str | None) -> tuple[str, ...]:
    """Class names from a list, or from a text file with one a line.

    :raises BadInputError: if the file cannot be read, is empty, or a label comes twice
    """
    if labels is None:
        return ()
    if isinstance(labels, str):
        try:
            labels = [line.strip() for line in Path(labels).read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"labels: {error}; give a list, or a text file with one label a line") from error
    if not labels or len(set(labels)) != len(labels):
        raise BadInputError(f"labels: expected different names, one a class, got {list(labels)[:5]}")
    return tuple(labels)
