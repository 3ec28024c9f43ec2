from __future__ import annotations

from pathlib import Path

import pytest

from adjobs.config.resolve import resolve
from adjobs.data.splits.assignment import SplitAssignment
from adjobs.errors import DataError
from adjobs.labelling import images
from adjobs.labelling.images import ImageSource, find_known, find_sources
from adjobs.tracking.layout import StoredRun
from adjobs.types import JobStatus
from tests.helpers.detectors import draw_image


def test_find_sources_files_folders_and_patterns_list_each_image_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.jpg"):
        draw_image(tmp_path / "line", name)
    for names in (["line"], ["line/b.png", "line"], ["line/*.png", "line/*.jpg"], [str(tmp_path / "line" / "*")]):
        names_listed = {source.path.name for source in find_sources(names, tmp_path)}
        assert names_listed == {"a.png", "b.png", "c.jpg"}
        assert len(find_sources(names, tmp_path)) == 3


def test_find_sources_links_out_of_the_folder_are_counted_and_followed_on_request(tmp_path, caplog):
    draw_image(tmp_path / "line", "a.png")
    (tmp_path / "line" / "b.png").symlink_to(draw_image(tmp_path / "disk", "b.png"))
    assert len(find_sources([tmp_path / "line"], tmp_path)) == 1
    assert "1 links lead out of the folders and are not followed, first" in caplog.text
    assert len(find_sources([tmp_path / "line"], tmp_path, follow_links=True)) == 2


def test_find_sources_s3_keeps_the_addresses(tmp_path, monkeypatch):
    draw_image(tmp_path / "fetched" / "day 1", "a.png")
    monkeypatch.setattr(images, "fetch", lambda uri, cache: tmp_path / "fetched")
    (source,) = find_sources(["s3://line/recent/"], tmp_path)
    assert source == ImageSource(tmp_path / "fetched" / "day 1" / "a.png", "s3://line/recent/day 1/a.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no images; give images"),
        (["nowhere"], "'nowhere': no such file or folder"),
        (["*.png"], r"'\*.png': no file matches the pattern"),
        (["empty"], "'empty': a folder without images"),
    ],
)
def test_find_sources_without_images_is_refused(names, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_sources(names, tmp_path)


def stored_run(folder: Path, train: tuple[str, ...]) -> StoredRun:
    job = resolve({"method": "dpae", "data": {"uri": str(folder)}}, source="job")
    split = SplitAssignment("holdout", 0, train, (), ())
    return StoredRun(job, split, "0" * 64, "s", JobStatus.FINISHED, {})


def test_find_known_has_train_labelled_and_defects(tmp_path):
    for name in ("good/a.png", "good/b.png", "bad/dent/c.png", "bad/dent/d.png", "bad/crack/e.png"):
        draw_image(tmp_path / Path(name).parent, Path(name).name)
    known = find_known(stored_run(tmp_path, ("good/a.png", "bad/dent/c.png", "good/gone.png")), tmp_path)
    assert {path.name for path in known.train} == {"a.png", "c.png"}
    assert {path.name for path in known.labelled} == {"a.png", "b.png", "c.png", "d.png", "e.png"}
    assert known.defects == ("dent", "crack")


def test_find_sources_reads_lists_of_images(tmp_path):
    for name in ("b.png", "a.png"):
        draw_image(tmp_path, name)
    (tmp_path / "recent.txt").write_text("# of today\nb.png\na.png\n")
    names = [source.path.name for source in find_sources([tmp_path / "recent.txt"], tmp_path / "cache")]
    assert names == ["b.png", "a.png"]
