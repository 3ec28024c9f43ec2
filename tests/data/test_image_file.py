"""Files are opened at the right page, within limits, and their upright size is known from the header."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from adjobs.data.image_file import MAX_SIDE, ImageError, equal_pages, opened, orientation
from adjobs.data.images import decode, decode_details, image_size
from tests.helpers.drawing import texture
from tests.helpers.images import encode_png, encode_tiff, png_chunk, write_huge_png

PIXELS = np.zeros((4, 6), np.uint8)
PIXELS[0, :2] = 255  # top left
TURNED = {
    1: PIXELS,
    2: PIXELS[:, ::-1],
    3: PIXELS[::-1, ::-1],
    4: PIXELS[::-1],
    5: PIXELS.T,
    6: np.rot90(PIXELS, -1),
    7: PIXELS[::-1, ::-1].T,
    8: np.rot90(PIXELS),
}


def exif(value: int) -> Image.Exif:
    data = Image.Exif()
    data[274] = value
    return data


def xmp(value: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="{value}"/></x:xmpmeta>'.encode()


def pillow(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert("L" if kind != "WEBP" else "RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def itxt(value: int) -> bytes:
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(value))


def raw_profile(value: int) -> bytes:
    data = exif(value).tobytes()
    text = f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()
    return png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


FILES = {
    "JPEG, EXIF": lambda value: pillow("JPEG", quality=100, exif=exif(value)),
    "JPEG, XMP": lambda value: pillow("JPEG", quality=100, xmp=xmp(value)),
    "WebP, EXIF": lambda value: pillow("WEBP", lossless=True, exif=exif(value)),
    "WebP, XMP": lambda value: pillow("WEBP", lossless=True, xmp=xmp(value)),
    "PNG, EXIF": lambda value: pillow("PNG", exif=exif(value)),
    "PNG, EXIF behind the pixels": lambda value: encode_png(PIXELS, after=png_chunk(b"eXIf", exif(value).tobytes()[6:])),
    "PNG, XMP": lambda value: encode_png(PIXELS, before=itxt(value)),
    "PNG, XMP behind the pixels": lambda value: encode_png(PIXELS, after=itxt(value)),
    "PNG, raw profile": lambda value: encode_png(PIXELS, before=raw_profile(value)),
    "PNG, raw profile behind the pixels": lambda value: encode_png(PIXELS, after=raw_profile(value)),
    "TIFF": lambda value: encode_tiff(PIXELS, tags={274: value}),
    "TIFF, compressed": lambda value: encode_tiff(PIXELS, tags={274: value}, compress=True),
    "TIFF, big-endian": lambda value: encode_tiff(PIXELS, tags={274: value}, order=">"),
    "TIFF of 16 bits": lambda value: encode_tiff(PIXELS.astype(np.uint16) * 257, tags={274: value}),
    "TIFF, XMP": lambda value: pillow("TIFF", tiffinfo={700: xmp(value)}),
}


@pytest.mark.parametrize("write", FILES.values(), ids=list(FILES))
def test_orientation_image_and_size_agree_wherever_it_stands(write, tmp_path):
    path = tmp_path / "image"
    for value, upright in TURNED.items():
        path.write_bytes(write(value))
        pixels = np.asarray(decode(path).convert("L")) > 127
        np.testing.assert_array_equal(pixels, upright > 127, err_msg=f"orientation {value}")
        assert image_size(path) == upright.shape[::-1]


@pytest.mark.parametrize("value", [0, 9])  # of more digits in XMP, Pillow takes the first
def test_orientation_invalid_is_ignored(value):
    for write in FILES.values():
        content = write(value)
        with opened(content) as image:
            assert orientation(image) == 1
        assert decode(content).size == (6, 4)


def test_opened_large_page_behind_a_thumbnail_is_used(tmp_path):
    page, thumbnail = texture(32, np.random.default_rng(0))[..., 0], np.zeros((8, 8), np.uint8)
    path = tmp_path / "a.tif"
    for pages, types in [((thumbnail, page), (1, 0)), ((page, thumbnail), (0, 1)), ((thumbnail, page, page * 0), (0, 0, 4))]:
        path.write_bytes(encode_tiff(*pages, tags={254: types}))
        np.testing.assert_array_equal(decode(path), page)
        assert image_size(path) == (32, 32)
        assert decode_details(path).pages == 1


def test_opened_first_of_several_equal_pages_or_frames_is_used():
    first, second = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    contents = [encode_tiff(first, second, second[:4])]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("MPO", {})):
        buffer = io.BytesIO()
        frames = [Image.fromarray(pixels).convert("RGB") for pixels in (first, second)]
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
        contents.append(buffer.getvalue())
    for content in contents:
        decoded = decode_details(content)
        assert np.asarray(decoded.image).max() == 0
        assert decoded.pages == 2


def test_opened_damaged_page_behind_the_first_is_ignored():
    content = bytearray(encode_tiff(PIXELS))
    directory = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[directory : directory + 2])[0]
    content[directory + 2 + 12 * count :][:4] = b""
    next_at = directory + 2 + 12 * count
    content[next_at : next_at + 4] = struct.pack("<I", 10)  # into the pixels
    np.testing.assert_array_equal(decode(bytes(content)), PIXELS)
    with opened(bytes(content)) as image:
        assert equal_pages(image) == 1


def test_opened_long_side_is_refused_by_its_header(tmp_path):
    path = write_huge_png(tmp_path / "line.png", MAX_SIDE + 1, 1)
    for read in (decode, image_size):
        with pytest.raises(ImageError, match=r"is 100,001 x 1 pixels; a side may have at most 100,000; crop it$") as raised:
            read(path)
        assert raised.value.kind == "too large"
    assert decode(write_huge_png(path, MAX_SIDE, 1)).size == (MAX_SIDE, 1)


def test_opened_too_little_memory_is_an_error_of_the_file(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(ImageError, match=r"cannot be decoded \(not enough free memory\); free some memory, scale the image down"):
        decode(encode_png(PIXELS))


RGB = texture(8, np.random.default_rng(1))
SEEDS = [
    pillow("JPEG"),
    pillow("PNG", exif=exif(6)),
    pillow("TIFF", compression="tiff_lzw"),
    pillow("BMP"),
    pillow("WEBP", lossless=True),
    encode_png(RGB.astype(np.uint16) * 100),
    encode_tiff(RGB.astype(np.uint16), RGB.astype(np.uint16), order=">", compress=True),
    encode_tiff(PIXELS.astype(np.float32), tags={262: 0}),
    encode_tiff(RGB, planar=True),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    st.none() | st.floats(0, 1),
)
@example(b"", [], None)
@example(b"\x89PNG\r\n\x1a\n", [], None)
@example(b"II*\0\x08\0\0\0\0\0", [], None)
def test_decode_changed_bytes_give_an_image_or_an_image_error(tmp_path_factory, seed, changes, end):
    content = bytearray(seed)
    for place, value in changes:
        if content:
            content[int(place * len(content))] = value
    content = bytes(content if end is None else content[: int(end * len(content))])
    path = tmp_path_factory.getbasetemp() / "changed"
    path.write_bytes(content)
    image = None
    with suppress(ImageError):
        image = decode(content)
    if image is not None:
        assert image.mode in ("L", "RGB")
        assert image_size(path) == image.size
