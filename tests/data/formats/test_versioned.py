from __future__ import annotations

import json

import pytest

from adjobs.data.dataset import fingerprint
from adjobs.data.reading import ReadOptions
from adjobs.errors import DamagedError, DataError
from tests.helpers.datasets import open_folder
from tests.helpers.versioned import add, create, draw, numbered, open_set


@pytest.fixture
def root(tmp_path):
    """A data set with versions of 10, 12 and 12 images."""
    create(tmp_path, draw(tmp_path / "source", numbered("good/{}.png", 10)))
    add(tmp_path, draw(tmp_path / "inbox", "scratch/x.png new.png", seed=1))
    add(tmp_path, draw(tmp_path / "labelled", "x.png dent/new.png", seed=1))
    return tmp_path / "set"


@pytest.mark.parametrize(("version", "images"), [(1, 10), (2, 12), (3, 12), (None, 12)])
def test_read_version_is_what_its_record_says(version, images, root):
    dataset = open_folder(root, options=ReadOptions(version=version))
    record = open_set(root.parent).record(version)
    assert (dataset.format, len(dataset.samples), dataset.problems) == ("versioned", images, ())
    assert dataset.version == (record.number, record.fingerprint)
    assert fingerprint(dataset) == record.fingerprint


def test_read_version_that_does_not_exist_is_refused(root):
    with pytest.raises(DataError, match=r"set: has no version 9; it has versions 1 to 3$"):
        open_folder(root, options=ReadOptions(version=9))


def test_read_version_of_another_format_is_refused(root):
    with pytest.raises(DataError, match=r"source: has no versions, got version 1; remove data.version"):
        open_folder(root.parent / "source", options=ReadOptions(version=1))


def test_read_other_files_are_ignored(root):
    before = open_folder(root)
    draw(root / "files" / "0123456789abcdef", "good/left-behind.png", seed=7)
    (root / "manifest.jsonl").write_text("")
    assert open_folder(root) == before


def test_read_missing_file_is_an_error_of_its_sample(root):
    path = next(root.rglob("good/0.png"))
    path.unlink()
    (problem,) = open_folder(root).problems
    assert (problem.sample, problem.kind) == (path.relative_to(root).as_posix(), "unreadable")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"number": 3}', "null"])
def test_read_damaged_record_is_named(content, root):
    (root / "versions" / "00000003.json").write_text(content)
    with pytest.raises(DamagedError, match=r"versions/00000003.json: is damaged \(.*restore it from a backup"):
        open_folder(root)
    assert open_folder(root, options=ReadOptions(version=2)).version is not None


def test_read_record_of_another_version_is_named(root):
    (root / "versions" / "00000003.json").write_bytes((root / "versions" / "00000002.json").read_bytes())
    with pytest.raises(DamagedError, match=r"is damaged \(it holds version 2\)"):
        open_folder(root)


def test_read_damaged_list_is_named(root):
    path = root / "manifests" / f"{open_set(root.parent).record(3).manifest}.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"manifests/.*: is damaged \(its checksum is another\)"):
        open_folder(root)
    path.unlink()
    with pytest.raises(DamagedError, match=r"manifests/.*: is missing, which version 3 lists its images in"):
        open_folder(root)


def test_records_missing_one_is_named(root):
    (root / "versions" / "00000002.json").unlink()
    with pytest.raises(DamagedError, match=r"00000002.json: is missing, though later versions exist"):
        open_set(root.parent).records()
    assert open_set(root.parent).record().number == 3


@pytest.mark.parametrize("change", [{"layout": 0}, {"layout": "1"}, {"rule": {}}, {"created_at": "yesterday"}, {"rule": None}])
def test_read_damaged_header_is_named(change, root):
    path = root / "adjobs-dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DamagedError, match=r"adjobs-dataset.json: is damaged"):
        open_folder(root)
