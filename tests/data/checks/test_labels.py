from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adjobs.data.checks.preflight import check_dataset
from adjobs.data.dataset import Dataset
from adjobs.data.labels.masks import Box, Layers, Shapes
from adjobs.data.open import open_dataset
from tests.helpers.drawing import draw_folder, save


def with_labels(root: Path, **labels: object) -> Dataset:
    """Twelve normal images; the first gets these labels."""
    samples = open_dataset(str(draw_folder(root / "set", 12, 0, size=40)), cache=Path("unused")).samples
    return Dataset(root, "folder", (replace(samples[0], **labels), *samples[1:]))


BLOCKS = np.array([[0, 128], [255, 0]], dtype=np.uint8)
SQUARE = json.dumps([[5, 5, 20, 5, 20, 20, 5, 20]])


@pytest.mark.parametrize(
    ("label", "boxes", "kind", "message"),
    [
        ("anomalous", ((1, 2, 30, 40),), None, ""),
        ("anomalous", ((-0.5, 0, 40.6, 40),), None, ""),
        ("normal", (), None, ""),
        ("normal", None, None, ""),
        (
            "anomalous",
            (),
            "boxes empty",
            "is anomalous but has an empty list of boxes; draw one around each defect, or omit boxes",
        ),
        ("normal", ((1, 2, 3, 4),), "boxes not empty", "has 1 boxes on a normal image, which has no defects;"),
        ("anomalous", ((5, 5, 5, 9),), "box empty", "box from (5, 5) to (5, 9) has no area;"),
        ("anomalous", ((5, 9, 8, 5),), "box empty", "box from (5, 9) to (8, 5) has no area;"),
        ("anomalous", ((0, 0, float("nan"), 5),), "box empty", "box from (0, 0) to (nan, 5) has no area;"),
        ("anomalous", ((0, 0, 42, 5),), "box outside", "box from (0, 0) to (42, 5) extends beyond the image of 40 x 40 pixels;"),
        ("anomalous", ((0, -2, 4, 5),), "box outside", "box from (0, -2) to (4, 5) extends beyond the image"),
        ("anomalous", ((1, 2, 3, 4), (50, 50, 60, 60)), "box outside", "box from (50, 50) to (60, 60)"),
    ],
)
def test_label_problems_boxes(tmp_path, label, boxes, kind, message):
    dataset = with_labels(tmp_path, label=label, boxes=boxes and tuple(Box(*box) for box in boxes) if boxes is not None else None)
    problems = check_dataset(dataset)
    assert [(p.sample, p.kind, p.severity) for p in problems] == ([("good/000.png", kind, "error")] if kind else [])
    assert not kind or problems[0].message.startswith(message)


@pytest.mark.parametrize(
    ("label", "blocks", "kind", "message"),
    [
        ("anomalous", BLOCKS, None, ""),
        ("anomalous", BLOCKS.clip(0, 128), None, ""),
        ("normal", BLOCKS.clip(0, 128), None, ""),
        ("anomalous", BLOCKS * 0, "blocks empty", "block grid grid.png has only normal blocks on an anomalous image;"),
        (
            "normal",
            BLOCKS,
            "blocks not empty",
            "block grid grid.png has 1 anomalous blocks on a normal image, which has no defects;",
        ),
        (
            "anomalous",
            np.full((50, 10), 255, np.uint8),
            "blocks size",
            "block grid grid.png has 10 x 50 blocks, more than its image has pixels (40 x 40);",
        ),
        ("anomalous", None, "blocks unreadable", "block grid grid.png is not a supported image;"),
    ],
)
def test_label_problems_blocks(tmp_path, label, blocks, kind, message):
    grid = tmp_path / "grid.png"
    grid.write_bytes(b"not an image") if blocks is None else save(grid, blocks)
    problems = check_dataset(with_labels(tmp_path, label=label, blocks=grid))
    assert [(p.sample, p.kind, p.severity) for p in problems] == ([("good/000.png", kind, "error")] if kind else [])
    assert not kind or problems[0].message.startswith(message)


def test_label_problems_outlines(tmp_path):
    def kinds(label: str, *shapes: str, size: int = 40) -> list[tuple[str, str]]:
        problems = check_dataset(with_labels(tmp_path, label=label, mask=Shapes(shapes, size, size)))
        return [(problem.kind, problem.message.partition(";")[0]) for problem in problems]

    assert kinds("anomalous", SQUARE) == []
    assert kinds("anomalous") == [("mask empty", "the segmentation has no defect pixel on an anomalous image")]
    assert kinds("normal", SQUARE)[0][0] == "mask not empty"
    assert kinds("anomalous", SQUARE, size=32) == [("mask size", "the segmentation is 32 x 32 pixels, but its image is 40 x 40")]
    ((kind, message),) = kinds("anomalous", "[[1, 2]]")
    assert (kind, message.partition(":")[0]) == ("mask unreadable", "the segmentation cannot be drawn")


def test_label_problems_layers(tmp_path):
    kinds = tmp_path / "kinds.json"
    kinds.write_text(json.dumps([{"pixel_value": 200, "saturation_threshold": 10, "relative_saturation": False}]))

    def find_problems(*values: int, size: int = 40, kinds: Path | None = None) -> list[tuple[str, str]]:
        paths = [save(tmp_path / "000" / f"{i}.png", layer(size, value)) for i, value in enumerate(values)]
        problems = check_dataset(with_labels(tmp_path, label="anomalous", mask=Layers(tuple(paths), kinds)))
        return [(problem.kind, problem.message.partition(";")[0]) for problem in problems]

    def layer(size: int, value: int) -> np.ndarray:
        return np.pad(np.full((4, 4), value, np.uint8), (0, size - 4))

    assert find_problems(200, 200) == []
    assert find_problems(200, 200, kinds=kinds) == []
    assert find_problems(0, 0) == [("mask empty", "mask 000 has no defect pixel on an anomalous image")]
    assert find_problems(200, size=50) == [("mask size", "mask 000 is 50 x 50 pixels, but its image is 40 x 40")]
    ((kind, message),) = find_problems(200, 100, kinds=kinds)
    assert kind == "mask unreadable"
    assert "value 100 is not a defect kind" in message
    kinds.write_text("{")
    assert find_problems(200, kinds=kinds)[0][0] == "mask unreadable"
    assert find_problems(200, kinds=tmp_path / "none.json")[0][0] == "mask unreadable"
    save(tmp_path / "000" / "0.png", layer(40, 200))
    save(tmp_path / "000" / "1.png", layer(41, 200))
    mask = Layers((tmp_path / "000" / "0.png", tmp_path / "000" / "1.png"))
    (problem,) = check_dataset(with_labels(tmp_path, label="anomalous", mask=mask))
    assert (problem.kind, problem.severity) == ("mask size", "error")
