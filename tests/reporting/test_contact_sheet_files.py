"""Contact sheets as files: escaped, self-contained, small, and recognised when they are to be replaced."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adjobs.data.dataset import Sample
from adjobs.data.problem import Problem
from adjobs.errors import DataError, JobError
from adjobs.reporting import contact_sheet_files
from adjobs.reporting.contact_sheet import BYTES, ContactSheet, Entry, Group
from adjobs.reporting.contact_sheet_files import file_kind, is_html_sheet, is_png_sheet, to_html, to_png, write_sheet
from adjobs.reporting.thumbnail import Thumbnail
from tests.helpers.reporting import Page

HOSTILE = "<script>alert(1)</script>\"'&"


def make_sheet(tmp_path, count: int = 3, name: str = "image", image: np.ndarray | None = None) -> ContactSheet:
    """``count`` images of one class with a problem each, and one image that cannot be read."""
    pixels = np.full((60, 80, 3), 90, np.uint8) if image is None else image
    problem = Problem("", name, f"{name} is wrong", "warning")
    entries = [
        Entry(
            Sample(f"{name} {i}", tmp_path / name, "anomalous", defect=name, group=name),
            Thumbnail(Image.fromarray(pixels), (8000, 6000)),
            [problem],
        )
        for i in range(count)
    ]
    entries.append(Entry(Sample("broken", tmp_path / name, "normal"), Thumbnail(None, reason="no image"), []))
    groups = [Group(f"anomalous: {name}", count, entries)]
    return ContactSheet(name, f"s3://{name}", "folder", count + 1, 8, 0, 80, groups, [f"{name} message"])


def test_to_html_shows_images_names_and_problems(tmp_path):
    page = Page(to_html(make_sheet(tmp_path)).decode())
    for expected in ("image 2", "8000 x 6000", "group image", "image is wrong", "image message", "cannot be read", "s3://image"):
        assert expected in page.text
    sources = page.values_of("img", "src")
    assert len(sources) == 3
    with Image.open(io.BytesIO(base64.b64decode(sources[0].removeprefix("data:image/jpeg;base64,")))) as image:
        assert image.size == (80, 60)


def test_to_html_hostile_names_are_escaped(tmp_path):
    page = Page(to_html(make_sheet(tmp_path, name=HOSTILE)).decode())
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 6
    assert all(value.startswith(HOSTILE) for value in page.values_of("img", "alt"))


def test_to_html_loads_nothing_from_outside(tmp_path):
    source = to_html(make_sheet(tmp_path)).decode()
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in source
    assert not re.search(r"(src|href)=\"(?!data:|#)|url\(|@import", source)


def test_to_html_many_images_with_much_detail_stay_below_three_megabytes(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    monkeypatch.setattr(contact_sheet_files, "BYTES", 200_000)
    assert len(to_html(make_sheet(tmp_path, 40, image=noise))) < 1.5 * 200_000
    assert 1.4 * BYTES < 3_000_000


def test_to_png_shows_the_thumbnails(tmp_path):
    with Image.open(io.BytesIO(to_png(make_sheet(tmp_path, name="Gehäuse\n漢字" + "x" * 200)))) as image:
        assert image.width > 4 * 80
        assert (np.asarray(image) == 90).all(axis=2).sum() >= 3 * 60 * 80


def test_to_png_too_many_images_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet_files, "MAX_HEIGHT", 300)
    with pytest.raises(DataError, match=r"would be [\d,]+ pixels tall, more than 300; write a .html file, or .*\(--per-class\)$"):
        to_png(make_sheet(tmp_path, 20))


@pytest.mark.parametrize("name", ["sheet.html", "sheet.PNG"])
def test_write_sheet_files_are_recognised(name, tmp_path):
    path = tmp_path / name
    size = write_sheet(make_sheet(tmp_path), path)
    assert path.stat().st_size == size
    assert file_kind(path).is_sheet(path)
    assert list(tmp_path.iterdir()) == [path]


def test_is_sheet_other_files_are_not(tmp_path):
    path = tmp_path / "other"
    for content in (b"", b"<html>", b'<meta name="generator" content="adjobs 0.1.0">', b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(content)
        assert not is_html_sheet(path)
        assert not is_png_sheet(path)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    assert not is_png_sheet(path)


def test_is_png_sheet_image_that_pillow_takes_for_a_bomb_is_not(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("1", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert not is_png_sheet(path)


def test_file_kind_other_suffix_is_refused(tmp_path):
    with pytest.raises(JobError, match=r"sheet.jpg: a contact sheet is a .html or a .png file; choose a name with"):
        file_kind(tmp_path / "sheet.jpg")


def test_to_html_list_of_classes_from_the_fourth_on(tmp_path):
    sheet = make_sheet(tmp_path)
    few = Page(to_html(sheet).decode())
    many = Page(to_html(replace(sheet, groups=[replace(sheet.groups[0], title=f"type {i}") for i in range(4)])).decode())
    assert few.values_of("a", "href") == []
    assert many.values_of("a", "href") == ["#class-1", "#class-2", "#class-3", "#class-4"]
    assert {"class-1", "class-4"} <= set(many.values_of("h2", "id"))
