# SPDX-License-Identifier: Apache-2.0
"""Every error this package raises on purpose, under one root.

The tree is shallow because a person on call asks one question: will trying again help? The operators tell Airflow
not to retry where ``retryable`` is False.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class OnnxProviderError(Exception):
    """Root of all errors raised by airflow-onnx-provider."""

    retryable: ClassVar[bool] = True


class BadInputError(OnnxProviderError):
    """Something the user gave is missing or unusable; a retry with the same input cannot help."""

    retryable = False


class MissingExtraError(BadInputError):
    """What one of the package's extras brings is not installed in this Python."""


class ConversionError(BadInputError):
    """The source model cannot be expressed in ONNX, or the converter left something behind."""


class ValidationError(BadInputError):
    """A model failed a gate: structure, node domains, runtime load, or parity with its source."""


class DigestMismatchError(BadInputError):
    """A file's content differs from the digest that was recorded for it."""


class GoldenMismatchError(OnnxProviderError):
    """The golden rows got other answers here than where the model was accepted."""


class StageError(OnnxProviderError):
    """A child process that did a heavy stage ended without a result: killed, out of memory, timed out."""


class StageTimeoutError(StageError):
    """A stage was ended because it took longer than it may."""


class StageSignalError(StageError):
    """A signal ended a stage.

    :param name: of the signal, such as ``SIGSEGV``
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class SparkJobError(OnnxProviderError):
    """The Spark job ended without the proof of success, its run manifest."""


class ClusterBusyError(OnnxProviderError):
    """Others hold what the job needs; a later try may find it free."""


class ChecksFailedError(OnnxProviderError):
    """At least one check of severity ``error`` failed; the message lists every failed check."""

    retryable = False


class PublishError(OnnxProviderError):
    """A staged partition could not be moved into place."""


class PublishConflictError(PublishError):
    """Another run of the same partition was published meanwhile; that one stays."""

    retryable = False


class RowError(OnnxProviderError):
    """One input row cannot be scored; it goes to quarantine and the job goes on.

    :param stage: where it happened: ``read`` or ``decode``
    :param reason: short stable code to count by, for example ``not_an_image``
    :param message: what was seen, for a person
    """

    def __init__(self, stage: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason


@contextmanager
def needs_extra(extra: str, what: str, otherwise: str = "") -> Iterator[None]:
    """Around the imports of what an extra brings: one line that names the extra, where they fail.

    :param extra: of this package
    :param what: needs it; the line begins with it
    :param otherwise: another way out, with which the line goes on
    :raises MissingExtraError: for an ``ImportError``
    """
    try:
        yield
    except ImportError as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise MissingExtraError(
            f"{what} needs the extra {extra}: pip install 'airflow-onnx-provider[{extra}]'{otherwise} "
            f"({sys.executable}: {said})"
        ) from error


def from_traceback(text: str) -> OnnxProviderError | None:
    """The package's own error that another process's printed traceback ends with, or None.

    Spark and child processes hand errors on as text; this gives them back their class and their words.
    """
    found = re.findall(r"airflow_onnx_provider\.exceptions\.(\w+): (.+)", text)
    for name, message in reversed(found):
        kind = globals().get(name)
        if isinstance(kind, type) and issubclass(kind, OnnxProviderError) and kind is not RowError:
            return kind(message)
    return None
