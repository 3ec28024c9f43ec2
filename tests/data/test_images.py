from __future__ import annotations

import io
import pickle
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from adjobs.data import pixels
from adjobs.data.image_reading import DEFAULT_READING, ImageReading, PixelScale
from adjobs.data.images import ImageError, decode, find_reading, image_size, load_rgb, stretch
from adjobs.data.labels.mask_values import decode_mask
from adjobs.data.labels.masks import resize_labels
from tests.helpers.drawing import save, texture
from tests.helpers.images import encode_tiff, write_huge_png


def load_mask(source, size):
    return resize_labels(decode_mask(source).defect, size).astype(bool)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"])
def test_load_rgb_file_and_bytes_of_every_suffix(suffix, tmp_path):
    path = save(tmp_path / f"x.{suffix}", texture(48, np.random.default_rng(0)))
    image = load_rgb(path, 24)
    assert (image.shape, image.dtype) == ((24, 24, 3), np.uint8)
    assert image.flags.writeable
    np.testing.assert_array_equal(load_rgb(path.read_bytes(), 24), image)
    assert image_size(path) == (48, 48)


def test_load_rgb_reduced_image_is_antialiased(tmp_path):
    pixels = texture(8, np.random.default_rng(0))
    path = save(tmp_path / "x.png", pixels)
    np.testing.assert_array_equal(load_rgb(path, 8), pixels)
    # Antialiasing: black and white lines of one pixel become grey; without it, they would become one of the two.
    lines = np.zeros((64, 64, 3), dtype=np.uint8)
    lines[:, ::2] = 255
    small = load_rgb(save(tmp_path / "lines.png", lines), 16)
    assert small.min() > 110
    assert small.max() < 145


def test_load_rgb_wide_image_is_stretched_to_a_square(tmp_path):
    wide = np.zeros((10, 40, 3), dtype=np.uint8)
    wide[:, 20:] = 255
    image = load_rgb(save(tmp_path / "x.png", wide), 20)
    assert image.shape == (20, 20, 3)
    assert image[:, :9].max() == 0
    assert image[:, 11:].min() == 255


@pytest.mark.parametrize(("width", "height"), [(50, 300), (300, 50), (97, 131)])
def test_stretch_is_rows_first_whatever_the_shape(width, height):
    """Pillow 13 begins with the columns of tall images, which changes grey levels, as each pass rounds."""
    side = 32
    image = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)

    def weights(length):
        distance = np.abs((2 * np.arange(length) + 1) * side - (2 * np.arange(side) + 1)[:, None] * length)
        triangle = np.maximum(2 * max(length, side) - distance, 0)
        return np.floor(triangle / triangle.sum(1, keepdims=True) * 2**22 + 0.5) / 2**22

    rows = np.floor(image @ weights(width).T + 0.5)
    expected = np.floor(weights(height) @ rows + 0.5)
    assert np.array_equal(stretch(Image.fromarray(image), side)[..., 0], expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_16_bit_grey_uses_full_range(kind):
    values = np.array([[0, 128, 129, 257], [32768, 65407, 65408, 65535]], dtype=np.uint16)
    image = np.asarray(decode(encoded(Image.fromarray(values), kind)))
    # v / 257, rounded: 128 / 257 = 0.498, 129 / 257 = 0.502, 65407 / 257 = 254.502.
    np.testing.assert_array_equal(image, [[0, 0, 1, 1], [128, 255, 255, 255]])


def test_load_rgb_other_modes_are_converted(tmp_path):
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


def test_decode_exif_orientation_rotates_image_mask_and_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees
    pixels = np.zeros((2, 4), dtype=np.uint8)
    pixels[0, :2] = 255  # top left, and after the rotation top right
    for name in ("x.png", "x.tiff", "x.webp"):
        path = tmp_path / name
        Image.fromarray(pixels).save(path, exif=exif, lossless=True)
        rotated = np.rot90(pixels, -1)
        np.testing.assert_array_equal(np.asarray(decode(path).convert("L")), rotated)
        assert image_size(path) == (2, 4) == rotated.shape[::-1]
        np.testing.assert_array_equal(load_mask(path, 4), np.repeat(rotated, 2, axis=1) > 0)


def test_decode_mask_resized_is_nearest_and_boolean():
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True  # the centre of the central block; with blending, one pixel in nine would be lost
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
def test_decode_mask_values_are_thresholded(values, expected):
    pixels = np.array(values, dtype=np.uint8).reshape(2, 2)
    expected = np.array(expected, dtype=bool).reshape(2, 2)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("RGB"), Image.fromarray(pixels.astype(np.uint16))):
        np.testing.assert_array_equal(load_mask(encoded(image, "PNG"), 2), expected)


