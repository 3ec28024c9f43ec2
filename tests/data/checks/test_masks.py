from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from adjobs.data.checks.masks import MaskSummary, find_inverted, mask_problems, summarize_mask
from adjobs.data.checks.preflight import check_dataset
from adjobs.data.labels.mask_values import interpret
from tests.helpers.datasets import open_folder
from tests.helpers.drawing import draw_folder, save

SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[10:30, 10:30] = 255
CLASSES = SQUARE // 255 * 100
CLASSES[40:50, 40:50] = 200


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        (SQUARE == 0, "marks 90% of the image as defect, and most of its edge; it looks inverted; "),
        (np.ones((8, 8), bool), "marks 100% of the image as defect, and most of its edge; it looks inverted; "),
        (np.pad(np.ones((60, 60), bool), 1), "marks 94% of the image as defect, nearly all of it; check it"),
        (np.pad(np.ones((60, 60), bool), 9), ""),
        (np.pad(np.ones((60, 30), bool), ((0, 0), (0, 40))), ""),
        (SQUARE > 0, ""),
    ],
)
def test_find_inverted_marked_edge_or_nearly_all(defect, message):
    assert find_inverted(defect).startswith(message)
    assert bool(find_inverted(defect)) == bool(message)


def test_summarize_mask_of_the_layer_with_most_values():
    assert summarize_mask("a", [interpret(SQUARE), interpret(CLASSES)]) == MaskSummary("a", "classes", 3)
    assert summarize_mask("a", []) is None


def test_mask_problems_plain_masks_have_none():
    assert mask_problems([]) == mask_problems([MaskSummary("a", "binary", 2)] * 3) == []
    assert mask_problems([MaskSummary("a", "half", 90)] * 3) == []


def test_check_dataset_unusual_masks_are_reported(tmp_path):
    root = draw_folder(tmp_path, 12, 12)
    masks = root / "masks" / "scratch"
    for number in range(3, 12):
        save(masks / f"{number:03}.png", SQUARE)
    save(masks / "000.png", CLASSES)
    save(masks / "001.png", 255 - SQUARE)
    save(masks / "002.png", np.asarray(Image.fromarray(SQUARE).filter(ImageFilter.GaussianBlur(2))))
    problems = check_dataset(open_folder(root))
    assert [(problem.sample, problem.kind, problem.severity) for problem in problems] == [
        ("bad/scratch/001.png", "mask inverted", "warning"),
        ("bad/scratch/002.png", "mask values", "warning"),
        ("", "mask values", "warning"),
    ]
    assert "mask 001.png marks 90% of the image as defect" in problems[0].message
    smoothed = "masks have two; it looks compressed or resized; pixels above half are read as defect; export it again as PNG"
    assert problems[1].message.endswith(f"values, while 10 of 12 {smoothed}")
    several = "masks have several values besides 0, such as that of bad/scratch/000.png (2); every one of them is read as defect"
    assert problems[2].message == f"1 of 12 {several}"
