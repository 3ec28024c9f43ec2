"""Scores and descriptors of image files; what cannot be used is left out with its cause."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from adjobs.drift.describe import describe_images
from adjobs.drift.images import ImageFile
from tests.helpers.detectors import NotFinite, brightness_detector, draw_image


def test_describe_images_gives_scores_and_statistics_in_order(tmp_path):
    paths = [draw_image(tmp_path, f"{i}.png", (0, 0, 160, 96), brightness=40 + i) for i in range(20)]  # more than a batch
    described = describe_images(brightness_detector(), [ImageFile(path.name, path) for path in paths], None)
    assert [file.path for file in described.files] == paths
    np.testing.assert_allclose(described.table.scores, (40 + np.arange(20)) / 255, rtol=1e-5)
    np.testing.assert_allclose(described.table.statistics[:, 0], 40 + np.arange(20))
    assert (described.table.features, described.unreadable) == (None, [])


def test_describe_images_leaves_out_what_cannot_be_used(tmp_path):
    white = draw_image(tmp_path, "white.png", (0, 0, 160, 96))
    dark = draw_image(tmp_path, "dark.png")
    (tmp_path / "broken.png").write_bytes(b"no")
    files = [ImageFile(f"s3://line/{path.name}", path) for path in (white, tmp_path / "broken.png", dark)]
    described = describe_images(brightness_detector(method=NotFinite(math.nan)), files, None)
    assert [file.name for file in described.files] == ["s3://line/dark.png"]
    assert [cause.split(": ")[0] for cause in described.unreadable] == [
        "s3://line/broken.png",
        "s3://line/white.png",
    ]
    assert str(tmp_path) not in "".join(described.unreadable)


def test_describe_images_counts_other_bit_depths(tmp_path):
    Image.new("I;16", (64, 64), 700).save(tmp_path / "deep.png")
    assert describe_images(brightness_detector(), [ImageFile("deep.png", tmp_path / "deep.png")], None).other_depths == 1


def test_describe_images_of_nothing():
    described = describe_images(brightness_detector(), [], None)
    assert (described.files, len(described.table.scores), described.table.statistics) == ([], 0, None)
