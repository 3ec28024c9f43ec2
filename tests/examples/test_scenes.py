"""The drawn trays of examples/scenes.py: logical and structural anomalies with exact masks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from adjobs.data.open import open_dataset
from adjobs.data.packing import scale
from adjobs.synthesis.places import SIDE, compare_places
from tests.helpers.randomness import generator

PROGRAM = Path(__file__).parents[2] / "examples" / "scenes.py"


@pytest.fixture(scope="module")
def scenes():
    spec = importlib.util.spec_from_file_location("scenes", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_main_written_folder_is_a_loco_dataset(tmp_path):
    arguments = [str(tmp_path / "trays"), "--normal", "12", "--anomalous", "10", "--size", "64"]
    process = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    dataset = open_dataset(str(tmp_path / "trays"), cache=tmp_path / "cache")
    assert dataset.format == "loco"
    counts = Counter((sample.published_split, sample.defect) for sample in dataset.samples)
    normal = {("train", ""): 8, ("val", ""): 2, ("test", ""): 2}
    assert counts == {**normal, ("test", "logical_anomalies"): 6, ("test", "structural_anomalies"): 4}
    repeated = subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True, check=False)
    assert repeated.returncode == 2
    assert "is a file or not empty" in repeated.stderr


def test_anomalous_every_kind_has_a_small_mask(scenes):
    for seed, kind in enumerate(list(scenes.KINDS) * 4):
        image, mask = scenes.anomalous(kind, np.random.default_rng(seed), 128)
        assert image.shape == (128, 128, 3)
        assert 10 < mask.sum() < 0.1 * mask.size, kind


def test_scene_draw_is_repeatable_and_differs_between_seeds(scenes):
    first, second = (scenes.Scene(np.random.default_rng(seed), 64) for seed in (0, 1))
    assert np.array_equal(first.draw(scenes.TRAY), first.draw(scenes.TRAY))
    assert not np.array_equal(first.draw(scenes.TRAY), second.draw(scenes.TRAY))


def test_logical_anomalies_have_only_normal_components(scenes):
    """Only their number and positions are anomalous."""
    rng = np.random.default_rng(0)
    shapes = [shape for shape, _ in scenes.TRAY]
    for _ in range(20):
        assert len(scenes.missing(rng)) == len(shapes) - 1
        assert Counter(shape for shape, _ in scenes.doubled(rng)) - Counter(shapes)
        swapped = scenes.swapped(rng)
        assert [shape for shape, _ in swapped] == shapes
        assert sorted(position for _, position in swapped) == sorted(position for _, position in scenes.TRAY)
        assert sum(a != b for a, b in zip(swapped, scenes.TRAY, strict=True)) == 2


def test_components_belong_to_their_places(scenes):
    """Each lies a little differently in every image, but a missing one is seen only by what is normal at its place."""
    trays = [scenes.Scene(np.random.default_rng(seed), SIDE).draw(scenes.TRAY) for seed in range(90)]
    places = compare_places(scale(torch.from_numpy(np.stack(trays))), generator())
    assert places.keep_place, places
