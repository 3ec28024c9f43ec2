from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.labels.masks import Layers
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from tests.helpers.drawing import draw_elpv, draw_folder, draw_mvtec, save, texture


def opened(root: Path | str, layout: str = "auto") -> Dataset:
    return open_dataset(str(root), layout, cache=Path("unused"))


def test_elpv_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "elpv_dataset"
    draw_elpv(package / "data")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    index = opened("elpv")
    assert (index.root, len(index.samples)) == (package / "data", 18)


def test_elpv_package_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^elpv: the package elpv-dataset is not installed; run 'pip install elpv-dataset'"):
        opened("elpv")


def test_addresses(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "with space", 4, 1)
    address = root.as_uri()
    assert "%20" in address
    assert opened(address).root == root
    monkeypatch.chdir(tmp_path)
    assert opened("with space").root == root


def test_s3_is_fetched_into_the_cache(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "local", 4, 1)
    asked = []
    artifacts = ModuleType("adjobs.storage")
    artifacts.fetch = lambda uri, cache: asked.append((uri, cache)) or root
    monkeypatch.setitem(sys.modules, "adjobs.storage", artifacts)
    assert open_dataset("s3://line-3/tiles", cache=tmp_path / "cache").root == root
    assert asked == [("s3://line-3/tiles", tmp_path / "cache")]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://x/y", r"^https://x/y: data cannot be read from https://; allowed are a local folder, file://<folder>"),
        ("file://host/data", r"^file://host/data: host is another machine; .*three slashes"),
        ("nowhere", r"^nowhere: no such folder; allowed are .*; correct the address"),
        ("", r"^\(empty\): no such folder; allowed are "),
        ("file:///no/where", r"^file:///no/where: no such folder"),
        (__file__, r"test_dataset.py: is a file; .*unpack an archive first$"),
    ],
)
def test_wrong_addresses(uri, message):
    with pytest.raises(DataError, match=message):
        opened(uri)


def test_wrong_formats(tmp_path, folder_root):
    with pytest.raises(DataError, match=r"^mvtek: no such data format; have auto, .*; did you mean mvtec\?$"):
        opened(folder_root, "mvtek")
    with pytest.raises(DataError, match=r"has not the layout of mvtec: train/good/, .* or name another format$"):
        opened(folder_root, "mvtec")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"layout not recognised; have btad, coco, .*; rearrange it, simplest as folder \(good/ .*inside$"
    ):
        opened(tmp_path / "empty")
    with pytest.raises(DataError, match=r"layout not recognised \(but its folder folder is folder\)"):
        opened(tmp_path)
    draw_mvtec(folder_root, 4, 1)
    with pytest.raises(DataError, match=r"has the layout of folder and of mvtec; name one of them as the format$"):
        opened(folder_root)


