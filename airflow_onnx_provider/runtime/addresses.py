# SPDX-License-Identifier: Apache-2.0
"""Addresses that a catalogue gives in a column: kept below their root, and read from wherever that is."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.pictures import read_picture

MAX_BYTES = 256 << 20
"""Largest file that is fetched by URL; a worker holds a few dozen at once."""

TIMEOUT_SECONDS = 30.0


def resolve(address: str, root: str) -> str:
    """Where a row's file lies, given its column's value: relative to the root, or an absolute address below it.

    :param root: a folder, or a URL
    :raises RowError: ``outside_root`` for any address that leads elsewhere, by ``..``, a link, or another host
    """
    if "://" in root:
        base = root.rstrip("/") + "/"
        found = address if "://" in address else urljoin(base, address.lstrip("/"))
        parts = urlsplit(found)
        escapes = ".." in unquote(parts.path).split("/") or "\\" in found
        inside = found.startswith(base) and not escapes
    else:
        base = os.path.realpath(root)
        found = "" if "\0" in address else os.path.realpath(Path(base) / address.removeprefix("file://"))
        inside = found.startswith(base.rstrip("/") + "/")
    if not inside:
        raise RowError("read", "outside_root", f"{address} does not lie below {root}")
    return found


def read_address(address: str, root: str) -> bytes:
    """The bytes of a file below ``root``.

    Paths and ``http``, ``https`` URLs are read with Python's own means; others, such as ``s3`` or ``gs``, with
    pyarrow's file systems and the credentials that these find on the executor.

    :raises RowError: ``outside_root``, or ``unreadable`` with the reason
    """
    place = resolve(address, root)
    if "://" not in place:
        return read_picture(place)
    try:
        data = _read_http(place, root) if place.startswith(("http://", "https://")) else _read_object(place)
    except (OSError, ValueError, ImportError) as error:
        said = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(error)
        raise RowError("read", "unreadable", f"{place}: {said}") from error
    if len(data) > MAX_BYTES:
        raise RowError("read", "unreadable", f"{place}: larger than {MAX_BYTES >> 20} MiB")
    return data


class _BelowRoot(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address below the same root."""

    def __init__(self, root: str) -> None:
        self._root = root

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:  # noqa: PLR0917
        resolve(newurl, self._root)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _read_http(url: str, root: str) -> bytes:
    opener = urllib.request.build_opener(_BelowRoot(root))
    with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
        return bytes(answer.read(MAX_BYTES + 1))


def _read_object(url: str) -> bytes:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(url)
    with system.open_input_stream(path) as stream:
        return bytes(stream.read(MAX_BYTES + 1))
