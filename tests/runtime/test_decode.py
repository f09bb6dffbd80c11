# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from airflow_onnx_provider.exceptions import RowError
from airflow_onnx_provider.runtime.decode import Decoder, decode_image
from airflow_onnx_provider.runtime.preprocessing import ImagePreprocessing, Resize
from tests.runtime.damage import REFUSALS, damaged, outcome_of
from tests.runtime.tiny import encoded

SMALL = ImagePreprocessing(height=8, width=8)
EXIF_ORIENTATION = 0x0112

# What a camera that was turned has to do to an upright picture before it stores it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quarters() -> Image.Image:
    """32 x 32: red, green / blue, yellow; every turn and flip of it looks different."""
    image = Image.new("RGB", (32, 32), (250, 0, 0))
    image.paste((0, 250, 0), (16, 0, 32, 16))
    image.paste((0, 0, 250), (0, 16, 16, 32))
    image.paste((250, 250, 0), (16, 16, 32, 32))
    return image


def corners(tensor: np.ndarray) -> list[list[int]]:
    """Top left, top right, bottom left, bottom right pixel."""
    return [tensor[y, x].tolist() for y in (0, -1) for x in (0, -1)]


def raw_png(width: int, height: int, depth: int = 8, colour_type: int = 2, row: bytes = b"") -> bytes:
    """A PNG that Pillow would not write: of one row again and again, or one that claims a size and holds no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    pixels = zlib.compress((b"\0" + row) * height if row else b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def claiming(kind: str, layout: str, width: int, height: int) -> bytes:
    """A picture whose header says another size; the layout is how its format writes the two numbers."""
    data = encoded(Image.new("RGB", (61, 61)), kind)
    assert struct.pack(layout, 61, 61) in data
    return data.replace(struct.pack(layout, 61, 61), struct.pack(layout, width, height))


def waves(width: int, height: int) -> Image.Image:
    """A soft picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    channels = [np.sin(x / width * 7), np.cos(y / height * 5), np.sin((x + 2 * y) / width * 4)]
    return Image.fromarray((127 + 120 * np.stack(channels, axis=-1)).astype(np.uint8))


def reason_of(data: bytes) -> str:
    with pytest.raises(RowError) as caught:
        decode_image(data, SMALL)
    assert caught.value.stage == "decode"
    return caught.value.reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_picture_of_each_format(kind: str) -> None:
    tensor = decode_image(encoded(quarters(), kind), SMALL)

    assert (tensor.shape, tensor.dtype) == ((8, 8, 3), np.uint8)
    expected = [[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]]
    assert np.abs(np.subtract(corners(tensor), expected)).max() <= 12  # JPEG and WebP lose a little


@pytest.mark.parametrize("view", [memoryview, pa.py_buffer, bytearray])
def test_bytes_that_lie_in_somebody_elses_memory(view: Callable[[bytes], Any]) -> None:
    data = encoded(quarters())

    assert np.array_equal(decode_image(view(data), SMALL), decode_image(data, SMALL))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_camera_gives_the_upright_picture(kind: str, orientation: int) -> None:
    turn = STORED[orientation]
    image = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation

    tensor = decode_image(encoded(image, kind, exif=exif), SMALL)

    upright = decode_image(encoded(quarters(), kind), SMALL)
    assert np.abs(tensor.astype(int) - upright.astype(int)).max() <= 12


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"subsampling": 0}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("PNG", {"interlace": 1}),
    ],
)
def test_the_ways_to_pack_pixels(kind: str, options: dict[str, Any]) -> None:
    tensor = decode_image(encoded(quarters(), kind, **options), SMALL)

    assert np.abs(tensor.astype(int) - decode_image(encoded(quarters()), SMALL)).max() <= 12


@pytest.mark.parametrize("decoder", ["full", "scaled"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_print_shops_cmyk_picture(kind: str, decoder: Decoder) -> None:
    image = Image.new("CMYK", (64, 64), (0, 255, 255, 0))

    tensor = decode_image(encoded(image, kind), SMALL, decoder)

    assert np.abs(tensor[4, 4].astype(int) - [255, 0, 0]).max() <= 8


def test_cmyk_jpegs_are_inverted_with_and_without_adobes_mark() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    mark = data.index(b"\xff\xee\x00\x0eAdobe")

    assert np.array_equal(decode_image(data, SMALL), decode_image(data[:mark] + data[mark + 16 :], SMALL))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_transparent_pixels_lie_on_white(kind: str, options: dict[str, Any]) -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 16, 8))
    tensor = decode_image(encoded(image, kind, **options), SMALL)

    assert tensor[0, 0].tolist() == [200, 0, 0]
    assert tensor[-1, 0].tolist() == [255, 255, 255]


