"""The drawn trays of examples/scenes.py: logical and structural anomalies whose masks are right by construction."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.open import open_dataset

PROGRAM = Path(__file__).parents[2] / "examples" / "scenes.py"


@pytest.fixture(scope="module")
def scenes():
    spec = importlib.util.spec_from_file_location("scenes", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_program_writes_a_data_set_that_is_recognised(tmp_path):
    words = [str(tmp_path / "trays"), "--normal", "12", "--anomalous", "10", "--size", "64"]
    done = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    index = open_dataset(str(tmp_path / "trays"), cache=tmp_path / "cache")
    assert index.format == "loco"
    counts = Counter((sample.published_split, sample.defect) for sample in index.samples)
    good = {("train", ""): 8, ("val", ""): 2, ("test", ""): 2}
    assert counts == {**good, ("test", "logical_anomalies"): 6, ("test", "structural_anomalies"): 4}
    again = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "is a file or not empty" in again.stderr


def test_every_defect_is_there_and_small(scenes):
    for seed, kind in enumerate(list(scenes.KINDS) * 4):
        picture, mask = scenes.anomalous(kind, np.random.default_rng(seed), 128)
        assert picture.shape == (128, 128, 3)
        assert 10 < mask.sum() < 0.1 * mask.size, kind


def test_a_scene_is_drawn_the_same_again_and_no_two_are_alike(scenes):
    one, other = (scenes.Scene(np.random.default_rng(seed), 64) for seed in (0, 1))
    assert np.array_equal(one.draw(scenes.TRAY), one.draw(scenes.TRAY))
    assert not np.array_equal(one.draw(scenes.TRAY), other.draw(scenes.TRAY))


def test_the_parts_of_logical_anomalies_are_those_of_good_trays(scenes):
    """Only how many there are, and where, is wrong."""
    rng = np.random.default_rng(0)
    shapes = [shape for shape, _ in scenes.TRAY]
    for _ in range(20):
        assert len(scenes.missing(rng)) == len(shapes) - 1
        assert Counter(shape for shape, _ in scenes.doubled(rng)) - Counter(shapes)
        swapped = scenes.swapped(rng)
        assert [shape for shape, _ in swapped] == shapes
        assert sorted(place for _, place in swapped) == sorted(place for _, place in scenes.TRAY)
        assert sum(a != b for a, b in zip(swapped, scenes.TRAY, strict=True)) == 2
