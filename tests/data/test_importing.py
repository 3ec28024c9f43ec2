from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adjobs.data import importing
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.importing import import_dataset, refuse_overlap
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.data.open import open_dataset
from adjobs.errors import DataError, StorageError
from adjobs.storage import Entry, LocalStore, S3Store
from tests.helpers.drawing import draw_folder, draw_mvtec, save, texture
from tests.helpers.s3 import s3_environment, server  # noqa: F401 (fixtures)


def opened(root: Path | str, cache: str = "unused") -> Dataset:
    return open_dataset(str(root), cache=Path(cache))


def draw_loco(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for place in ("train/good", "validation/good", "test/good", "test/logical_anomalies"):
        for i in range(4):
            save(root / place / f"{i:03}.png", texture(32, rng))
    for i in range(4):
        for layer in range(2):
            pixels = np.zeros((32, 32), np.uint8)
            pixels[4 * layer : 4 * layer + 3] = 255
            save(root / "ground_truth" / "logical_anomalies" / f"{i:03}" / f"{layer:03}.png", pixels)
    kinds = [{"defect_name": "x", "pixel_value": 255, "saturation_threshold": 10, "relative_saturation": False}]
    (root / "defects_config.json").write_text(json.dumps(kinds))
    return root


def draw_coarse(root: Path) -> Path:
    """A manifest with boxes, a block grid, an outline, groups, unlabelled images, and names that need care."""
    rng = np.random.default_rng(0)
    lines = [{"image": f"a b/ü{i}.png", "label": "normal", "group": f"g{i // 2}", "part": "train"} for i in range(4)]
    lines += [
        {"image": "boxes.png", "label": "anomalous", "boxes": [[1, 2.5, 8, 9], [0, 0, 3, 3]], "defect": "scratch, deep"},
        {"image": "no box.png", "label": "normal", "boxes": []},
        {"image": "blocks.png", "label": "anomalous", "blocks": "grids/blocks.png"},
        {"image": "layers.png", "label": "anomalous", "mask": ["m/1.png", "m/2.png"]},
        {
            "image": "outline.png",
            "label": "anomalous",
            "mask": {"segmentations": [[[1, 1, 9, 1, 9, 9.5]]], "width": 32, "height": 32},
        },
        {"image": "open.png", "label": "unlabelled"},
    ]
    for line in lines:
        save(root / str(line["image"]), texture(32, rng))
    for name in ("grids/blocks.png", "m/1.png", "m/2.png"):
        save(root / name, np.eye(32, dtype=bool))
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "notes.txt").write_text("not a part of the data set")
    return root


