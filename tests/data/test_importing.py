from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.dataset import fingerprint
from adjobs.data.importing import import_dataset, refuse_overlap
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.errors import DataError, StorageError
from adjobs.storage import LocalStore
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, draw_loco, draw_mvtec, save, texture


def draw_coarse(root: Path) -> Path:
    """A manifest with boxes, a block grid, an outline, groups, unlabelled images, and unusual file names."""
    rng = np.random.default_rng(0)
    lines = [{"image": f"a b/ü{i}.png", "label": "normal", "group": f"g{i // 2}", "split": "train"} for i in range(4)]
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
    (root / "notes.txt").write_text("not in the manifest")
    return root


DRAW = {
    "folder": lambda root: draw_folder(root, 6, 3, size=32),
    "mvtec": lambda root: draw_mvtec(root, 8, 3, size=32),
    "loco": draw_loco,
    "manifest": draw_coarse,
}


@pytest.mark.parametrize("name", DRAW)
def test_import_dataset_copy_has_the_same_fingerprint(name, tmp_path):
    source = open_folder(DRAW[name](tmp_path / "source"))
    assert source.format == name
    result = import_dataset(source, str(tmp_path / "copy"))
    copy = open_folder(tmp_path / "copy")
    files = {path for sample in source.samples for path in sample.files}
    assert (copy.format, fingerprint(copy)) == ("manifest", fingerprint(source))
    assert result == (str(tmp_path / "copy"), len(files), 0, sum(path.stat().st_size for path in files))
    copied = {path.relative_to(copy.root) for path in copy.root.rglob("*") if path.is_file()}
    assert copied == {path.relative_to(source.root) for path in files} | {Path("manifest.jsonl")}


def test_import_dataset_all_kinds_of_labels_are_copied(tmp_path):
    loco, coarse = (open_folder(draw(tmp_path / "source" / name)) for name, draw in (("l", draw_loco), ("c", draw_coarse)))
    samples = {}
    for dataset, name in ((loco, "loco"), (coarse, "coarse")):
        import_dataset(dataset, f"file://{tmp_path}/{name}")
        samples |= {sample.id: sample for sample in open_folder(tmp_path / name).samples}
    mask = samples["test/logical_anomalies/002.png"].mask
    assert isinstance(mask, Layers)
    assert [path.name for path in mask.paths] == ["000.png", "001.png"]
    assert mask.kinds == tmp_path / "loco" / "defects_config.json"
    assert samples["boxes.png"].boxes == (Box(1, 2.5, 8, 9), Box(0, 0, 3, 3))
    assert samples["no box.png"].boxes == ()
    assert samples["a b/ü1.png"].boxes is None
    assert samples["blocks.png"].blocks == tmp_path / "coarse" / "grids" / "blocks.png"
    assert samples["outline.png"].mask == Shapes(("[[1, 1, 9, 1, 9, 9.5]]",), 32, 32)


def test_import_dataset_manifest_has_checksums(tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3))
    import_dataset(source, str(tmp_path / "copy"))
    for line in (tmp_path / "copy" / "manifest.jsonl").read_text().splitlines():
        values = json.loads(line)
        assert values["sha256"] == hashlib.sha256((tmp_path / "copy" / values["image"]).read_bytes()).hexdigest()


def test_import_dataset_subset_copies_only_its_files(tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3))
    import_dataset(replace(source, samples=source.samples[1:]), str(tmp_path / "copy"))
    assert len(open_folder(tmp_path / "copy").samples) == 8
    assert not (tmp_path / "copy" / "masks" / "scratch" / "000.png").exists()


