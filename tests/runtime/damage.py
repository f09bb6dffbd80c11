# SPDX-License-Identifier: Apache-2.0
"""Files that something happened to, and what decoding one may end in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime import decode
from airflow_onnx_provider.runtime.decode import Decoder, decode_image
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing

REFUSALS = {"empty_file", "not_an_image", "too_many_pixels", "broken_image"}


@st.composite
def damaged(draw: st.DrawFn, files: Sequence[bytes], first: int = 0) -> bytes:
    """One of the files with up to five wrong bytes, none of them before ``first``, cut off anywhere."""
    data = bytearray(draw(st.sampled_from(files)))
    for position, value in draw(st.lists(st.tuples(st.integers(first, 5_000), st.integers(0, 255)), max_size=5)):
        data[first + (position - first) % (len(data) - first)] = value
    return bytes(data[: draw(st.integers(0, len(data)))])


def outcome_of(data: bytes, preprocessing: ImagePreprocessing, decoder: Decoder = "full") -> object:
    """The tensor's shape, or the reason why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "MAX_PIXELS", 1_000_000)  # so that a header that lies costs no time
        try:
            return decode_image(data, preprocessing, decoder).shape
        except RowError as error:
            return error.reason
