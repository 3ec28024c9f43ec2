from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest

from adjobs.data import open as open_module
from adjobs.data.open import open_dataset
from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_elpv, draw_folder, draw_mvtec, draw_visa, save, texture


def test_open_dataset_elpv_package_is_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "elpv_dataset"
    draw_elpv(package / "data")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    dataset = open_folder("elpv")
    assert (dataset.root, len(dataset.samples)) == (package / "data", 18)


def test_open_dataset_missing_elpv_package_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"^elpv: the package elpv-dataset is not installed; run 'pip install elpv-dataset'"):
        open_folder("elpv")


def test_open_dataset_relative_path_and_file_uri_are_resolved(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "with space", 4, 1)
    address = root.as_uri()
    assert "%20" in address
    assert open_folder(address).root == root
    monkeypatch.chdir(tmp_path)
    assert open_folder("with space").root == root


def test_open_dataset_s3_uri_is_fetched_into_the_cache(tmp_path, monkeypatch):
    root = draw_folder(tmp_path / "local", 4, 1)
    fetched = []
    monkeypatch.setattr(open_module, "is_versioned", lambda store: False)
    monkeypatch.setattr(open_module, "fetch", lambda uri, cache: fetched.append((uri, cache)) or root)
    assert open_dataset("s3://line-3/tiles", cache=tmp_path / "cache").root == root
    assert fetched == [("s3://line-3/tiles", tmp_path / "cache")]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://x/y", r"^https://x/y: cannot read data from https://; allowed are a local folder, file://<folder>"),
        ("file://host/data", r"^file://host/data: host is another machine; .*three slashes"),
        ("nowhere", r"^nowhere: no such folder; allowed are .*; correct the address"),
        ("", r"^\(empty\): no such folder; allowed are "),
        ("file:///no/where", r"^file:///no/where: no such folder"),
        (__file__, r"test_open.py: is a file; .*unpack archives first$"),
    ],
)
def test_open_dataset_invalid_uri_is_refused(uri, message):
    with pytest.raises(DataError, match=message):
        open_folder(uri)


def test_open_dataset_wrong_or_ambiguous_format_is_refused(tmp_path, folder_root):
    with pytest.raises(DataError, match=r"^unknown data format 'mvtek'; available: auto, .*; did you mean 'mvtec'\?$"):
        open_folder(folder_root, "mvtek")
    with pytest.raises(DataError, match=r"layout is not mvtec \(train/good/, .* or choose another format$"):
        open_folder(folder_root, "mvtec")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError,
        match=r"layout not recognised; available: btad, coco, .*; rearrange it, most simply as folder \(good/ .*subfolder$",
    ):
        open_folder(tmp_path / "empty")
    save(tmp_path / "flat" / "0.png", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(
        DataError, match=r"not recognised \(it has images, but nothing says which are normal; move .* flat/good\);"
    ):
        open_folder(tmp_path / "flat")
    with pytest.raises(DataError, match=r"not recognised \(but .*folder, which it is in, is folder\);"):
        open_folder(tmp_path / "folder" / "good")
    with pytest.raises(DataError, match=r"layout not recognised \(but its subfolder folder is folder\)"):
        open_folder(tmp_path)
    draw_mvtec(folder_root, 4, 1)
    with pytest.raises(DataError, match=r"matches several formats: folder and mvtec; choose one of them"):
        open_folder(folder_root)


def test_open_dataset_without_normal_images_is_refused(tmp_path):
    (tmp_path / "good").mkdir()
    with pytest.raises(
        DataError, match=r"contains no images; allowed are bmp jfif jpe jpeg jpg png tif tiff webp, laid out as folder: good/"
    ):
        open_folder(tmp_path)
    save(tmp_path / "bad" / "x.png", texture(16, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r": none of its 1 images is normal; normal images are required to train; add some"):
        open_folder(tmp_path)
    save(tmp_path / "good" / "x\udcff.png", texture(16, np.random.default_rng(0)))
    with pytest.raises(DataError, match=r"file name 'good/x\\udcff.png' is not valid UTF-8; rename it$"):
        open_folder(tmp_path)


def test_open_dataset_repeated_sample_is_refused(tmp_path):
    root = draw_elpv(tmp_path)
    with (root / "labels.csv").open("a") as file:
        file.write("images/cell0000.png 1.0 mono\n")
    with pytest.raises(DataError, match=r"images/cell0000.png: is listed 2 times; .*; remove the duplicates$"):
        open_folder(root)


def test_open_dataset_invalid_unicode_is_refused(tmp_path):
    save(tmp_path / "a.png", texture(16, np.random.default_rng(0)))
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"image": "a.png", "label": "normal", "group": "\ud800"}) + "\n")
    with pytest.raises(DataError, match=r"group '\\ud800' is not valid UTF-8; rename it$"):
        open_folder(tmp_path)


def test_open_dataset_manifest_precedes_folder_layout(folder_root):
    (folder_root / "manifest.csv").write_text("image,label\ngood/000.png,normal\n")
    dataset = open_folder(folder_root)
    assert (dataset.format, len(dataset.samples)) == ("manifest", 1)
    assert open_folder(folder_root, "folder").format == "folder"


def test_open_dataset_parent_of_products_names_a_subfolder(tmp_path):
    draw_visa(tmp_path / "VisA" / "candle")
    with pytest.raises(DataError, match=r"layout not recognised \(but its subfolder candle is visa\)"):
        open_folder(tmp_path / "VisA")


def test_open_dataset_without_usable_labels_says_why(tmp_path):
    save(tmp_path / "a.png", texture(16, np.random.default_rng(0)))
    (tmp_path / "manifest.csv").write_text("image,label\na.png,ok\nb.png,normal\n")
    with pytest.raises(DataError, match=r"none of its 1 images is normal; .*; 2 problems were found, first: a.png: manifest.csv"):
        open_folder(tmp_path)
