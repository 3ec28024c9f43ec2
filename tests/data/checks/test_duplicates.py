from __future__ import annotations

import io
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from adjobs.data.checks.duplicates import SIDE, SIMILARITY, Match, across, look, similarity

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
    """Chips in the same places on every board, a little moved and of varying brightness, and grain."""
    layout, own = np.random.default_rng(99), np.random.default_rng(seed)
    grey = np.full((size, size), 60.0)
    for _ in range(120):
        (x, y), (w, h) = layout.integers(0, size - 30, 2), layout.integers(5, 30, 2)
        dx, dy = own.integers(-1, 2, 2)
        x, y = max(0, x + dx), max(0, y + dy)
        grey[y : y + h, x : x + w] = layout.integers(0, 255) + own.normal(0, 6)
    return Image.fromarray((grey + own.normal(0, 3, grey.shape)).clip(0, 255).astype(np.uint8))


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


def matches(first: list[Image.Image], second: list[Image.Image]) -> dict[int, Match]:
    """Near duplicates of two parts, whose pictures have nothing else in common."""
    looks = [look(image) for image in first + second]
    return across(looks, ["train"] * len(first) + ["test"] * len(second), [str(i) for i in range(len(looks))])


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("draw", [cloud, board])
def test_every_copy_finds_its_original(draw, name):
    originals = [draw(seed) for seed in range(N)]
    found = matches(originals, [COPIES[name](image) for image in originals[:5]])
    assert {copy: match.other for copy, match in found.items() if copy >= N} == {N + i: i for i in range(5)}
    assert {original: match.other for original, match in found.items() if original < N} == {i: N + i for i in range(5)}
    assert all(SIMILARITY <= match.similarity <= 1 for match in found.values())


@pytest.mark.parametrize("draw", [cloud, board])
def test_pictures_of_like_things_are_none(draw):
    images = [draw(seed) for seed in range(2 * N)]
    assert matches(images[:N], images[N:]) == {}


def test_only_between_parts_and_not_among_kin():
    looks = [look(image) for image in (cloud(0), jpeg(cloud(0)), cloud(1), jpeg(cloud(1)), *map(cloud, range(2, N)))]
    others = [str(i) for i in range(4, len(looks))]
    assert across(looks, ["train"] * len(looks), ["0", "1", "2", "3", *others]) == {}
    found = across(looks, ["train", "test", "train", "val", *["test"] * len(others)], ["a", "a", "b", "c", *others])
    assert {place: match.other for place, match in found.items()} == {2: 3, 3: 2}


def test_the_most_similar_one_is_named():
    original = cloud(0)
    found = matches([original, jpeg(smaller(original)), *(cloud(seed) for seed in range(1, N))], [brighter(original)])
    assert found[N + 1].other == 0
    assert found[1].other == N + 1


def test_more_copies_than_neighbours():
    found = matches([cloud(seed) for seed in range(40)], [jpeg(cloud(0)) for _ in range(12)])
    assert sorted(found) == [0, *range(40, 52)]
    assert {found[place].other for place in range(40, 52)} == {0}


def test_nothing_but_copies():
    assert sorted(matches([cloud(0)] * 3, [cloud(0)] * 2)) == list(range(5))


def test_pictures_without_detail_are_not_compared():
    flat = Image.new("L", (300, 300), 80)
    gradient = Image.fromarray(np.tile(np.arange(250, dtype=np.uint8), (250, 1)))
    assert matches([flat, gradient], [flat.copy(), gradient.copy()]) == {}
    detail = look(flat).detail[None]
    assert similarity(detail, detail).tolist() == [-1]


def test_a_plain_background_does_not_hide_a_copy():
    def part(seed: int) -> Image.Image:
        image = Image.new("L", (300, 300), 255)
        image.paste(cloud(seed, 90), (100, 110))
        return image

    found = matches([part(seed) for seed in range(N)], [jpeg(part(3))])
    assert {place: match.other for place, match in found.items()} == {N: 3, 3: N}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(-3, 3), st.integers(-3, 3))
def test_similarity(seed, down, right):
    a, b = np.random.default_rng(seed).integers(-60, 60, (2, 1, SIDE, SIDE)).astype(np.int8)
    assert similarity(a, a)[0] == pytest.approx(1)
    assert similarity(a, np.roll(a, (down, right), (1, 2)))[0] == pytest.approx(1)
    assert -1 <= similarity(a, b)[0] < 0.2
    assert similarity(a, -a)[0] < 0


def test_nothing_to_compare():
    assert across([], [], []) == {}
    assert across([look(cloud(0))], ["train"], ["0"]) == {}


def test_a_lone_picture_beside_one_large_group():
    looks = [look(cloud(0))] * 2000 + [look(jpeg(cloud(0)))]
    found = across(looks, ["train"] * 2000 + ["test"], ["line 1"] * 2000 + ["line 2"])
    assert 2000 in found
