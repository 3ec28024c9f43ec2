"""What places are best compared with."""

from __future__ import annotations

import pytest
import torch

from adjobs.data.places import Places
from adjobs.synthesis.places import SIDE, _simulate, compare_places
from tests.helpers.randomness import generator


def workpieces(count: int, *, shifts: int, seed: int = 0) -> torch.Tensor:
    """Grey parts with stripes on a dark background, shifted by up to so many pixels and turned by quarters if at all."""
    draw = generator(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    images = []
    for _ in range(count):
        piece = torch.where((x // 6) % 3 == 0, 0.35, 0.7)
        image = torch.where(((x - 64).abs() < 36) & ((y - 64).abs() < 24), piece, 0.1)
        if shifts:
            image = torch.rot90(image, int(torch.randint(4, (1,), generator=draw)))
            image = image.roll(torch.randint(-shifts, shifts + 1, (2,), generator=draw).tolist(), (0, 1))
        images.append((image + 0.02 * torch.randn(SIDE, SIDE, generator=draw)).clamp(0, 1))
    return torch.stack(images)[:, None].expand(-1, 3, -1, -1)


def test_compare_places_parts_that_lie_alike():
    places = compare_places(workpieces(30, shifts=0), generator())
    assert places.keep_place
    assert places.best == "the same place"


def test_compare_places_parts_in_any_pose():
    places = compare_places(workpieces(30, shifts=20), generator())
    assert not places.keep_place
    assert places.best == "any place"
    assert places.images == 30


def test_compare_places_a_texture_that_is_the_same_everywhere():
    noise = torch.rand(30, 1, SIDE, SIDE, generator=generator()).expand(-1, 3, -1, -1)
    assert not compare_places(noise, generator()).keep_place


def test_simulate_also_puts_a_normal_piece_in_the_wrong_place():
    """As where a part is missing: its pixels are all normal, so only what is normal at its place tells."""
    ramp = torch.linspace(0, 1, SIDE).expand(6, 3, SIDE, SIDE)  # the column gives the level
    *_, (misplaced, masks) = _simulate(ramp, generator())
    assert 0 < masks.float().mean() < 0.5
    assert torch.isin(misplaced, ramp).all()
    assert (misplaced != ramp)[masks.expand_as(ramp)].float().mean() > 0.9
    assert torch.equal(misplaced[~masks.expand_as(ramp)], ramp[~masks.expand_as(ramp)])


def test_compare_places_repeats_itself_and_keeps_the_global_generator():
    images, before = workpieces(21, shifts=20), torch.get_rng_state()
    assert compare_places(images, generator(1)) == compare_places(images, generator(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_compare_places_images_without_any_contrast(level):
    places = compare_places(torch.full((20, 3, SIDE, SIDE), level), generator())
    assert 0 <= places.by_place <= 1
    assert 0 <= places.by_neighbour <= 1


def test_compare_places_sees_colour():
    """Two halves of one grey level: only their colours tell a pasted defect from either."""
    images = 0.5 + 0.01 * torch.randn(24, 3, SIDE, SIDE, generator=generator())
    red, green = images.clone(), images.clone()
    red[:, 0] += 0.2
    green[:, 0] += torch.tensor(0.2)
    green[:, 1] += 0.2
    mixed = torch.where(torch.arange(SIDE) < SIDE // 2, red, green).clamp(0, 1)
    assert compare_places(mixed, generator()).by_place > compare_places(mixed[:, :1].expand(-1, 3, -1, -1), generator()).by_place


@pytest.mark.parametrize(("by_neighbour", "expected"), [(0.1, True), (0.21, True), (0.23, False)])
def test_places_are_kept_unless_neighbours_are_clearly_ahead(by_neighbour, expected):
    assert Places(0.2, by_neighbour, 90).keep_place is expected
