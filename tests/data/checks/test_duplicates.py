from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from adjobs.data.checks.duplicates import SIDE, SIMILARITY, DetailFile, Match, describe, find_across_splits, similarity

N = 10


@cache
def cloud(seed: int, size: int = 200) -> Image.Image:
    """Soft spots with grain."""
    rng = np.random.default_rng(seed)
    soft = ndimage.gaussian_filter(rng.normal(0, 1, (size, size)), size / 12)
    grey = 120 + 40 * soft / soft.std() + ndimage.gaussian_filter(rng.normal(0, 20, (size, size)), 1.5)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


@cache
def board(seed: int, size: int = 256) -> Image.Image:
    """Chips at the same positions on every board, slightly moved and of varying brightness, and grain."""
    layout, variation = np.random.default_rng(99), np.random.default_rng(seed)
    grey = np.full((size, size), 60.0)
    for _ in range(120):
        (x, y), (w, h) = layout.integers(0, size - 30, 2), layout.integers(5, 30, 2)
        dx, dy = variation.integers(-1, 2, 2)
        x, y = max(0, x + dx), max(0, y + dy)
        grey[y : y + h, x : x + w] = layout.integers(0, 255) + variation.normal(0, 6)
    return Image.fromarray((grey + variation.normal(0, 3, grey.shape)).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return Image.open(file)


def smaller(image: Image.Image) -> Image.Image:
    return image.resize((image.width * 9 // 10, image.height * 9 // 10), Image.Resampling.BICUBIC)


def brighter(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.05)


def shifted(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.roll(np.asarray(image), (2, -2), axis=(0, 1)))


COPIES = {
    "jpeg": jpeg,
    "smaller": smaller,
    "brighter": brighter,
    "shifted": shifted,
    "in colour": lambda image: image.convert("RGB"),
    "all": lambda image: jpeg(brighter(smaller(image))),
}


def find_matches(train: list[Image.Image], test: list[Image.Image]) -> dict[int, Match]:
    """Near duplicates in two splits, whose images are all of different groups."""
    descriptors = [describe(image) for image in train + test]
    splits = ["train"] * len(train) + ["test"] * len(test)
    return find_across_splits(descriptors, splits, [str(i) for i in range(len(descriptors))])


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("draw", [cloud, board])
def test_find_across_splits_copy_matches_its_original(draw, name):
    originals = [draw(seed) for seed in range(N)]
    matches = find_matches(originals, [COPIES[name](image) for image in originals[:5]])
    assert {copy: match.image_index for copy, match in matches.items() if copy >= N} == {N + i: i for i in range(5)}
    assert {original: match.image_index for original, match in matches.items() if original < N} == {i: N + i for i in range(5)}
    assert all(SIMILARITY <= match.similarity <= 1 for match in matches.values())


@pytest.mark.parametrize("draw", [cloud, board])
def test_find_across_splits_similar_objects_do_not_match(draw):
    images = [draw(seed) for seed in range(2 * N)]
    assert find_matches(images[:N], images[N:]) == {}


def test_find_across_splits_same_split_or_group_is_not_compared():
    images = (cloud(0), jpeg(cloud(0)), cloud(1), jpeg(cloud(1)), *map(cloud, range(2, N)))
    descriptors = [describe(image) for image in images]
    single = [str(i) for i in range(4, len(images))]
    assert find_across_splits(descriptors, ["train"] * len(images), ["0", "1", "2", "3", *single]) == {}
    splits = ["train", "test", "train", "val", *["test"] * len(single)]
    matches = find_across_splits(descriptors, splits, ["a", "a", "b", "c", *single])
    assert {i: match.image_index for i, match in matches.items()} == {2: 3, 3: 2}


def test_find_across_splits_several_copies_give_the_most_similar():
    original = cloud(0)
    matches = find_matches([original, jpeg(smaller(original)), *(cloud(seed) for seed in range(1, N))], [brighter(original)])
    assert matches[N + 1].image_index == 0
    assert matches[1].image_index == N + 1


def test_find_across_splits_more_copies_than_neighbours_all_match():
    matches = find_matches([cloud(seed) for seed in range(40)], [jpeg(cloud(0)) for _ in range(12)])
    assert sorted(matches) == [0, *range(40, 52)]
    assert {matches[i].image_index for i in range(40, 52)} == {0}


def test_find_across_splits_only_copies_all_match():
    assert sorted(find_matches([cloud(0)] * 3, [cloud(0)] * 2)) == list(range(5))


def test_find_across_splits_images_without_detail_do_not_match():
    flat = Image.new("L", (300, 300), 80)
    gradient = Image.fromarray(np.tile(np.arange(250, dtype=np.uint8), (250, 1)))
    assert find_matches([flat, gradient], [flat.copy(), gradient.copy()]) == {}
    detail = describe(flat).detail[None]
    assert similarity(detail, detail).tolist() == [-1]


def test_find_across_splits_plain_background_matches():
    def workpiece(seed: int) -> Image.Image:
        image = Image.new("L", (300, 300), 255)
        image.paste(cloud(seed, 90), (100, 110))
        return image

    matches = find_matches([workpiece(seed) for seed in range(N)], [jpeg(workpiece(3))])
    assert {i: match.image_index for i, match in matches.items()} == {N: 3, 3: N}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(-3, 3), st.integers(-3, 3))
def test_similarity_shifted_images_are_equal(seed, down, right):
    a, b = np.random.default_rng(seed).integers(-60, 60, (2, 1, SIDE, SIDE)).astype(np.int8)
    assert similarity(a, a)[0] == pytest.approx(1)
    assert similarity(a, np.roll(a, (down, right), (1, 2)))[0] == pytest.approx(1)
    assert -1 <= similarity(a, b)[0] < 0.2
    assert similarity(a, -a)[0] < 0


def test_find_across_splits_without_pairs_is_empty():
    assert find_across_splits([], [], []) == {}
    assert find_across_splits([describe(cloud(0))], ["train"], ["0"]) == {}


def test_find_across_splits_single_image_beside_large_group_matches():
    descriptors = [describe(cloud(0))] * 2000 + [describe(jpeg(cloud(0)))]
    assert 2000 in find_across_splits(descriptors, ["train"] * 2000 + ["test"], ["line 1"] * 2000 + ["line 2"])


def test_detail_file_gives_back_what_was_stored():
    file = DetailFile()
    descriptors = [describe(cloud(seed)) for seed in range(3)]
    stored = [file.store(descriptor) for descriptor in descriptors]
    for before, after in zip(descriptors, stored, strict=True):
        assert after.hash == before.hash
        np.testing.assert_array_equal(after.load_detail(), before.load_detail())


def test_find_across_splits_details_in_a_file_and_few_rows_at_a_time_give_the_same(monkeypatch):
    images = [cloud(seed) for seed in range(6)]
    descriptors = [describe(image) for image in [*images, *map(jpeg, images)]]
    splits, groups = ["train"] * 6 + ["test"] * 6, [str(i) for i in range(12)]
    expected = find_across_splits(descriptors, splits, groups)
    assert len(expected) == 12
    file = DetailFile()
    monkeypatch.setattr("adjobs.data.checks.duplicates._MAX_DISTANCES", 24)
    assert find_across_splits([file.store(descriptor) for descriptor in descriptors], splits, groups) == expected