# Interrupted imports


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys in the order in which they are copied; after the entry "stop", copying fails."""
    keys: list[str] = []
    put = LocalStore.put

    def record(self: LocalStore, local: Path, key: str) -> None:
        if keys and keys[-1] == "stop":
            raise KeyboardInterrupt
        keys.append(key)
        put(self, local, key)
        if len(keys) == limit[0]:
            keys.append("stop")

    limit = [7]
    monkeypatch.setattr(LocalStore, "put", record)
    monkeypatch.setattr("adjobs.parallel.cores", lambda: 1)
    return keys


def test_import_dataset_interrupted_copy_is_unreadable_and_continues(puts, tmp_path):
    source, destination = open_folder(draw_mvtec(tmp_path / "source", 12, 4)), tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        import_dataset(source, str(destination))
    assert len(puts) == 8
    with pytest.raises(DataError, match=r"manifest.jsonl: unfinished: run the same 'adjobs data import' again"):
        open_folder(destination)
    (destination / ".0123456789abcdef.tmp").write_bytes(b"half")  # as a killed process leaves it
    truncated = destination / puts[2]
    truncated.write_bytes(truncated.read_bytes()[:-1])
    changed = destination / puts[3]
    changed.write_bytes(changed.read_bytes()[:-1] + b"?")
    first, damaged = set(puts[:7]), {puts[2], puts[3]}
    puts.clear()
    puts.extend([""] * 7)  # not interrupted this time
    result = import_dataset(source, str(destination))
    assert (result.copied, result.already_present) == (20 - 7 + 2, 5)
    assert set(puts[7:]) & first == damaged
    assert fingerprint(open_folder(destination)) == fingerprint(source)
    assert not list(destination.rglob(".*"))


def test_import_dataset_interrupted_before_the_manifest_continues(tmp_path, monkeypatch):
    source, destination = open_folder(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    write, written = LocalStore.write, []

    def write_once(self: LocalStore, key: str, data: bytes) -> None:
        written.append(key)
        if len(written) == 2:
            raise StorageError("the disk is full")
        write(self, key, data)

    monkeypatch.setattr(LocalStore, "write", write_once)
    with pytest.raises(StorageError):
        import_dataset(source, str(destination))
    with pytest.raises(DataError, match="unfinished"):
        open_folder(destination)
    assert import_dataset(source, str(destination)).copied == 0
    assert fingerprint(open_folder(destination)) == fingerprint(source)


def test_import_dataset_complete_copy_is_repaired_but_never_changed(tmp_path):
    source, destination = open_folder(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    import_dataset(source, str(destination))
    (destination / "good" / "003.png").unlink()
    result = import_dataset(source, str(destination))
    assert (result.copied, result.already_present) == (1, 11)
    assert fingerprint(open_folder(destination)) == fingerprint(source)
    save(destination / "masks" / "scratch" / "001.png", np.ones((64, 64), dtype=bool))
    edited = fingerprint(open_folder(destination))
    with pytest.raises(DataError, match=r"001.png: differs from its source .*001.png; a complete copy is never"):
        import_dataset(source, str(destination))
    assert fingerprint(open_folder(destination)) == edited


def test_import_dataset_source_changed_during_import_is_refused(tmp_path, monkeypatch):
    source, put = open_folder(draw_folder(tmp_path / "source", 6, 3)), LocalStore.put

    def change(self: LocalStore, local: Path, key: str) -> None:
        if key == "good/002.png":
            save(local, texture(64, np.random.default_rng(77)))
        put(self, local, key)

    monkeypatch.setattr(LocalStore, "put", change)
    with pytest.raises(DataError, match=r"good/002.png: its copy differs from it; the file changed meanwhile"):
        import_dataset(source, str(tmp_path / "copy"))
    with pytest.raises(DataError, match="unfinished"):
        open_folder(tmp_path / "copy")


# Destinations


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("manifest.jsonl", "contains another data set (manifest.jsonl)"),
        ("manifest.csv", "contains another data set (manifest.csv)"),
        ("good/000.png", "is not empty (good/000.png)"),
    ],
)
def test_import_dataset_destination_with_other_files_is_refused(tmp_path, name, problem):
    source, destination = open_folder(draw_folder(tmp_path / "source", 6, 3)), tmp_path / "copy"
    (destination / name).parent.mkdir(parents=True)
    (destination / name).write_text("mine")
    with pytest.raises(DataError) as raised:
        import_dataset(source, str(destination))
    assert str(raised.value).startswith(f"{destination}: {problem};")
    assert [path.read_text() for path in destination.rglob("*") if path.is_file()] == ["mine"]


def test_import_dataset_destination_of_another_import_is_refused(puts, tmp_path):
    destination = tmp_path / "copy"
    with pytest.raises(KeyboardInterrupt):
        import_dataset(open_folder(draw_mvtec(tmp_path / "one", 12, 4)), str(destination))
    with pytest.raises(DataError, match="contains an interrupted import of other samples, which can be deleted"):
        import_dataset(open_folder(draw_mvtec(tmp_path / "two", 12, 4, seed=1)), str(destination))


def test_refuse_overlap_destination_inside_the_source(tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3))
    (tmp_path / "link").symlink_to(tmp_path / "source")
    for name in ("source", "source/new", "link/new", "source/../source/good"):
        with pytest.raises(DataError, match="is inside the data set"):
            refuse_overlap(source, str(tmp_path / "source"), str(tmp_path / name))
    refuse_overlap(source, str(tmp_path / "source"), str(tmp_path / "source 2"))
    for destination in ("s3://b/data", "s3://b/data/new", "s3://b/data/"):
        with pytest.raises(DataError, match="is inside the data set"):
            refuse_overlap(source, "s3://b/data", destination)
    for destination in ("s3://b/data2", "s3://c/data", "s3://b", str(tmp_path / "new")):
        refuse_overlap(source, "s3://b/data", destination)


def test_import_dataset_file_outside_the_folder_is_refused(tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3))
    stray = replace(source.samples[0], mask=save(tmp_path / "mask.png", np.eye(64, dtype=bool)))
    with pytest.raises(DataError, match=r"mask.png: is not in .*source; only data sets in a single folder can be imported"):
        import_dataset(replace(source, samples=(stray,)), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_import_dataset_destination_that_is_a_file_or_has_links_is_refused(tmp_path):
    source = open_folder(draw_folder(tmp_path / "source", 6, 3, size=32))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: is a file; the destination must be a folder, or not exist"):
        import_dataset(source, str(tmp_path / "file"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "good").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="good: is a link to a folder, through which the import would write elsewhere"):
        import_dataset(source, str(tmp_path / "copy"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(StorageError, match="got an empty storage URI"):
        import_dataset(source, " ")


def test_import_dataset_name_that_cannot_be_a_key_is_refused_before_anything_is_written(tmp_path):
    root = draw_folder(tmp_path / "source", 6, 3, size=32)
    (root / "good" / "000.png").rename(root / "good" / "a\\b.png")
    with pytest.raises(StorageError, match=r"key 'good/a.*b\.png' is refused"):
        import_dataset(open_folder(root), str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_import_dataset_other_hidden_files_are_kept(tmp_path):
    """Only what an import itself has left unfinished is removed."""
    source = open_folder(draw_folder(tmp_path / "source", 6, 3, size=32))
    import_dataset(source, str(tmp_path / "copy"))
    for name in (".0123456789abcdef.tmp", ".notes.tmp"):
        (tmp_path / "copy" / name).touch()
    import_dataset(source, str(tmp_path / "copy"))
    assert [path.name for path in (tmp_path / "copy").glob(".*")] == [".notes.tmp"]
