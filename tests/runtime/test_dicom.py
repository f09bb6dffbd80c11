# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from airflow_onnx_provider.exceptions import BadInputError, RowError
from airflow_onnx_provider.runtime.decode import decode_image
from airflow_onnx_provider.runtime.dicom import decode_dicom
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing
from tests.runtime.damage import REFUSALS, damaged, outcome_of
from tests.runtime.tiny import encoded

SMALL = ImagePreprocessing(height=2, width=4)
RAMP = [0, 1024, 2048, 4095]
NAME = "Mustermann^Erika"


def scan(samples: Any, syntax: str = ExplicitVRLittleEndian, bits: int = 12, **elements: Any) -> Dataset:
    """A grey scan of a patient; twelve bits a sample, as most devices write."""
    array = np.asarray(samples)
    described = Dataset()
    described.file_meta = FileMetaDataset()
    described.file_meta.TransferSyntaxUID = syntax
    described.file_meta.MediaStorageSOPClassUID = described.SOPClassUID = CTImageStorage
    described.file_meta.MediaStorageSOPInstanceUID = described.SOPInstanceUID = generate_uid()
    described.PatientName, described.PatientID = NAME, "4711"
    described.Rows, described.Columns = array.shape[:2]
    described.SamplesPerPixel, described.PhotometricInterpretation = 1, "MONOCHROME2"
    described.BitsAllocated, described.BitsStored, described.HighBit = 8 * array.itemsize, bits, bits - 1
    described.PixelRepresentation = int(array.dtype.kind == "i")
    described.PixelData = array.tobytes()
    described["PixelData"].VR = "OW" if array.itemsize == 2 else "OB"
    for keyword, value in elements.items():
        setattr(described, keyword, value)
    return described


def ramp(samples: Any = RAMP, kind: type = np.uint16, **elements: Any) -> Dataset:
    """Two equal rows of four samples."""
    return scan(np.array([samples, samples], dtype=kind), **elements)


def packed(described: Dataset) -> bytes:
    stream = io.BytesIO()
    described.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def row_of(described: Dataset) -> list[int]:
    """The levels of the first row, after the whole way to a tensor."""
    tensor = decode_image(packed(described), SMALL)
    assert (tensor[..., 0] == tensor[..., 1]).all()
    return tensor[0, :, 0].tolist()


