from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import fingerprint
from adjobs.data.labels.masks import Layers
from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save, texture


def test_fingerprint_moved_folder_is_equal(folder_root, tmp_path):
    before = fingerprint(open_folder(folder_root))
    assert len(before) == 64
    assert int(before, 16) >= 0
    moved = shutil.copytree(folder_root, tmp_path / "elsewhere" / "copy")
    assert fingerprint(open_folder(moved)) == before


@pytest.mark.parametrize("change", ["pixel", "mask pixel", "label", "defect", "mask gone", "name", "one image less"])
def test_fingerprint_changed_files_differ(change, folder_root):
    before = fingerprint(open_folder(folder_root))
    image, mask = folder_root / "bad" / "scratch" / "000.png", folder_root / "masks" / "scratch" / "000.png"
    if change == "pixel":
        pixels = np.array(texture(64, np.random.default_rng(1)))
        save(folder_root / "good" / "000.png", pixels)
    elif change == "mask pixel":
        save(mask, np.eye(64, dtype=bool))
    elif change == "label":
        (folder_root / "good" / "000.png").rename(folder_root / "bad" / "scratch" / "900.png")
    elif change == "defect":
        (folder_root / "bad" / "scratch").rename(folder_root / "bad" / "dent")
        (folder_root / "masks" / "scratch").rename(folder_root / "masks" / "dent")
    elif change == "mask gone":
        mask.unlink()
    elif change == "name":
        (folder_root / "good" / "000.png").rename(folder_root / "good" / "900.png")
    else:
        mask.unlink()
        image.unlink()
    assert fingerprint(open_folder(folder_root)) != before


@pytest.mark.parametrize(
    "change", [{"label": "anomalous"}, {"defect": "dent"}, {"group": "g"}, {"published_split": "test"}, {"id": "good/9.png"}]
)
def test_fingerprint_changed_field_differs(change, folder_root):
    dataset = open_folder(folder_root)
    first, *others = reversed(dataset.samples)
    changed = dataclasses.replace(dataset, samples=(dataclasses.replace(first, **change), *others))
    assert fingerprint(changed) != fingerprint(dataset)
    assert fingerprint(dataclasses.replace(dataset, samples=(first, *others))) == fingerprint(dataset)


def test_fingerprint_missing_file_is_refused(folder_root):
    dataset = open_folder(folder_root)
    (folder_root / "good" / "003.png").unlink()
    with pytest.raises(DataError, match=r"003.png: cannot be read \(No such file or directory\); restore the file"):
        fingerprint(dataset)


def test_fingerprint_mask_and_block_grid_differ(folder_root):
    dataset = open_folder(folder_root)
    first, *others = dataset.samples
    assert isinstance(first.mask, Path)
    layers = Layers((first.mask, others[0].image))
    kinds = [
        first,
        dataclasses.replace(first, mask=None, blocks=first.mask),
        dataclasses.replace(first, mask=layers),
        dataclasses.replace(first, mask=Layers(layers.paths[:1], layers.paths[1])),
        dataclasses.replace(first, blocks=others[0].image),
    ]
    assert len({fingerprint(dataclasses.replace(dataset, samples=(kind, *others))) for kind in kinds}) == len(kinds)