def test_half_transparent_pixels_mix_with_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))

    assert decode_image(encoded(image), SMALL)[3, 3].tolist() == [127, 127, 127]


def test_transparent_grey_pixels_lie_on_white() -> None:
    assert decode_image(encoded(Image.new("LA", (8, 8), (10, 0))), SMALL)[3, 3].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette(kind: str) -> None:
    assert corners(decode_image(encoded(quarters().quantize(8), kind), SMALL))[3] == [250, 250, 0]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_with_a_transparent_entry_lies_on_white(kind: str) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.paste(1, (0, 4, 8, 8))
    tensor = decode_image(encoded(image, kind, transparency=0), SMALL)

    assert tensor[0, 0].tolist() == [255, 255, 255]
    assert tensor[-1, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(("sample", "level"), [(0, 0), (0x80FF, 0x80), (0xFFFF, 255)])
def test_sixteen_bits_keep_their_upper_eight(sample: int, level: int) -> None:
    image = Image.fromarray(np.full((8, 8), sample, dtype=np.uint16))

    assert decode_image(encoded(image), SMALL)[3, 3].tolist() == [level] * 3


def test_sixteen_bits_with_a_transparent_level() -> None:
    image = Image.fromarray(np.full((8, 8), 0x8000, dtype=np.uint16))
    tensor = decode_image(encoded(image, transparency=0), SMALL)

    assert tensor[3, 3].tolist() == [0x80] * 3


def test_sixteen_bits_of_a_big_endian_tiff() -> None:
    image = Image.fromarray(np.full((8, 8), 0x8000, dtype=">u2"))

    assert decode_image(encoded(image, "TIFF"), SMALL)[3, 3].tolist() == [0x80] * 3


def test_sixteen_bits_of_red_green_and_blue() -> None:
    row = struct.pack(">3H", 0xC8FF, 0x6400, 0x3280) * 8

    assert decode_image(raw_png(8, 8, 16, 2, row), SMALL)[3, 3].tolist() == [0xC8, 0x64, 0x32]


def test_sixteen_bits_with_alpha_lie_on_white() -> None:
    row = struct.pack(">4H", 0xC8FF, 0x6400, 0x3280, 0xFFFF) * 4 + struct.pack(">4H", 0, 0, 0, 0) * 4
    tensor = decode_image(raw_png(8, 8, 16, 6, row), SMALL)

    assert tensor[3, 0].tolist() == [0xC8, 0x64, 0x32]
    assert tensor[3, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_one_grey_channel_becomes_three(kind: str) -> None:
    assert decode_image(encoded(Image.new("L", (16, 16), 77), kind), SMALL)[3, 3].tolist() == [77] * 3


def test_black_and_white() -> None:
    assert decode_image(encoded(Image.new("1", (16, 16), 1)), SMALL)[3, 3].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_or_of_pages_the_first_picture_counts(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    tensor = decode_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]), SMALL)

    assert np.abs(tensor[0, 0].astype(int) - [250, 0, 0]).max() <= 4


def test_a_phone_photo_with_a_second_picture_inside() -> None:
    data = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))])

    assert decode_image(data, SMALL)[0, 0, 0] > 230


def test_stretch_shows_everything_and_crop_keeps_the_shape_of_things() -> None:
    wide = Image.new("RGB", (32, 8), (250, 0, 0))
    wide.paste((0, 250, 0), (12, 0, 20, 8))
    stretched = decode_image(encoded(wide), SMALL)
    cropped = decode_image(encoded(wide), ImagePreprocessing(height=8, width=8, resize="crop"))

    assert stretched[4, 0].tolist() == [250, 0, 0]
    assert cropped[4, 0].tolist() == [0, 250, 0]


def test_height_comes_before_width() -> None:
    assert decode_image(encoded(quarters()), ImagePreprocessing(height=3, width=5)).shape == (3, 5, 3)


@pytest.mark.parametrize(
    ("picture", "decoded"),
    [
        ((64, 64), (64, 64)),  # of 20 x 10; half of it would be less than 40 wide
        ((80, 64), (40, 32)),
        ((160, 80), (40, 20)),
        ((330, 170), (42, 22)),
        ((3200, 90), (800, 23)),
    ],
)
def test_a_scaled_jpeg_stays_twice_the_models_input(
    picture: tuple[int, int], decoded: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda image, *args: sizes.append(image.size) or resize(image, *args))
    turned = Image.Exif()
    turned[EXIF_ORIENTATION] = 6
    shape = ImagePreprocessing(height=10, width=20)

    decode_image(encoded(waves(*picture), "JPEG"), shape, "scaled")
    decode_image(encoded(waves(*picture[::-1]), "JPEG", exif=turned), shape, "scaled")

    assert sizes == [decoded, decoded[::-1]]