def test_decode_mask_transparent_pixels_are_false():
    pixels = np.full((2, 2, 4), 255, dtype=np.uint8)
    pixels[0, :, 3] = 0
    np.testing.assert_array_equal(load_mask(encoded(Image.fromarray(pixels), "PNG"), 2), [[False, False], [True, True]])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_load_rgb_truncated_file_is_refused(kind, tmp_path):
    data = encoded(Image.effect_noise((64, 64), 50), kind)
    path = tmp_path / "half.png"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ImageError, match=r"half.png: cannot be decoded \(image file is truncated.*export it again or remove it$"
    ) as raised:
        load_rgb(path, 8)
    assert raised.value.kind == "truncated"
    with pytest.raises(ImageError, match=r"^image of \d+ bytes: cannot be decoded \(image file is truncated"):
        load_rgb(path.read_bytes(), 8)


def test_load_rgb_truncated_webp_is_refused():
    data = encoded(Image.effect_noise((64, 64), 50), "WEBP")
    with pytest.raises(ImageError, match="cannot be decoded"):
        load_rgb(data[: len(data) // 2], 8)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", encoded(Image.new("L", (4, 4)), "GIF"), encoded(Image.new("L", (4, 4)), "EPS")]
)
def test_load_rgb_unsupported_data_is_refused(data, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(data)
    for load in (load_rgb, load_mask):
        with pytest.raises(
            ImageError, match=r"x.png: is not a supported image; allowed are PNG, JPEG, BMP, TIFF and WebP; export it again"
        ):
            load(path, 8)
    with pytest.raises(ImageError, match="is not a supported image"):
        image_size(path)


def test_load_rgb_missing_file_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"missing.png: cannot be decoded \(No such file or directory\)"):
        load_rgb(tmp_path / "missing.png", 8)


def test_load_rgb_floating_point_pixels_are_refused_without_a_range():
    data = encoded(Image.fromarray(np.array([[0, 0.25], [0.5, 1]], dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match=r"has floating-point pixels \(from 0 to 1\).*; set data.value_range to ") as raised:
        load_rgb(data, 4)
    assert raised.value.kind == "value range"


def test_load_rgb_too_large_image_is_refused_by_its_header(tmp_path):
    path = write_huge_png(tmp_path / "huge.png", 40_000)
    message = r"huge.png: has more than 178,956,970 pixels, the maximum; scale it down or crop it$"
    started_at = time.perf_counter()
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for load in (lambda: load_rgb(path, 8), lambda: load_mask(path, 8), lambda: image_size(path)):
        with pytest.raises(ImageError, match=message) as raised:
            load()
        assert raised.value.kind == "too large"
    assert time.perf_counter() - started_at < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before < 50_000  # KiB; the decoded image has 1.6 GB


def test_load_rgb_too_large_image_is_refused_without_pillow_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(ImageError, match="has more than 178,956,970 pixels"):
        load_rgb(write_huge_png(tmp_path / "huge.png", 14_000), 8)


def test_image_error_pickled_is_equal():
    error = ImageError("x.png", "truncated", "is cut off")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.kind, copy.reason) == ("x.png: is cut off", "truncated", "is cut off")


def test_data_modules_import_neither_torch_nor_ray():
    code = (
        "import sys, adjobs.data.cache.images, adjobs.data.checks.preflight, adjobs.data.splits.assignment\n"
        "assert not {'torch', 'ray', 'mlflow', 'boto3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_find_reading_is_that_of_all_images_and_8_bits_are_not_decoded(tmp_path, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", texture(64, np.random.default_rng(i))) for i in range(3)]
    with monkeypatch.context() as context:
        context.setattr(pixels, "read_pixels", None)
        assert find_reading(paths) == DEFAULT_READING
    deep = save(tmp_path / "deep.png", np.full((64, 64), 1000, np.uint16))
    (tmp_path / "broken.png").write_bytes(b"")
    paths += [deep, tmp_path / "broken.png"]
    assert find_reading(paths) == ImageReading(white=1023, depths="both")
    assert find_reading(paths, PixelScale(14)).white == 2**14 - 1


def test_decode_12_bits_white_is_zero_is_inverted_within_its_range():
    reading = ImageReading(white=4095)
    stored = np.array([[0, 4095, 1024]], np.uint16)
    assert np.asarray(decode(encode_tiff(stored), reading)).tolist() == [[0, 255, 64]]
    assert np.asarray(decode(encode_tiff(stored, tags={262: 0}), reading)).tolist() == [[255, 0, 191]]
