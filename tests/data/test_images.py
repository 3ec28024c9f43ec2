from __future__ import annotations

import io
import pickle
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adjobs.data.images import ImageError, decode, decode_mask, image_size, load_rgb
from adjobs.data.labels.masks import resize_labels
from tests.helpers.drawing import save, texture


def load_mask(source, size):
    return resize_labels(decode_mask(source), size).astype(bool)


def write_huge_png(path: Path, side: int) -> Path:
    """A valid PNG of side x side black pixels, 1 bit each, which compress to nearly nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row, packer = bytes(1 + (side + 7) // 8), zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"])
def test_every_suffix_from_file_and_bytes(suffix, tmp_path):
    path = save(tmp_path / f"x.{suffix}", texture(48, np.random.default_rng(0)))
    image = load_rgb(path, 24)
    assert (image.shape, image.dtype) == ((24, 24, 3), np.uint8)
    assert image.flags.writeable
    np.testing.assert_array_equal(load_rgb(path.read_bytes(), 24), image)
    assert image_size(path) == (48, 48)


def test_one_size_is_kept_and_halving_averages(tmp_path):
    pixels = texture(8, np.random.default_rng(0))
    path = save(tmp_path / "x.png", pixels)
    np.testing.assert_array_equal(load_rgb(path, 8), pixels)
    # Antialiasing: black and white lines of one pixel become grey; without it, one of the two would be picked.
    lines = np.zeros((64, 64, 3), dtype=np.uint8)
    lines[:, ::2] = 255
    small = load_rgb(save(tmp_path / "lines.png", lines), 16)
    assert small.min() > 110
    assert small.max() < 145


def test_stretched_to_a_square_in_both_directions(tmp_path):
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 20:] = 255
    image = load_rgb(save(tmp_path / "x.png", wide), 20)
    assert image.shape == (20, 20, 3)
    assert image[:, :9].max() == 0
    assert image[:, 11:].min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_uses_its_full_range(kind):
    values = np.array([[0, 128, 129, 257], [32768, 65407, 65408, 65535]], dtype=np.uint16)
    image = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    # v / 257, rounded: 128 / 257 = 0.498, 129 / 257 = 0.502, 65407 / 257 = 254.502.
    np.testing.assert_array_equal(image, [[0, 0, 1, 1], [128, 255, 255, 255]])


def test_modes_become_rgb(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    rgb = Image.fromarray(colours)
    grey = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(grey))
    palette = rgb.quantize(4)
    for image in (rgb, alpha, palette):
        np.testing.assert_array_equal(load_rgb(encoded(image, "PNG"), 2), colours)
    np.testing.assert_array_equal(load_rgb(encoded(palette, "PNG", transparency=bytes([0, 80, 160, 255])), 2), colours)
    three = np.repeat(grey[..., None], 3, axis=2)
    np.testing.assert_array_equal(load_rgb(encoded(Image.fromarray(grey), "PNG"), 2), three)
    np.testing.assert_array_equal(load_rgb(encoded(Image.fromarray(grey).convert("LA"), "PNG"), 2), three)
    np.testing.assert_array_equal(load_rgb(encoded(Image.fromarray(grey > 150), "PNG"), 2)[..., 0], [[0, 0], [255, 255]])
    assert load_rgb(encoded(rgb.convert("CMYK"), "JPEG"), 2).shape == (2, 2, 3)


def test_exif_orientation_turns_image_mask_and_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    pixels = np.zeros((2, 4), dtype=np.uint8)
    pixels[0, :2] = 255  # top left, and after the turn top right
    for name in ("x.png", "x.tiff", "x.webp"):
        path = tmp_path / name
        Image.fromarray(pixels).save(path, exif=exif, lossless=True)
        turned = np.rot90(pixels, -1)
        np.testing.assert_array_equal(np.asarray(decode(path).convert("L")), turned)
        assert image_size(path) == (2, 4) == turned.shape[::-1]
        np.testing.assert_array_equal(load_mask(path, 4), np.repeat(turned, 2, axis=1) > 0)


def test_mask_is_nearest_and_boolean():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True  # the middle of the middle block; blended, one pixel in nine is lost
    mask[:3, :3] = True
    mask[1, 1] = False
    small = load_mask(encoded(Image.fromarray(mask), "PNG"), 3)
    assert small.dtype == bool
    np.testing.assert_array_equal(small, [[False, False, False], [False, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255, 254, 253], [0, 1, 1, 1]),
        ([0, 1, 2, 0], [0, 1, 1, 0]),  # class numbers
        ([0, 60, 128, 255], [0, 0, 1, 1]),  # smoothed edge
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_mask_values(values, expected):
    pixels = np.array(values, dtype=np.uint8).reshape(2, 2)
    expected = np.array(expected, dtype=bool).reshape(2, 2)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("RGB"), Image.fromarray(pixels.astype(np.uint16))):
        np.testing.assert_array_equal(load_mask(encoded(image, "PNG"), 2), expected)


def test_transparent_mask_pixels_are_not_defects():
    pixels = np.full((2, 2, 4), 255, dtype=np.uint8)
    pixels[0, :, 3] = 0
    np.testing.assert_array_equal(load_mask(encoded(Image.fromarray(pixels), "PNG"), 2), [[False, False], [True, True]])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_truncated(kind, tmp_path):
    data = encoded(Image.effect_noise((64, 64), 50), kind)
    path = tmp_path / "half.png"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ImageError, match=r"half.png: cannot be decoded \(image file is truncated.*export it again or remove it$"
    ) as caught:
        load_rgb(path, 8)
    assert caught.value.kind == "truncated"
    with pytest.raises(ImageError, match=r"^image of \d+ bytes: cannot be decoded \(image file is truncated"):
        load_rgb(path.read_bytes(), 8)


def test_truncated_webp():
    data = encoded(Image.effect_noise((64, 64), 50), "WEBP")
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_rgb(data[: len(data) // 2], 8)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", encoded(Image.new("L", (4, 4)), "GIF"), encoded(Image.new("L", (4, 4)), "EPS")]
)
def test_no_image(data, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    for load in (load_rgb, load_mask):
        with pytest.raises(ImageError, match=r"x.png: is no image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again"):
            load(path, 8)
    with pytest.raises(ImageError, match="is no image"):
        image_size(path)


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"gone.png: cannot be decoded \(No such file or directory\)"):
        load_rgb(tmp_path / "gone.png", 8)


def test_32_bit_pixels_have_no_range():
    data = encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")
    with pytest.raises(
        ImageError, match=r"pixels of 32 bits \(mode F\) have no agreed range; allowed are 8 and 16 bits; convert it$"
    ):
        load_rgb(data, 4)


def test_too_large_is_refused_by_its_header(tmp_path):
    path = write_huge_png(tmp_path / "huge.png", 40_000)
    message = r"huge.png: has more than 178,956,970 pixels, the most allowed; scale it down or cut it into parts$"
    start = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (lambda: load_rgb(path, 8), lambda: load_mask(path, 8), lambda: image_size(path)):
        with pytest.raises(ImageError, match=message) as caught:
            load()
        assert caught.value.kind == "too large"
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB; decoded it has 1.6 GB


def test_too_large_is_refused_where_pillow_does_not_look(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="has more than 178,956,970 pixels"):
        load_rgb(write_huge_png(tmp_path / "huge.png", 14_000), 8)


def test_errors_travel_between_processes():
    error = ImageError("x.png", "truncated", "is cut off")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.kind, copy.reason) == ("x.png: is cut off", "truncated", "is cut off")


def test_neither_torch_nor_ray_is_imported():
    code = (
        "import sys, adjobs.data.cache.images, adjobs.data.checks.preflight, adjobs.data.splits.assignment\n"
        "assert not {'torch', 'ray', 'mlflow', 'boto3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
