"""Bit depths, levels and saturation of a data set's images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adjobs.cli.data.text import level_lines
from adjobs.data.checks.levels import count_levels
from adjobs.data.checks.preflight import DatasetReport, inspect_dataset
from adjobs.data.image_reading import ImageReading, PixelScale
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save, texture


def grey(seed: int) -> np.ndarray:
    return texture(64, np.random.default_rng(seed))[..., 0].astype(np.uint16)


def inspect(root, pixels, scale: PixelScale | None = None, suffix: str = "png") -> DatasetReport:
    for i, values in enumerate(pixels):
        save(root / "good" / f"{i:02}.{suffix}", values)
    return inspect_dataset(open_folder(root), scale=scale or PixelScale())


def kinds(report: DatasetReport) -> list[tuple[str, str]]:
    return [(problem.sample, problem.kind) for problem in report.problems]


def test_count_levels_counts_levels_and_extremes_of_all_channels():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0], pixels[1, 1] = (255, 7, 8), (255, 255, 255)
    assert count_levels(Image.fromarray(pixels)) == (4, 6 / 12, 4 / 12)
    assert count_levels(Image.fromarray(pixels[..., 0])) == (2, 0.5, 0.5)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_inspect_dataset_12_bits_are_read_as_8_bits_would_be(tmp_path, suffix):
    deep = inspect(tmp_path / "deep", [grey(i) * 16 for i in range(12)], suffix=suffix)
    plain = inspect(tmp_path / "plain", [grey(i).astype(np.uint8) for i in range(12)])
    assert deep.problems == plain.problems == []
    assert deep.reading == ImageReading(white=4095, depths="more than 8 bits")
    assert deep.levels.images == {"12 of 16 bits": 12}
    assert abs(deep.levels.median_levels - plain.levels.median_levels) <= 2
    assert (plain.levels.black, plain.levels.white) == (None, None)


def test_inspect_dataset_shifted_12_bits_use_the_full_range(tmp_path):
    report = inspect(tmp_path, [grey(i) * 256 for i in range(12)])
    assert (report.reading.white, report.problems) == (65535, [])


def test_inspect_dataset_depth_that_was_assumed_is_in_the_summary(tmp_path):
    dark = [grey(i) * 4 for i in range(12)]  # perhaps of 12 bits
    assumed = inspect(tmp_path, dark)
    assert (assumed.reading.white, assumed.levels.assumed_bits) == (1023, 10)
    assert "white 1023 (10 bits hold all values; if the camera has more, set data.bit_depth)" in level_lines(assumed.levels)[1]
    given = inspect(tmp_path, dark, PixelScale(12))
    assert (given.reading.white, given.levels.assumed_bits) == (4095, None)
    assert level_lines(given.levels)[1].endswith("white 4095")
    assert inspect(tmp_path, [pixels * 64 for pixels in dark]).levels.assumed_bits is None  # no camera has more than 16


def test_inspect_dataset_mixed_bit_depths_are_a_warning(tmp_path):
    report = inspect(tmp_path, [*(grey(i) * 16 for i in range(6)), *(grey(i).astype(np.uint8) for i in range(6, 12))])
    assert kinds(report) == [("", "bit depth")]
    assert report.problems[0].message.startswith("6 images have 8 bits and 6 have more (4095 is white);")
    assert report.reading.depths == "both"


def test_inspect_dataset_few_images_with_more_bits_are_a_warning(tmp_path):
    images = [grey(i) * 4 for i in range(20)]
    images[3][5, 5] = 60_000  # a hot pixel
    report = inspect(tmp_path, images)
    assert ("", "bit depth") in kinds(report)
    (message,) = [problem.message for problem in report.problems if problem.kind == "bit depth"]
    assert message.startswith("1 of 20 images have values above 1023, so that 65535 is white in all; if their brightest pixels")
    fixed = inspect(tmp_path, images, PixelScale(10))
    assert kinds(fixed) == [("", "clipped")]
    assert (
        fixed.problems[0].message
        == "1 of 20 images have values outside 0 to 1023, which are clipped; set a larger data.bit_depth"
    )


def test_inspect_dataset_negative_values_need_a_value_range(tmp_path):
    images = [grey(i).astype(np.int32) * 16 for i in range(12)]
    images[3][5, 5] = -1
    report = inspect(tmp_path, images, PixelScale(12), suffix="tif")
    assert kinds(report) == [("good/03.tif", "value range")]
    assert "set data.value_range to" in report.problems[0].message
    given = inspect(tmp_path, images, PixelScale(None, (0, 4095)), suffix="tif")
    assert [problem.message for problem in given.problems] == [
        "1 of 12 images have values outside 0 to 4095, which are clipped; set a wider data.value_range"
    ]


def test_inspect_dataset_values_above_a_white_of_zero_are_clipped(tmp_path):
    images = [grey(i).astype(np.float32) - 255 for i in range(12)]
    images[3][5, 5] = 1
    report = inspect(tmp_path, images, PixelScale(None, (-255, 0)), suffix="tif")
    assert ("", "clipped") in kinds(report)


def test_inspect_dataset_few_levels_are_a_warning(tmp_path):
    report = inspect(tmp_path, [grey(i) * 16 for i in range(12)], PixelScale(16))
    assert ("", "few levels") in kinds(report)
    assert report.levels.median_levels <= 10


def test_inspect_dataset_saturated_images_are_a_warning(tmp_path):
    images = [grey(i).astype(np.uint8) for i in range(12)]
    for pixels in images:
        pixels[:20] = 255
    report = inspect(tmp_path, images)
    assert kinds(report) == [("", "saturated white")]
    assert report.problems[0].message.startswith("31% of the median image are white without any detail;")
    assert report.levels.max_white == pytest.approx(20 / 64)


def test_inspect_dataset_floating_point_images_need_a_range(tmp_path):
    images = [(grey(i) / 255).astype(np.float32) for i in range(12)]
    report = inspect(tmp_path, images, suffix="tif")
    assert {problem.kind for problem in report.problems if problem.sample} == {"value range"}
    in_range = inspect(tmp_path, images, PixelScale(None, (0, 1)), suffix="tif")
    assert (in_range.problems, in_range.reading.white) == ([], 1)
    assert in_range.levels.images == {"floating-point numbers": 12}


def test_inspect_dataset_pages_and_transparency_are_warnings(tmp_path):
    images = [grey(i).astype(np.uint8) for i in range(12)]
    inspect(tmp_path, images)
    transparent = np.dstack([images[0]] * 4)
    transparent[..., 3] = 255
    save(tmp_path / "good" / "00.png", transparent)
    transparent[0, 0, 3] = 0
    save(tmp_path / "good" / "01.png", transparent[..., [0, 0, 0, 3]] ^ np.uint8([1, 1, 1, 0]))
    pages = [Image.fromarray(grey(i).astype(np.uint8)) for i in (2, 3)]
    (tmp_path / "good" / "02.png").unlink()
    pages[0].save(tmp_path / "good" / "02.tif", save_all=True, append_images=pages[1:])
    report = inspect_dataset(open_folder(tmp_path))
    assert {("good/01.png", "transparency"), ("good/02.tif", "several pages")} <= set(kinds(report))
    assert ("good/00.png", "transparency") not in kinds(report)
