from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.checks.preflight import check_dataset
from adjobs.data.images import decode, image_size
from adjobs.data.labels.mask_values import decode_mask
from adjobs.data.open import open_dataset
from adjobs.data.reading import ReadOptions
from adjobs.data.walk import content_hash, read_text
from adjobs.errors import DataError
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import save, texture

FOLLOW = ReadOptions(follow_links=True)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder outside the data set, with one image."""
    save(tmp_path / "elsewhere" / "x.png", texture(16, np.random.default_rng(0)))
    return tmp_path / "elsewhere"


def ids(dataset) -> set[str]:
    return {sample.id for sample in dataset.samples}


def test_files_under_links_are_followed_once(folder_root, elsewhere):
    (folder_root / "good" / "again").symlink_to(folder_root / "good")
    (folder_root / "good" / "linked").symlink_to(elsewhere)
    samples = open_folder(folder_root, options=FOLLOW).samples
    assert len(samples) == 31
    assert "good/linked/x.png" in {sample.id for sample in samples}


@pytest.mark.parametrize("link", ["good/linked", "good/linked.png"])
def test_files_under_link_out_of_the_data_set_is_a_warning(folder_root, elsewhere, link):
    target = elsewhere if link == "good/linked" else elsewhere / "x.png"
    (folder_root / link).symlink_to(target)
    dataset = open_folder(folder_root)
    assert len(dataset.samples) == 30
    (problem,) = dataset.problems
    assert (problem.severity, problem.kind) == ("warning", "links not followed")
    assert f"1 links lead out of {folder_root} and are not followed ({link} -> {target}); to follow them, set" in problem.message
    followed = open_folder(folder_root, options=FOLLOW)
    assert (len(followed.samples), followed.problems) == (31, ())


def test_files_under_links_inside_the_data_set_and_to_it_are_followed(folder_root, tmp_path):
    (folder_root / "good" / "twin.png").symlink_to(folder_root / "good" / "000.png")
    (tmp_path / "root").symlink_to(folder_root)
    dataset = open_folder(tmp_path / "root")
    assert (len(dataset.samples), dataset.problems) == (31, ())


def test_open_dataset_whose_normal_images_are_links_says_so(folder_root, tmp_path):
    (folder_root / "good").rename(tmp_path / "elsewhere")
    (folder_root / "good").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"none of its 10 images is normal.*; 1 links lead out of .*set data.follow_links=true"):
        open_folder(folder_root)
    assert len(open_folder(folder_root, options=FOLLOW).samples) == 30


def test_open_dataset_manifest_naming_a_link_out_is_an_error_of_the_sample(folder_root, elsewhere):
    (folder_root / "good" / "linked").symlink_to(elsewhere)
    lines = [
        f'{{"image": "{path.relative_to(folder_root)}", "label": "normal"}}' for path in (folder_root / "good").glob("*.png")
    ]
    lines.append('{"image": "good/linked/x.png", "label": "normal"}')
    (folder_root / "manifest.jsonl").write_text("\n".join(lines))
    (problem,) = [problem for problem in open_folder(folder_root).problems if problem.severity == "error"]
    assert (problem.sample, problem.kind) == ("good/linked/x.png", "link")
    assert "is outside the data set, at" in problem.message
    assert not open_folder(folder_root, options=FOLLOW).problems


def test_open_dataset_other_formats_are_a_warning_with_counts(folder_root):
    for name in ("a.heic", "b.HEIC", "c.jp2", ".hidden.gif", "notes.txt"):
        (folder_root / "good" / name).write_bytes(b"")
    (folder_root / "good" / "000.png").rename(folder_root / "good" / "000.jfif")  # read: the content decides
    dataset = open_folder(folder_root)
    assert "good/000.jfif" in ids(dataset)
    (problem,) = dataset.problems
    assert problem.message.startswith(
        "3 images are not read because of their suffix (2 .heic, 1 .jp2), such as good/a.heic; allowed"
    )


def irregular_files(folder: Path) -> set[str]:
    """A pipe, a socket, a folder, and links to a device, to nothing and to itself, each named like an image."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to("nowhere.png")
    (folder / "circle.png").symlink_to("circle.png")
    return {"pipe.png", "socket.png", "device.png", "broken.png", "circle.png"}


@pytest.mark.timeout(20)
def test_check_dataset_irregular_files_are_errors_of_their_samples(folder_root, monkeypatch):
    monkeypatch.chdir(folder_root)
    names = irregular_files(folder_root / "good")
    problems = check_dataset(open_folder(folder_root, options=FOLLOW))
    assert {problem.sample for problem in problems if problem.kind == "unreadable"} == {f"good/{name}" for name in names}
    assert {problem.sample for problem in problems if problem.severity == "error"} == {f"good/{name}" for name in names}
    (pipe,) = [problem.message for problem in problems if problem.sample == "good/pipe.png"]
    assert "cannot be read (it is a pipe, not a file); restore the file" in pipe


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [content_hash, read_text, decode, decode_mask, image_size])
def test_reading_a_pipe_or_device_is_an_error(tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    for name in irregular_files(tmp_path):
        with pytest.raises(DataError):
            read(tmp_path / name)


def test_files_under_unlistable_folder_is_refused(folder_root, monkeypatch):
    def walk(top, onerror, followlinks):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return []

    monkeypatch.setattr("adjobs.data.walk.os.walk", walk)
    with pytest.raises(DataError, match=r"folder cannot be listed \(Permission denied\); make it readable"):
        open_folder(folder_root)


def test_files_under_two_links_to_one_folder_do_not_depend_on_listing_order(folder_root, elsewhere, monkeypatch):
    for name in ("left", "right"):
        (folder_root / "good" / name).symlink_to(elsewhere)
    walk = os.walk

    def listed(backwards: bool) -> set[str]:
        def ordered(*args, **options):
            for parent, folders, names in walk(*args, **options):
                folders.sort(reverse=backwards)
                yield parent, folders, names

        monkeypatch.setattr("adjobs.data.walk.os.walk", ordered)
        return ids(open_folder(folder_root, options=FOLLOW))

    assert listed(backwards=True) == listed(backwards=False)


def test_open_dataset_installed_package_may_consist_of_links(tmp_path, monkeypatch):
    """Package managers link files from their store."""
    store = save(tmp_path / "store" / "x.png", texture(16, np.random.default_rng(0)))
    data = tmp_path / "site" / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data.parent / "__init__.py").touch()
    (data / "labels.csv").write_text("images/x.png 0.0 mono\n")
    (data / "images" / "x.png").symlink_to(store)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert open_dataset("elpv", cache=tmp_path).problems == ()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["labels.csv", "manifest.jsonl", "result.json", "annotations.xml", "data.yaml", "classes.txt"])
def test_open_dataset_pipe_in_place_of_a_list_is_ignored_or_refused(folder_root, name):
    os.mkfifo(folder_root / name)
    assert open_folder(folder_root).format == "folder"
