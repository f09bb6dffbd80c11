# SPDX-License-Identifier: Apache-2.0
"""How the package's errors end an Airflow task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_onnx_provider.exceptions import OnnxProviderError


@contextmanager
def no_retry_for_bad_input() -> Iterator[None]:
    """Fail the task at once, with the error's own words, where a retry cannot help.

    The traceback of such an error says nothing that its message does not, so the log shows the message alone.
    """
    try:
        yield
    except OnnxProviderError as error:
        if error.retryable:
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None
