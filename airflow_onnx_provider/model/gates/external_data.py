# SPDX-License-Identifier: Apache-2.0
"""Gate: weights outside the ONNX file lie in plain files of their own beside it, and are as large as they should be.

ONNX's checker and ONNX Runtime each miss some of these; ONNX Runtime reads a hard link to any file of the machine, and
takes one special location as an address in its own memory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_onnx_provider.exceptions import ValidationError
from airflow_onnx_provider.model.gates.limits import Limits, readable
from airflow_onnx_provider.model.gates.reading import OnnxFile, read_file, tensors
from airflow_onnx_provider.model.gates.weights import is_external, size_of, type_name

MEMORY_MARK = "_ORT_MEM_ADDR_"
"""In a location, ONNX Runtime's own sign that the offset is an address in the memory of the process."""

DISK_BLOCK = 512
"""Unit of ``st_blocks``, whatever the file system's own blocks are."""

SPARSE_SHARE = 8
"""A file may claim so many times what it has on its disk; a compressing disk does not reach that with weights."""


def external_files(path: Path) -> tuple[Path, ...]:
    """The files that a model names, as it names them."""
    locations = {
        entry.value
        for tensor in tensors(read_file(path).model)
        if is_external(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / location for location in sorted(locations))


def require_external_data(file: OnnxFile, limits: Limits) -> None:
    """Look at every file that the model names, without opening any that is not a plain one.

    :raises ValidationError: naming the weight, the location, and what is wrong with it
    """
    sizes: dict[str, int] = {}
    total = 0
    for tensor in tensors(file.model):
        if not is_external(tensor):
            continue
        where = {entry.key: entry.value for entry in tensor.external_data}
        if len(where) < len(tensor.external_data):
            raise _refused(file, tensor, "is named twice")
        location = where.get("location", "")
        if location not in sizes:
            reason = _location_fault(location) or _file_fault(file.path.parent, location, limits)
            if reason:
                raise _refused(file, tensor, reason)
            sizes[location] = (file.path.parent / location).lstat().st_size
        needed = size_of(tensor)
        if reason := _range_fault(tensor, where, needed, sizes[location]):
            raise _refused(file, tensor, reason)
        total += needed
    if total > limits.weight_bytes:
        raise file.refuse(f"its external data is {readable(total)} (limit {readable(limits.weight_bytes)})")


def _location_fault(location: str) -> str | None:
    parts = PurePosixPath(location).parts
    if MEMORY_MARK in location:
        return "is an address in the memory of the process that opens the model"
    if not parts or "\\" in location or any(ord(letter) < 32 for letter in location):
        return "names no file"
    if location.startswith("/") or ":" in parts[0]:
        return "is an absolute path; it must be relative to the model's folder"
    if ".." in parts:
        return "leads out of the model's folder by '..'"
    return None


def _file_fault(folder: Path, location: str, limits: Limits) -> str | None:
    place = folder
    *between, name = PurePosixPath(location).parts
    for part in between:
        place /= part
        if place.is_symlink():
            return f"leads through {part!r}, which is a link to another folder"
    place /= name
    try:
        status = place.lstat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return _kind_fault(status) or _size_fault(place, status, limits)


def _kind_fault(status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "is a link to another file"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file (a folder, a named pipe or a device)"
    if status.st_nlink > 1:
        return f"is a hard link: {status.st_nlink} names share it, so it may be any file of this machine. Copy it"
    return None


def _size_fault(place: Path, status: os.stat_result, limits: Limits) -> str | None:
    if status.st_size > limits.weight_bytes:
        return f"has {readable(status.st_size)} (limit {readable(limits.weight_bytes)})"
    if (held := _held(place, status)) * SPARSE_SHARE < status.st_size:
        return f"is sparse: it claims {readable(status.st_size)} and has {readable(held)} on its disk"
    return None


def _range_fault(tensor: Any, where: dict[str, str], needed: int, size: int) -> str | None:
    if type_name(tensor.data_type) == "string":
        return "holds texts, which cannot be external"
    try:
        offset, length = int(where.get("offset", "0")), int(where.get("length", str(needed)))
    except ValueError:
        return "has an offset or a length that is no number"
    if offset < 0 or length != needed:
        return f"gives {length:,} bytes at {offset:,}, its type and shape ask for {needed:,}"
    if offset + length > size:
        return f"ends at byte {offset + length:,}, but the file has {size:,}"
    return None


def _held(place: Path, status: os.stat_result) -> int:
    """Bytes of a file that are not holes. Some file systems count no blocks, so the holes themselves are asked for."""
    if status.st_blocks * DISK_BLOCK * SPARSE_SHARE >= status.st_size:
        return status.st_size
    held, end = 0, 0
    handle = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while held * SPARSE_SHARE < status.st_size:
            start = os.lseek(handle, end, os.SEEK_DATA)
            end = os.lseek(handle, start, os.SEEK_HOLE)
            held += end - start
    except OSError:  # there is no data after `end`
        pass
    finally:
        os.close(handle)
    return held


def _refused(file: OnnxFile, tensor: Any, reason: str) -> ValidationError:
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    return file.refuse(f"the external data {location[:200]!r} of the weight {tensor.name!r} {reason}")
