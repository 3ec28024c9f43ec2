"""Exports of Roboflow in its own layouts, drawn: formats ``yolo`` and ``coco``."""

from __future__ import annotations

from collections import Counter

import pytest

from adjobs.data.checks.preflight import check_dataset
from adjobs.data.labels.masks import Box, Shapes
from adjobs.data.splits.assignment import make_split
from adjobs.data.splits.protocols import default_protocol
from tests.helpers.datasets import open_folder
from tests.helpers.roboflow import SPLITS, draw_roboflow_coco, draw_roboflow_yolo


@pytest.mark.parametrize(("draw", "name"), [(draw_roboflow_yolo, "yolo"), (draw_roboflow_coco, "coco")])
def test_open_dataset_roboflow_export_is_read_with_its_splits(draw, name, tmp_path):
    dataset = open_folder(draw(tmp_path))
    assert (dataset.format, dataset.problems, dataset.normal_classes) == (name, (), ())
    counts = Counter((sample.published_split, sample.label) for sample in dataset.samples)
    expected = {("val" if split == "valid" else split, "normal"): total - 2 for split, total in SPLITS.items()}
    assert counts == expected | {(split, "anomalous"): 2 for split in ("train", "val", "test")}
    boxes, outline = (s for s in dataset.samples if s.published_split == "val" and s.label == "anomalous")
    assert (boxes.boxes, boxes.mask, boxes.defect) == ((Box(12, 8, 20, 24),), None, "scratch")
    assert isinstance(outline.mask, Shapes)
    assert [float(x) for x in outline.mask.segmentations[0].strip("[]").split(",")] == [8, 8, 24, 8, 24, 16]
    assert (outline.defect, outline.boxes) == ("dent", None)
    assert default_protocol(dataset) == "official"
    problems = check_dataset(dataset, lambda valid: make_split(valid, "official"))
    assert [(problem.kind, problem.severity) for problem in problems] == [
        ("missing masks", "warning")
    ] * 2  # where boxes were drawn


@pytest.mark.parametrize("draw", [draw_roboflow_yolo, draw_roboflow_coco])
def test_open_dataset_roboflow_export_without_a_test_folder_is_split_by_holdout(draw, tmp_path):
    for path in sorted((draw(tmp_path) / "test").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (tmp_path / "test").rmdir()
    assert default_protocol(open_folder(tmp_path)) == "holdout"
