from __future__ import annotations

import numpy as np
import pytest

from adjobs.data import images
from adjobs.data.checks.preflight import check_dataset, without_invalid
from adjobs.data.dataset import Dataset
from adjobs.data.splits.assignment import SplitAssignment
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, save, texture


def warnings_of(dataset: Dataset, split: SplitAssignment | None = None) -> list[tuple[str, str]]:
    """Sample and kind of all problems, none of which is an error."""
    problems = check_dataset(dataset, split)
    assert {problem.severity for problem in problems} <= {"warning"}
    assert without_invalid(dataset, problems) == dataset
    return [(problem.sample, problem.kind) for problem in problems]


def test_outlier_problems_unusual_size_or_shape_is_a_warning(tmp_path):
    root = draw_folder(tmp_path, 20, 0)
    rng = np.random.default_rng(1)
    for name, height, width in [("tall", 64, 40), ("large", 100, 100), ("near", 64, 72), ("a bit larger", 80, 80)]:
        save(root / "good" / f"{name}.png", texture(120, rng)[:height, :width])
    assert warnings_of(open_folder(root)) == [("good/large.png", "size"), ("good/tall.png", "size")]
    (large, tall) = check_dataset(open_folder(root))
    assert large.message.startswith("is 100 x 100 pixels, but the median image is 64 x 64;")
    assert tall.message.startswith("is 40 x 64 pixels, but the median image is 64 x 64;")


def test_outlier_problems_varying_sizes_are_no_outliers(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(20):
        height, width = rng.integers(60, 180, 2)
        save(tmp_path / "good" / f"{i:02}.png", texture(180, rng)[:height, :width])
    assert warnings_of(open_folder(tmp_path)) == []


@pytest.mark.parametrize(("rare", "word"), [("good/007.png", "in colour"), ("good/003.png", "grey")])
def test_outlier_problems_rare_colour_mode_is_a_warning(tmp_path, rare, word):
    dataset = open_folder(draw_folder(tmp_path, 12, 0))
    tint = np.array([0, 40, -40])
    for sample in dataset.samples:
        pixels = texture(64, np.random.default_rng(int(sample.image.stem)))
        if (sample.id == rare) == (word == "in colour"):
            pixels = (pixels + tint).clip(0, 255).astype(np.uint8)
        save(sample.image, pixels if sample.id != rare or word == "in colour" else pixels[..., 0])
    (problem,) = check_dataset(dataset)
    assert (problem.sample, problem.kind, problem.severity) == (rare, "mode", "warning")
    other = {"in colour": "grey", "grey": "in colour"}[word]
    assert problem.message.startswith(f"is {word}, but 11 other images are {other};")


def test_outlier_problems_slight_tint_is_ignored(tmp_path):
    dataset = open_folder(draw_folder(tmp_path, 12, 0))
    save(dataset.samples[0].image, texture(64, np.random.default_rng(0)) + np.array([0, 6, 0], np.uint8))
    save(dataset.samples[1].image, texture(64, np.random.default_rng(1))[..., 0])
    assert warnings_of(dataset) == []


def test_inspect_image_tiny_or_uniform_image_is_a_warning(tmp_path):
    root = draw_folder(tmp_path, 12, 0, size=31)
    assert warnings_of(open_folder(root)) == [(f"good/{i:03}.png", "tiny") for i in range(12)]
    root = draw_folder(tmp_path, 12, 0, size=32)
    save(root / "good" / "black.png", np.zeros((32, 32), np.uint8))
    almost = np.random.default_rng(0).integers(100, 105, (32, 32, 3), dtype=np.uint8)
    save(root / "good" / "even.png", almost)
    almost[3, 3, 1] = 105
    save(root / "good" / "not quite.png", almost)
    problems = check_dataset(open_folder(root))
    assert [(p.sample, p.kind, p.severity) for p in problems] == [
        ("good/black.png", "one colour", "warning"),
        ("good/even.png", "one colour", "warning"),
    ]
    assert problems[0].message.startswith("has only one colour (0) and")
    assert problems[1].message.startswith("has only one colour (100, 100, 100) and")


@pytest.mark.parametrize("bits", [8, 16])
def test_inspect_images_copies_are_decoded_once_and_have_the_same_problems(bits, tmp_path, monkeypatch):
    decoded: list[str] = []

    def count(pixels, reading, name):
        decoded.append(name)
        return images.to_8_bits(pixels, reading, name)

    monkeypatch.setattr("adjobs.data.checks.images.to_8_bits", count)
    monkeypatch.setattr("adjobs.data.checks.preflight.in_threads", lambda function, items, **_: list(map(function, items)))
    for i in range(12):
        pixels = np.full((64, 64), 90, np.uint8) if i < 4 else texture(64, np.random.default_rng(0))[..., 0]
        save(tmp_path / "good" / f"{i:02}.png", pixels.astype(np.uint16) * 16 if bits == 16 else pixels)
    assert warnings_of(open_folder(tmp_path)) == [(f"good/{i:02}.png", "one colour") for i in range(4)]
    assert len(decoded) == 2


def test_inspect_image_too_little_memory_is_an_error_of_the_sample(folder_root, monkeypatch):
    def inspect_labels(sample, size):
        if sample.id == "bad/scratch/000.png":
            raise MemoryError
        return [], None

    monkeypatch.setattr("adjobs.data.checks.images.inspect_labels", inspect_labels)
    (problem,) = check_dataset(open_folder(folder_root))
    assert (problem.sample, problem.kind) == ("bad/scratch/000.png", "out of memory")
    assert problem.message.startswith("cannot be checked (not enough free memory); ")