def table(values: list[int], first: int = 0, bits: int = 8) -> Dataset:
    """A lookup table from the sample ``first`` on."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(values), first, bits])
    item.add_new("LUTData", "US", values)
    return item


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_without_a_window_black_and_white_are_what_the_samples_can_be(syntax: str) -> None:
    assert row_of(ramp(syntax=syntax)) == [0, 64, 128, 255]


def test_a_rescaled_scan_without_a_window_looks_the_same() -> None:
    assert row_of(ramp(RescaleSlope=2, RescaleIntercept=-1024)) == [0, 64, 128, 255]


def test_signed_samples() -> None:
    assert row_of(ramp([-2048, -1024, 0, 2047], np.int16)) == [0, 64, 128, 255]


def test_eight_bits_stay_as_they_are() -> None:
    assert row_of(ramp([0, 7, 200, 255], np.uint8, bits=8)) == [0, 7, 200, 255]


def test_a_window_is_in_rescaled_units() -> None:
    """A bone is 700 units, water 0, air -1000; the window of a soft tissue shows the middle alone."""
    body = ramp([0, 1000, 1040, 1700], RescaleSlope=1, RescaleIntercept=-1000, WindowCenter=40, WindowWidth=400)

    assert row_of(body) == [0, 102, 128, 255]


def test_of_several_windows_the_first_counts() -> None:
    assert row_of(ramp(WindowCenter=[1024, 9], WindowWidth=[2, 9])) == [0, 255, 255, 255]


def test_an_empty_window_is_no_window() -> None:
    assert row_of(ramp(WindowCenter=None, WindowWidth=None)) == [0, 64, 128, 255]


def test_a_soft_window() -> None:
    assert row_of(ramp(WindowCenter=2048, WindowWidth=2048, VOILUTFunction="SIGMOID")) == [5, 30, 128, 250]


def test_a_film_on_which_more_is_darker() -> None:
    assert row_of(ramp(PhotometricInterpretation="MONOCHROME1")) == [255, 191, 127, 0]
    film = ramp(PhotometricInterpretation="MONOCHROME1", WindowCenter=2048, WindowWidth=4096)
    assert row_of(film) == [255, 191, 127, 0]


def test_a_lookup_table_instead_of_a_window() -> None:
    assert row_of(ramp([0, 1, 2, 3], VOILUTSequence=[table([250, 5, 100, 40])])) == [250, 5, 100, 40]


def test_a_lookup_table_of_bytes_for_more_than_256_samples() -> None:
    values = [number // 16 for number in range(4096)]

    assert row_of(ramp(VOILUTSequence=[table(values)])) == [0, 64, 128, 255]


def test_a_lookup_table_instead_of_rescaling() -> None:
    assert row_of(ramp([0, 1, 2, 3], ModalityLUTSequence=[table([250, 5, 100, 40])])) == [250, 5, 100, 40]


@pytest.mark.parametrize("planar", [0, 1])
def test_colours(planar: int) -> None:
    pixels = np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250], [9, 8, 7]]] * 2, dtype=np.uint8)
    colours = scan(pixels, bits=8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar)
    if planar:
        colours.PixelData = np.moveaxis(pixels, -1, 0).tobytes()

    assert np.array_equal(decode_image(packed(colours), SMALL), pixels)


def test_a_palette() -> None:
    picture = ramp([0, 1, 2, 3], np.uint8, bits=8, PhotometricInterpretation="PALETTE COLOR")
    for colour, values in (("Red", (9, 0, 0, 1)), ("Green", (0, 9, 0, 2)), ("Blue", (0, 0, 9, 3))):
        picture.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [4, 0, 8])
        picture.add_new(f"{colour}PaletteColorLookupTableData", "OW", bytes(values))

    assert decode_image(packed(picture), SMALL)[0].tolist() == [[9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 2, 3]]


def test_of_several_frames_the_first_counts() -> None:
    frames = ramp(NumberOfFrames=2)
    frames.PixelData += bytes(len(frames.PixelData))

    assert row_of(frames) == [0, 64, 128, 255]


def test_run_lengths() -> None:
    scanned = ramp()
    scanned.compress(RLELossless)

    assert row_of(scanned) == [0, 64, 128, 255]


def test_a_jpeg_inside() -> None:
    grey = scan(np.full((16, 16), 77, dtype=np.uint8), JPEGBaseline8Bit, bits=8)
    grey.PixelData = encapsulate([encoded(Image.new("L", (16, 16), 77), "JPEG")])

    assert row_of(grey) == [77] * 4


def test_a_jpeg_with_colours_inside() -> None:
    colour = scan(np.zeros((16, 16, 3), dtype=np.uint8), JPEGBaseline8Bit, bits=8, SamplesPerPixel=3)
    colour.PhotometricInterpretation, colour.PlanarConfiguration = "YBR_FULL_422", 0
    colour.PixelData = encapsulate([encoded(Image.new("RGB", (16, 16), (200, 60, 20)), "JPEG")])

    assert np.abs(decode_image(packed(colour), SMALL)[0, 0].astype(int) - [200, 60, 20]).max() <= 3


def test_a_jpeg_2000_inside() -> None:
    scanned = scan(np.zeros((16, 16), dtype=np.uint8), JPEG2000Lossless, bits=8)
    scanned.PixelData = encapsulate([encoded(Image.new("L", (16, 16), 77), "JPEG2000", no_jp2=True)])

    assert row_of(scanned) == [77] * 4


def test_the_picture_itself() -> None:
    image = decode_dicom(packed(ramp()), max_pixels=8)

    assert (image.mode, image.size) == ("L", (4, 2))


def reason_of(data: bytes) -> str:
    with pytest.raises(RowError) as caught:
        decode_image(data, SMALL)
    assert caught.value.stage == "decode"
    assert "Mustermann" not in str(caught.value)
    return caught.value.reason


def test_the_size_is_judged_before_the_pixels() -> None:
    huge = ramp(Rows=10_001, Columns=10_000)

    with pytest.raises(RowError, match="10000 x 10001 exceeds the limit of 100000000 pixels") as caught:
        decode_image(packed(huge), SMALL)
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize(
    "elements",
    [
        {"Rows": None},
        {"Rows": 3},
        {"BitsStored": 0},
        {"SamplesPerPixel": 7},
        {"PhotometricInterpretation": NAME},
        {"PixelData": b"\0\0"},
        {"WindowCenter": 5, "WindowWidth": 0},
        {"WindowCenter": 5, "WindowWidth": "NaN"},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_the_pixels(elements: dict[str, Any]) -> None:
    assert reason_of(packed(ramp(**elements))) == "broken_image"


def test_a_report_without_a_picture() -> None:
    report = ramp()
    del report.PixelData

    assert reason_of(packed(report)) == "broken_image"


def jpeg_ls() -> bytes:
    scanned = ramp(syntax=JPEGLSLossless)
    scanned.PixelData = encapsulate([bytes(16)])
    return packed(scanned)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_ls(),
        packed(ramp(syntax=DeflatedExplicitVRLittleEndian)),
        packed(ramp()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0"),
    ],
    ids=["jpeg-ls", "deflated", "unheard-of"],
)
def test_a_compression_that_nobody_undoes_here(data: bytes) -> None:
    with pytest.raises(RowError, match="no decoder for the compression of this DICOM file") as caught:
        decode_image(data, SMALL)
    assert caught.value.reason == "broken_image"


@pytest.mark.parametrize("length", [132, 140, 300, 600])
def test_half_a_file(length: int) -> None:
    data = packed(scan(np.zeros((64, 64), dtype=np.uint16)))

    assert reason_of(data[:length]) == "broken_image"


def test_words_of_an_error_do_not_quote_the_patient() -> None:
    with pytest.raises(RowError) as caught:
        decode_image(packed(ramp(PhotometricInterpretation=NAME)), SMALL)

    assert str(caught.value) == "ValueError in a DICOM file"
    assert caught.value.__suppress_context__


def test_what_is_not_about_the_picture_is_not_even_read() -> None:
    data = packed(ramp(PatientBirthDate="19700101")).replace(b"19700101", b"Mustrman")

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom would warn about such a date, and quote it
        tensor = decode_image(data, SMALL)

    assert np.array_equal(tensor, decode_image(packed(ramp()), SMALL))


def test_without_pydicom_the_job_fails_and_not_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(ramp())
    monkeypatch.setitem(sys.modules, "pydicom", None)

    with pytest.raises(BadInputError, match=r"pip install 'airflow-onnx-provider\[dicom\]'"):
        decode_image(data, SMALL)


FILES = [packed(ramp()), packed(ramp(WindowCenter=5, WindowWidth=9)), packed(ramp(VOILUTSequence=[table([1, 2])]))]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(damaged(FILES, first=132))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_gives_a_tensor_or_a_row_error(file: bytes) -> None:
    assert outcome_of(file, SMALL) in {(2, 4, 3), *REFUSALS}