DRAWN = {
    "folder": lambda root: draw_folder(root, 6, 3, size=32),
    "mvtec": lambda root: draw_mvtec(root, 8, 3, size=32),
    "loco": draw_loco,
    "manifest": draw_coarse,
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_copy_has_the_fingerprint_of_its_source(name, tmp_path):
    source = opened(DRAWN[name](tmp_path / "source"))
    assert source.format == name
    done = import_dataset(source, str(tmp_path / "copy"))
    copy = opened(tmp_path / "copy")
    files = {path for sample in source.samples for path in sample.files}
    assert (copy.format, fingerprint(copy)) == ("manifest", fingerprint(source))
    assert done == (str(tmp_path / "copy"), len(files), 0, sum(path.stat().st_size for path in files))
    there = {path.relative_to(copy.root) for path in copy.root.rglob("*") if path.is_file()}
    assert there == {path.relative_to(source.root) for path in files} | {Path("manifest.jsonl")}


def test_kinds_of_masks_survive(tmp_path):
    loco, coarse = (opened(draw(tmp_path / "source" / name)) for name, draw in (("l", draw_loco), ("c", draw_coarse)))
    samples = {}
    for index, place in ((loco, "loco"), (coarse, "coarse")):
        import_dataset(index, f"file://{tmp_path}/{place}")
        samples |= {sample.id: sample for sample in opened(tmp_path / place).samples}
    mask = samples["test/logical_anomalies/002.png"].mask
    assert isinstance(mask, Layers)
    assert [path.name for path in mask.paths] == ["000.png", "001.png"]
    assert mask.kinds == tmp_path / "loco" / "defects_config.json"
    assert samples["boxes.png"].boxes == (Box(1, 2.5, 8, 9), Box(0, 0, 3, 3))
    assert samples["no box.png"].boxes == ()
    assert samples["a b/ü1.png"].boxes is None
    assert samples["blocks.png"].blocks == tmp_path / "coarse" / "grids" / "blocks.png"
    assert samples["outline.png"].mask == Shapes(("[[1, 1, 9, 1, 9, 9.5]]",), 32, 32)


def test_the_manifest_has_checksums(tmp_path):
    source = opened(draw_folder(tmp_path / "source", 6, 3))
    import_dataset(source, str(tmp_path / "copy"))
    for line in (tmp_path / "copy" / "manifest.jsonl").read_text().splitlines():
        values = json.loads(line)
        assert values["sha256"] == hashlib.sha256((tmp_path / "copy" / values["image"]).read_bytes()).hexdigest()


def test_of_some_samples_only_their_files(tmp_path):
    source = opened(draw_folder(tmp_path / "source", 6, 3))
    import_dataset(replace(source, samples=source.samples[1:]), str(tmp_path / "copy"))
    assert len(opened(tmp_path / "copy").samples) == 8
    assert not (tmp_path / "copy" / "masks" / "scratch" / "000.png").exists()


# Broken off, and run again


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they are copied; the copy after the one named "stop" fails."""
    keys: list[str] = []
    put = LocalStore.put

    def note(self: LocalStore, local: Path, key: str) -> None:
        if keys and keys[-1] == "stop":
            raise KeyboardInterrupt
        keys.append(key)
        put(self, local, key)
        if len(keys) == limit[0]:
            keys.append("stop")

    limit = [7]
    monkeypatch.setattr(LocalStore, "put", note)
    monkeypatch.setattr("adjobs.parallel.cores", lambda: 1)
    return keys


def test_broken_off_it_is_no_data_set_and_goes_on(puts, tmp_path):
    source, place = opened(draw_mvtec(tmp_path / "source", 12, 4)), tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        import_dataset(source, str(place))
    assert len(puts) == 8
    with pytest.raises(DataError, match=r"manifest.jsonl: line 1 .*unfinished: run the same 'adjobs data import' again"):
        opened(place)
    (place / ".0123456789abcdef.part").write_bytes(b"half")  # as a process that was killed leaves it
    half = place / puts[2]
    half.write_bytes(half.read_bytes()[:-1])
    other = place / puts[3]
    other.write_bytes(other.read_bytes()[:-1] + b"?")
    first, damaged = set(puts[:7]), {puts[2], puts[3]}
    puts.clear()
    puts.extend([""] * 7)  # no stop this time
    done = import_dataset(source, str(place))
    assert (done.copied, done.kept) == (20 - 7 + 2, 5)
    assert set(puts[7:]) & first == damaged
    assert fingerprint(opened(place)) == fingerprint(source)
    assert not list(place.rglob(".*"))


def test_broken_off_after_the_last_file(tmp_path, monkeypatch):
    source, place = opened(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    write, written = LocalStore.write, []

    def once(self: LocalStore, key: str, data: bytes) -> None:
        written.append(key)
        if len(written) == 2:
            raise StorageError("the disk is full")
        write(self, key, data)

    monkeypatch.setattr(LocalStore, "write", once)
    with pytest.raises(StorageError):
        import_dataset(source, str(place))
    with pytest.raises(DataError, match="unfinished"):
        opened(place)
    assert import_dataset(source, str(place)).copied == 0
    assert fingerprint(opened(place)) == fingerprint(source)


def test_a_finished_copy_is_completed_but_not_changed(tmp_path):
    source, place = opened(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    import_dataset(source, str(place))
    (place / "good" / "003.png").unlink()
    done = import_dataset(source, str(place))
    assert (done.copied, done.kept) == (1, 11)
    assert fingerprint(opened(place)) == fingerprint(source)
    save(place / "masks" / "scratch" / "001.png", np.ones((64, 64), dtype=bool))
    edited = fingerprint(opened(place))
    with pytest.raises(DataError, match=r"001.png: is not equal to .*001.png, of which it was a copy; a finished copy is not"):
        import_dataset(source, str(place))
    assert fingerprint(opened(place)) == edited


def test_a_source_that_changes_meanwhile(tmp_path, monkeypatch):
    source, put = opened(draw_folder(tmp_path / "source", 6, 3)), LocalStore.put

    def change(self: LocalStore, local: Path, key: str) -> None:
        if key == "good/002.png":
            save(local, texture(64, np.random.default_rng(77)))
        put(self, local, key)

    monkeypatch.setattr(LocalStore, "put", change)
    with pytest.raises(DataError, match=r"good/002.png: its copy is not equal to it; the file changed meanwhile"):
        import_dataset(source, str(tmp_path / "copy"))
    with pytest.raises(DataError, match="unfinished"):
        opened(tmp_path / "copy")


# Places


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("manifest.jsonl", "holds another data set (manifest.jsonl)"),
        ("manifest.csv", "holds another data set (manifest.csv)"),
        ("good/000.png", "is not empty (good/000.png)"),
    ],
)
def test_a_place_with_something_else_is_refused(tmp_path, name, got):
    source, place = opened(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    (place / name).parent.mkdir(parents=True)
    (place / name).write_text("mine")
    with pytest.raises(DataError) as caught:
        import_dataset(source, str(place))
    assert str(caught.value).startswith(f"{place}: {got};")
    assert [path.read_text() for path in place.rglob("*") if path.is_file()] == ["mine"]


def test_another_import_that_was_begun_there_is_refused(puts, tmp_path):
    place = tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        import_dataset(opened(draw_mvtec(tmp_path / "one", 12, 4)), str(place))
    with pytest.raises(DataError, match=r"holds another data set \(manifest.jsonl\)"):
        import_dataset(opened(draw_mvtec(tmp_path / "two", 12, 4, seed=1)), str(place))


def test_a_place_in_the_source_is_refused(tmp_path):
    source = opened(draw_folder(tmp_path / "source", 6, 3))
    (tmp_path / "link").symlink_to(tmp_path / "source")
    for place in ("source", "source/new", "link/new", "source/../source/good"):
        with pytest.raises(DataError, match="lies in the data set"):
            refuse_overlap(source, str(tmp_path / "source"), str(tmp_path / place))
    refuse_overlap(source, str(tmp_path / "source"), str(tmp_path / "source 2"))
    for place in ("s3://b/data", "s3://b/data/new", "s3://b/data/"):
        with pytest.raises(DataError, match="lies in the data set"):
            refuse_overlap(source, "s3://b/data", place)
    for place in ("s3://b/data2", "s3://c/data", "s3://b", str(tmp_path / "new")):
        refuse_overlap(source, "s3://b/data", place)


def test_files_from_elsewhere_are_refused(tmp_path):
    source = opened(draw_folder(tmp_path / "source", 6, 3))
    stray = replace(source.samples[0], mask=save(tmp_path / "mask.png", np.eye(64, dtype=bool)))
    with pytest.raises(DataError, match=r"mask.png: is not in .*source; a data set that is copied must lie in one folder"):
        import_dataset(replace(source, samples=(stray,)), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


# S3


class Bucket:
    """A store that is no folder, with tags as S3 gives them."""

    def __init__(self, plain_tags: bool) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.gets: list[str] = []
        self._plain_tags = plain_tags

    def put(self, local: Path, key: str) -> None:
        self.puts.append(key)
        self.objects[key] = local.read_bytes()

    def get(self, key: str, local: Path) -> None:
        self.gets.append(key)
        local.write_bytes(self.objects[key])

    def read(self, key: str) -> bytes:
        return self.objects[key]

    def write(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    def list(self, prefix: str = "") -> list[Entry]:
        return [Entry(key, len(data), self._tag(data)) for key, data in sorted(self.objects.items()) if key.startswith(prefix)]

    def uri(self, key: str = "") -> str:
        return f"s3://bucket/data/{key}".rstrip("/")

    def _tag(self, data: bytes) -> str:
        return f'"{hashlib.md5(data).hexdigest()}"' if self._plain_tags else '"0123-2"'


@pytest.fixture(params=[True, False], ids=["md5 tags", "other tags"])
def bucket(request, monkeypatch) -> Bucket:
    made = Bucket(request.param)
    monkeypatch.setattr(importing, "open_store", lambda uri: made)
    return made


def test_a_bucket_is_compared_by_its_tags_where_they_are_checksums(bucket, request, tmp_path):
    source = opened(draw_folder(tmp_path / "source", 6, 3))
    read_back = "other" in request.node.name
    assert import_dataset(source, "s3://bucket/data")[:3] == ("s3://bucket/data", 12, 0)
    assert sorted(bucket.puts) == sorted(bucket.objects.keys() - {"manifest.jsonl"})
    assert sorted(bucket.gets) == (sorted(bucket.puts) if read_back else [])
    bucket.puts.clear()
    assert import_dataset(source, "s3://bucket/data")[1:] == (0, 12, 0)
    assert bucket.puts == []


def test_what_a_bucket_lost_or_damaged_is_copied_again(bucket, tmp_path):
    source, put = opened(draw_folder(tmp_path / "source", 6, 3)), bucket.put

    def fail(local: Path, key: str) -> None:
        if key == "good/005.png":
            raise StorageError("gone")
        put(local, key)

    bucket.put = fail
    with pytest.raises(StorageError):
        import_dataset(source, "s3://bucket/data")
    bucket.put = put
    bucket.objects["good/001.png"] = b"?" * len(bucket.objects["good/001.png"])
    done = import_dataset(source, "s3://bucket/data")
    assert done.copied >= 2
    assert bucket.objects["good/001.png"] == (source.root / "good" / "001.png").read_bytes()
    assert len(bucket.objects["manifest.jsonl"].splitlines()) == 9


def test_what_a_bucket_does_not_keep_is_an_error(bucket, tmp_path):
    source, put = opened(draw_folder(tmp_path / "source", 6, 3)), bucket.put
    bucket.put = lambda local, key: None if key == "good/004.png" else put(local, key)
    with pytest.raises(DataError, match=r"good/004.png: its copy is not equal to it"):
        import_dataset(source, "s3://bucket/data")
    assert b"unfinished" in bucket.objects["manifest.jsonl"]


@pytest.mark.slow
def test_to_s3_and_back(server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(S3Store, "get", lambda *_: pytest.fail("small files are compared by their tags"))
    source, place = opened(draw_loco(tmp_path / "source")), f"s3://adjobs/{tmp_path.name}/copy"
    assert import_dataset(source, place).copied == 16 + 8 + 1
    copy = opened(place, cache=str(tmp_path / "cache"))
    assert (copy.format, fingerprint(copy)) == ("manifest", fingerprint(source))
    assert import_dataset(source, place)[1:] == (0, 25, 0)
    shutil.copytree(copy.root, tmp_path / "again")
    with pytest.raises(DataError, match="holds another data set"):
        import_dataset(opened(draw_folder(tmp_path / "other", 6, 3)), place)