def test_data_sets_without_use(tmp_path):
    (tmp_path / "good").mkdir()
    with pytest.raises(DataError, match=r"no images; allowed are bmp jpeg jpg png tif tiff webp, laid out as folder: good/"):
        opened(tmp_path)
    save(tmp_path / "bad" / "x.png", texture(16, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r": 1 images and none of them normal; normal images are needed; add some"):
        opened(tmp_path)
    save(tmp_path / "good" / "x\udcff.png", texture(16, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r"file name 'good/x\\udcff.png' is not UTF-8; .*rename it$"):
        opened(tmp_path)


def test_elpv_repeated_line(tmp_path):
    root = draw_elpv(tmp_path)
    with (root / "labels.csv").open("a") as file:
        file.write("images/cell0000.png 1.0 mono\n")
    with pytest.raises(DataError, match=r"images/cell0000.png is listed 2 times; .*; remove the repetitions$"):
        opened(root)


def test_links_are_followed_once(folder_root, tmp_path):
    (folder_root / "good" / "again").symlink_to(folder_root / "good")
    save(tmp_path / "elsewhere" / "x.png", texture(16, np.random.default_rng(0)))
    (folder_root / "good" / "linked").symlink_to(tmp_path / "elsewhere")
    samples = opened(folder_root).samples
    assert len(samples) == 31
    assert "good/linked/x.png" in {sample.id for sample in samples}


def test_an_unlistable_folder_is_an_error(folder_root, monkeypatch):
    def walk(top, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return []

    monkeypatch.setattr("adjobs.data.walk.os.walk", walk)
    with pytest.raises(DataError, match=r"folder cannot be listed \(Permission denied\); make it readable"):
        opened(folder_root)


def test_fingerprint_is_of_the_content_and_not_of_the_place(folder_root, tmp_path):
    before = fingerprint(opened(folder_root))
    assert len(before) == 64
    assert int(before, 16) >= 0
    moved = shutil.copytree(folder_root, tmp_path / "elsewhere" / "copy")
    assert fingerprint(opened(moved)) == before


@pytest.mark.parametrize("change", ["pixel", "mask pixel", "label", "defect", "mask gone", "name", "one image less"])
def test_fingerprint_sees_each_change(change, folder_root):
    before = fingerprint(opened(folder_root))
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
    assert fingerprint(opened(folder_root)) != before


@pytest.mark.parametrize(
    "change", [{"label": "anomalous"}, {"defect": "dent"}, {"group": "g"}, {"part": "test"}, {"id": "good/9.png"}]
)
def test_fingerprint_is_of_each_field(change, folder_root):
    index = opened(folder_root)
    first, *others = reversed(index.samples)
    changed = dataclasses.replace(index, samples=(dataclasses.replace(first, **change), *others))
    assert fingerprint(changed) != fingerprint(index)
    assert fingerprint(dataclasses.replace(index, samples=(first, *others))) == fingerprint(index)


def test_fingerprint_of_an_unreadable_file(folder_root):
    index = opened(folder_root)
    (folder_root / "good" / "003.png").unlink()
    with pytest.raises(DataError, match=r"003.png: cannot be read \(No such file or directory\); restore the file"):
        fingerprint(index)


def test_which_of_two_links_is_followed_does_not_depend_on_the_order_of_a_listing(folder_root, tmp_path, monkeypatch):
    save(tmp_path / "elsewhere" / "x.png", texture(16, np.random.default_rng(0)))
    for name in ("left", "right"):
        (folder_root / "good" / name).symlink_to(tmp_path / "elsewhere")
    walk = os.walk

    def listed(backwards: bool) -> set[str]:
        def ordered(*args, **options):
            for place, folders, names in walk(*args, **options):
                folders.sort(reverse=backwards)
                yield place, folders, names

        monkeypatch.setattr("adjobs.data.walk.os.walk", ordered)
        return {sample.id for sample in opened(folder_root).samples}

    assert listed(backwards=True) == listed(backwards=False)


def test_fingerprint_tells_a_mask_from_a_block_grid(folder_root):
    index = opened(folder_root)
    first, *others = index.samples
    assert isinstance(first.mask, Path)
    layers = Layers((first.mask, others[0].image))
    kinds = [
        first,
        dataclasses.replace(first, mask=None, blocks=first.mask),
        dataclasses.replace(first, mask=layers),
        dataclasses.replace(first, mask=Layers(layers.paths[:1], layers.paths[1])),
        dataclasses.replace(first, blocks=others[0].image),
    ]
    assert len({fingerprint(dataclasses.replace(index, samples=(kind, *others))) for kind in kinds}) == len(kinds)


def test_words_that_are_no_text(tmp_path):
    save(tmp_path / "a.png", texture(16, np.random.default_rng(0)))
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"image": "a.png", "label": "normal", "group": "\ud800"}) + "\n")
    with pytest.raises(DataError, match=r"group '\\ud800' is not UTF-8; only UTF-8 names are allowed; rename it$"):
        opened(tmp_path)