@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_scaled_jpeg_looks_like_the_full_one(orientation: int, mode: str, resize: Resize) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    data = encoded(waves(333, 221).convert(mode), "JPEG", quality=90, exif=exif)
    shape = ImagePreprocessing(height=20, width=30, resize=resize)

    full, scaled = decode_image(data, shape), decode_image(data, shape, "scaled")

    assert not np.array_equal(full, scaled)
    assert np.abs(full.astype(int) - scaled).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_only_jpegs_are_scaled(kind: str) -> None:
    data = encoded(waves(200, 200), kind)

    assert np.array_equal(decode_image(data, SMALL), decode_image(data, SMALL, "scaled"))


def test_a_scaled_phone_photo_with_a_second_picture_inside() -> None:
    data = encoded(waves(200, 200), "MPO", save_all=True, append_images=[Image.new("RGB", (200, 200))])

    assert np.abs(decode_image(data, SMALL, "scaled").astype(int) - decode_image(data, SMALL)).max() <= 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty_file"),
        (b"<html>404</html>", "not_an_image"),
        (bytes(100), "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (encoded(quarters(), "JPEG")[:300], "broken_image"),
        (encoded(quarters().resize((200, 200)), "PNG")[:120], "broken_image"),
        (encoded(quarters(), "BMP")[:100], "broken_image"),
        (raw_png(10_001, 10_000), "too_many_pixels"),
        (raw_png(40_000, 40_000), "too_many_pixels"),
    ],
    ids=["empty", "text", "zeros", "postscript", "half-jpeg", "half-png", "half-bmp", "just-too-large", "bomb"],
)
def test_what_cannot_be_decoded_has_its_reason(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_message_about_a_huge_picture_has_the_numbers() -> None:
    with pytest.raises(RowError, match="10001 x 10000 exceeds the limit of 100000000 pixels"):
        decode_image(raw_png(10_001, 10_000), SMALL)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("decoder", ["full", "scaled"])
@pytest.mark.parametrize(
    "data",
    [
        raw_png(2**31 - 1, 2**31 - 1),
        claiming("JPEG", ">HH", 10_000, 10_001),
        claiming("JPEG", ">HH", 65_000, 65_000),
        claiming("WEBP", "<HH", 10_000, 10_001),
        claiming("WEBP", "<HH", 16_383, 16_383),
        claiming("GIF", "<HH", 10_000, 10_001),
        claiming("GIF", "<HH", 65_535, 65_535),
        claiming("BMP", "<ii", 10_000, 10_001),
        claiming("BMP", "<ii", 10_001, -10_000),
        encoded(Image.new("1", (10_000, 10_001)), "TIFF", compression="group4"),
    ],
)
def test_a_header_that_claims_too_much_is_not_believed(data: bytes, decoder: Decoder) -> None:
    with pytest.raises(RowError) as caught:
        decode_image(data, SMALL, decoder)
    assert caught.value.reason == "too_many_pixels"


@pytest.mark.parametrize("decoder", ["full", "scaled"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_half_a_file_is_a_broken_image(kind: str, decoder: Decoder) -> None:
    data = encoded(waves(100, 100), kind)

    with pytest.raises(RowError) as caught:
        decode_image(data[: len(data) // 2], SMALL, decoder)
    assert caught.value.reason == "broken_image"


MAGIC = [
    bytes(128) + b"DICM",
    b"",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\x24\0\0\0WEBPVP8 ",
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.sampled_from(MAGIC), st.binary(max_size=200), st.sampled_from(get_args(Decoder)))
@settings(max_examples=400, deadline=None)
def test_arbitrary_bytes_give_a_tensor_or_a_row_error(magic: bytes, rest: bytes, decoder: Decoder) -> None:
    assert outcome_of(magic + rest, SMALL, decoder) in {(8, 8, 3), *REFUSALS}


PICTURES = [
    encoded(quarters(), "JPEG"),
    encoded(quarters(), "PNG"),
    encoded(quarters().convert("RGBA"), "PNG"),
    encoded(quarters().quantize(8), "GIF"),
    encoded(quarters(), "WEBP"),
    encoded(quarters(), "WEBP", save_all=True, append_images=[Image.new("RGBA", (32, 32))]),
    encoded(quarters(), "TIFF"),
    encoded(quarters(), "TIFF", compression="tiff_lzw"),
    encoded(quarters(), "BMP"),
    encoded(quarters().convert("CMYK"), "JPEG"),
    encoded(waves(64, 64), "JPEG", progressive=True),
    encoded(waves(64, 64), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(damaged(PICTURES), st.sampled_from(get_args(Decoder)))
@settings(max_examples=400, deadline=None)
def test_a_damaged_picture_gives_a_tensor_or_a_row_error(picture: bytes, decoder: Decoder) -> None:
    assert outcome_of(picture, SMALL, decoder) in {(8, 8, 3), *REFUSALS}
