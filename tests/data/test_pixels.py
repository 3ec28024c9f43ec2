"""Pixels of every kind of file are those that were written, or the file is refused."""

from __future__ import annotations

import io
import itertools
import zlib

import numpy as np
import pytest
from PIL import Image

from adjobs.data.image_file import ImageError
from adjobs.data.pixels import Pixels, read_pixels
from tests.helpers.images import encode_png, encode_tiff, png_chunk

RNG = np.random.default_rng(0)


def random_values(channels: int, dtype: type = np.uint16) -> np.ndarray:
    shape = (5, 7) if channels == 1 else (5, 7, channels)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_read_pixels_png_of_16_bits_keeps_all_bits(channels):
    values = random_values(channels)
    values[0, 0] = 0
    pixels = read_pixels(encode_png(values))
    colours = {1: values, 2: values[..., 0], 3: values, 4: values[..., :3]}[channels]
    np.testing.assert_array_equal(pixels.values, colours)
    assert (pixels.bits, pixels.size, pixels.image) == (16, (7, 5), None)
    if channels in (2, 4):
        np.testing.assert_array_equal(pixels.alpha, values[..., -1] > 0)


def test_read_pixels_interlaced_png_of_16_bits_keeps_all_bits():
    values = random_values(3)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(
        b"\0" + values[y, left::right].astype(">u2").tobytes()
        for left, top, right, down in passes
        for y in range(top, 5, down)
        if left < 7
    )
    content = encode_png(values)
    header = content[16:28] + b"\1"
    interlaced = content[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    np.testing.assert_array_equal(read_pixels(interlaced).values, values)


@pytest.mark.parametrize(("order", "compress"), list(itertools.product("<>", [False, True])))
def test_read_pixels_tiff_of_more_than_8_bits_keeps_all_bits(order, compress):
    signed = random_values(1, np.int16)
    for values in (random_values(1), random_values(3), random_values(4), signed, signed.astype(np.int32) * 1000):
        pixels = read_pixels(encode_tiff(values, order=order, compress=compress))
        np.testing.assert_array_equal(pixels.values, values[..., :3] if values.ndim == 3 else values)
        assert pixels.bits == 8 * values.itemsize
    floats = RNG.normal(size=(5, 7)).astype(np.float32)
    np.testing.assert_array_equal(read_pixels(encode_tiff(floats, order=order, compress=compress)).values, floats)


def test_read_pixels_unsigned_32_bits_are_not_negative():
    values = np.array([[0, 2**32 - 1]], np.uint32)
    np.testing.assert_array_equal(read_pixels(encode_tiff(values)).values, values)


def test_read_pixels_packed_12_bits():
    values = np.array([[0x123, 0xABC], [0, 0xFFF]], np.uint16)
    packed = np.frombuffer(bytes.fromhex("123abc000fff"), np.uint8).reshape(2, 3)
    pixels = read_pixels(encode_tiff(packed, tags={256: 2, 258: 12}))
    np.testing.assert_array_equal(pixels.values, values)
    assert pixels.bits == 12


def test_read_pixels_white_is_zero_at_every_depth():
    assert read_pixels(encode_tiff(np.array([[0, 9]], np.uint16), tags={262: 0})).white_is_zero
    assert read_pixels(encode_tiff(np.array([[0, 9]], np.float32), tags={262: 0})).white_is_zero
    assert not read_pixels(encode_tiff(np.array([[0, 9]], np.uint16))).white_is_zero
    eight = read_pixels(encode_tiff(np.array([[0, 9]], np.uint8), tags={262: 0}))  # inverted by Pillow
    assert np.asarray(eight.image).tolist() == [[255, 246]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            encode_tiff(random_values(3), planar=True),
            "has 16 bits in separate planes of colour, which cannot be read; save it with",
        ),
        (encode_tiff(random_values(4), planar=True, compress=True), "has 16 bits in separate planes of colour"),
        (encode_tiff(random_values(4), tags={262: 5, 338: 0}), "cannot be decoded|CMYK|cannot be read"),
        (
            encode_tiff(random_values(4), tags={338: 1}),
            "has 16 bits with premultiplied transparency, which cannot be read; save it as",
        ),
        (
            encode_tiff(random_values(1, np.int8)),
            "has signed pixels of 8 bits; allowed are unsigned ones of 8 or 16 bits; convert it",
        ),
        (
            encode_tiff(np.ones((2, 2))),
            r"is a TIFF of 64-bit floating-point numbers \(little-endian\), which cannot be read; save it",
        ),
        (encode_tiff(np.ones((2, 2), np.float16)), "is a TIFF of 16-bit floating-point numbers"),
        (
            encode_tiff(random_values(1), order=">", tags={262: 0}),
            r"TIFF of 16-bit unsigned integers \(big-endian, white as zero\)",
        ),
    ],
)
def test_read_pixels_what_cannot_be_read_without_loss_is_refused(content, message):
    with pytest.raises(ImageError, match=message) as raised:
        read_pixels(content)
    assert raised.value.kind == "unreadable"
    assert "\n" not in str(raised.value)


def test_read_pixels_8_bits_are_an_image():
    pixels = read_pixels(encode_png(random_values(3, np.uint8)))
    assert pixels.values is pixels.range is None
    assert isinstance(pixels.image, Image.Image)


def test_range_of_values_that_are_not_finite_is_nan():
    for value in (np.nan, np.inf, -np.inf):
        low, high = Pixels(values=np.array([[0, value]], np.float32), bits=32).range[2:]
        assert np.isnan([low, high]).all()


def test_read_pixels_rotated_16_bits(tmp_path):
    values = random_values(3)
    rotated = np.rot90(values, -1)
    np.testing.assert_array_equal(read_pixels(encode_tiff(values, tags={274: 6})).values, rotated)
    exif = Image.Exif()
    exif[274] = 6
    content = encode_png(values, after=png_chunk(b"eXIf", exif.tobytes()[6:]))
    np.testing.assert_array_equal(read_pixels(content).values, rotated)
    buffer = io.BytesIO()
    Image.fromarray(values[..., 0]).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(read_pixels(buffer.getvalue()).values, rotated[..., 0])
