# SPDX-License-Identifier: Apache-2.0
"""Medical pictures: one DICOM file to the 8-bit picture that a viewer would show first."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from airflow_onnx_provider.exceptions import RowError, needs_extra

if TYPE_CHECKING:
    from pydicom import Dataset


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are a DICOM file: 128 free bytes, then its mark."""
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes, max_pixels: int) -> Image.Image:
    """The first frame of a DICOM file, in grey (``L``) or ``RGB``.

    Grey values go through the file's own rescaling and its first window or lookup table. Without one, black and white
    are the least and the greatest value that the samples can have, so that a level means the same in every picture.
    ``MONOCHROME1`` is inverted: more is brighter. Of several frames the first counts, whichever part of the body it
    shows; settings that an enhanced multi-frame file keeps per frame are not read.

    Only the elements that describe the picture are read, and no message contains a value of the file but its size:
    the rest is about a patient.

    :param max_pixels: limit of rows x columns, compared before the pixels are touched
    :raises RowError: ``too_many_pixels``, or ``broken_image`` also for a compression that pydicom cannot undo here
    :raises MissingExtraError: if pydicom is not installed
    """
    with needs_extra("dicom", "a DICOM picture", "; for an executor's Python, pip install pydicom"):
        from pydicom import Dataset, dcmread
        from pydicom.pixels.utils import pixel_array
    stream = io.BytesIO(data)
    try:
        if not _has_decoder(stream):
            raise RowError("decode", "broken_image", "no decoder for the compression of this DICOM file")
        header = dcmread(stream, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        rows, columns = int(header.Rows), int(header.Columns)
        if rows * columns > max_pixels:
            raise RowError("decode", "too_many_pixels", f"{columns} x {rows} exceeds the limit of {max_pixels} pixels")
        described = Dataset()
        samples = pixel_array(stream, ds_out=described, index=0)
        with np.errstate(divide="raise", invalid="raise", over="ignore"):
            return Image.fromarray(_levels(samples, described))
    except RowError:
        raise
    except Exception as error:  # pydicom's words may quote the file: only the kind of the error is told
        raise RowError("decode", "broken_image", f"{type(error).__name__} in a DICOM file") from None


def _has_decoder(stream: io.BytesIO) -> bool:
    """Whether pydicom can undo the file's compression. A deflated file could unfold to any size: it cannot."""
    from pydicom.filereader import read_dataset
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group > 2)
    stream.seek(0)
    syntax = meta.TransferSyntaxUID
    try:
        return syntax != DeflatedExplicitVRLittleEndian and bool(get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _levels(samples: NDArray[Any], described: Dataset) -> NDArray[np.uint8]:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut

    kind = described.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        samples = apply_color_lut(samples, described)
        black, white = 0.0, float(np.iinfo(samples.dtype).max)
    elif described.SamplesPerPixel > 1:
        black, white = 0.0, 2.0**described.BitsStored - 1
    else:
        black, white = _black_and_white(described)
        if kind == "MONOCHROME1":
            black, white = white, black
        samples = apply_voi_lut(apply_modality_lut(samples, described), described)
    shares = (samples.astype(np.float32) - np.float32(black)) / np.float32(white - black)
    return np.asarray(np.rint(shares.clip(0, 1) * 255), dtype=np.uint8)


def _black_and_white(described: Dataset) -> tuple[float, float]:
    """The ends of the scale on which grey values lie once the file's own transforms are applied."""
    from pydicom.pixels.processing import apply_modality_lut, apply_windowing

    if tables := described.get("VOILUTSequence"):
        bits = tables[0].LUTDescriptor[2]
        tables[0].LUTDescriptor[2] = 16  # with 8, pydicom would also look the values up by their lowest 8 bits alone
        return 0.0, 2.0**bits - 1
    if described.get("WindowWidth") is not None and described.get("WindowCenter") is not None:
        black, white = apply_windowing(np.array([-np.inf, np.inf]), described)
        return float(black), float(white)
    if tables := described.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** tables[0].LUTDescriptor[2] - 1
    least = -(2 ** (described.BitsStored - 1)) if described.PixelRepresentation else 0
    ends = apply_modality_lut(np.array([least, least + 2**described.BitsStored - 1]), described)
    return float(ends.min()), float(ends.max())
