"""Which images a contact sheet shows, and what it says of them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from adjobs.data.problem import Problem
from adjobs.reporting.contact_sheet import BYTES, MAX_SIDE, MIN_SIDE, draw_contact_sheet, percent, thumbnail_side
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_coco, save


def test_draw_contact_sheet_has_some_of_each_class(folder_root):
    save(folder_root / "bad" / "dent" / "0.png", np.full((64, 64, 3), 90, np.uint8))
    save(folder_root / "bad" / "1.png", np.zeros((64, 64, 3), np.uint8))
    sheet = draw_contact_sheet(open_folder(folder_root), str(folder_root), per_class=4)
    assert [(group.title, group.count, len(group.entries)) for group in sheet.groups] == [
        ("normal", 20, 4),
        ("anomalous, no type", 1, 1),
        ("anomalous: dent", 1, 1),
        ("anomalous: scratch", 10, 4),
    ]
    entries = sheet.entries
    assert [problem.kind for problem in entries["bad/1.png"].problems] == ["one colour"]
    assert entries["bad/dent/0.png"].facts == "64 x 64, no mask, no box"
    scratch = sheet.groups[-1].entries[0]
    assert scratch.facts.startswith("64 x 64, mask ")
    assert scratch.problems == []
    written = json.loads(json.dumps(sheet.to_dict()))
    assert written["groups"][0]["samples"] == [entry.sample.id for entry in sheet.groups[0].entries]
    assert written["samples"]["bad/1.png"]["problems"][0]["kind"] == "one colour"


def test_draw_contact_sheet_choice_depends_on_the_seed_and_the_class_alone(folder_root):
    dataset = open_folder(folder_root)

    def chosen(seed: int, samples=dataset.samples) -> list[list[str]]:
        sheet = draw_contact_sheet(replace(dataset, samples=samples), "", per_class=4, seed=seed)
        return [[entry.sample.id for entry in group.entries] for group in sheet.groups]

    assert chosen(0) == chosen(0) != chosen(1)
    normal = tuple(sample for sample in dataset.samples if sample.label == "normal")
    assert chosen(0, normal) == chosen(0)[:1]


def test_draw_contact_sheet_images_with_problems_of_the_reader_come_first(tmp_path):
    dataset = open_folder(draw_coco(tmp_path))
    problems = (Problem("images/good03.jpg", "annotation", "has no area"), Problem("", "other", "a folder is ignored", "warning"))
    sheet = draw_contact_sheet(replace(dataset, problems=problems), "")
    assert sheet.groups[0].title == "problems in label files"
    assert [entry.problems for entry in sheet.groups[0].entries] == [[problems[0]]]
    assert sheet.messages == ["a folder is ignored"]
    assert "1 box" in sheet.entries["images/bad2.jpg"].facts


def test_draw_contact_sheet_broken_images_are_shown_with_the_reason(folder_root):
    (folder_root / "good" / "000.png").write_bytes(b"not an image")
    (folder_root / "masks" / "scratch" / "000.png").write_bytes(b"not an image")
    entries = draw_contact_sheet(open_folder(folder_root), "", per_class=20).entries
    broken = entries["good/000.png"]
    assert (broken.thumbnail.image, broken.facts, [problem.kind for problem in broken.problems]) == (None, "", ["unreadable"])
    assert entries["bad/scratch/000.png"].facts == "64 x 64, mask not drawn"
    assert [problem.kind for problem in entries["bad/scratch/000.png"].problems] == ["mask unreadable"]


@pytest.mark.parametrize("count", [0, 1, 30, 300, 100_000])
def test_thumbnail_side_keeps_the_page_small(count):
    side = thumbnail_side(count)
    assert MIN_SIDE <= side <= MAX_SIDE
    assert side == MIN_SIDE or 0.4 * count * side**2 <= BYTES


def test_percent_small_shares_keep_their_digits():
    assert [percent(share) for share in (0.0, 0.00014, 0.061, 0.1, 0.876, 1.0)] == [
        "0 %",
        "0.014 %",
        "6.1 %",
        "10 %",
        "88 %",
        "100 %",
    ]
