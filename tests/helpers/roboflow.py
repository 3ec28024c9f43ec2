"""Small data sets as Roboflow exports them: a folder for each split, a README beside them, and names that end in a hash."""

from __future__ import annotations

import json
from hashlib import md5
from pathlib import Path

from tests.helpers.drawing import draw_images

SPLITS = {"train": 12, "valid": 4, "test": 4}
"""Images of each; the last two are anomalous."""

_DATA_YAML = """\
train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['dent', 'scratch']

roboflow:
  workspace: line-3
  project: bottles-xyz12
  version: 3
  license: CC BY 4.0
  url: https://universe.roboflow.com/line-3/bottles-xyz12/dataset/3
"""
_README = """
bottles - v3 2026-01-31 10:15am
==============================

This dataset was exported via roboflow.com on January 31, 2026 at 9:16 AM GMT

The dataset includes 20 images.
Defects are annotated in YOLOv8 format.

The following pre-processing was applied to each image:
* Auto-orientation of pixel data (with EXIF-orientation stripping)
* Resize to 32x32 (Stretch)

No image augmentation techniques were applied.
"""


def draw_roboflow_yolo(root: Path) -> Path:
    """YOLOv8: the last image of a split has an outline, the one before a box; normal ones have an empty file."""
    _draw(root, "{}/images/{}")
    for split, names in _names().items():
        (root / split / "labels").mkdir()
        lines = {names[-2]: "1 0.5 0.5 0.25 0.5", names[-1]: "0 0.25 0.25 0.75 0.25 0.75 0.5"}
        for name in names:
            (root / split / "labels" / name).with_suffix(".txt").write_text(lines.get(name, ""))
    (root / "data.yaml").write_text(_DATA_YAML)
    return _with_readme(root)


def draw_roboflow_coco(root: Path) -> Path:
    """COCO: category 0 has the project's name and no annotations; polygon and box as in YOLO."""
    categories = [
        {"id": 0, "name": "bottles", "supercategory": "none"},
        {"id": 1, "name": "dent", "supercategory": "bottles"},
        {"id": 2, "name": "scratch", "supercategory": "bottles"},
    ]
    _draw(root, "{}/{}")
    for split, names in _names().items():
        images = [
            {
                "id": i,
                "license": 1,
                "file_name": name,
                "height": 32,
                "width": 32,
                "date_captured": "2026-01-31T09:16:02+00:00",
                "extra": {"name": f"{name.partition('_jpg')[0]}.jpg"},
            }
            for i, name in enumerate(names)
        ]
        annotations = [
            {"id": 0, "image_id": len(names) - 2, "category_id": 2, "bbox": [12, 8, 8, 16], "area": 128, "segmentation": []},
            {
                "id": 1,
                "image_id": len(names) - 1,
                "category_id": 1,
                "bbox": [8, 8, 16, 8],
                "area": 64,
                "segmentation": [[8, 8, 24, 8, 24, 16]],
            },
        ]
        document = {
            "info": {"year": "2026", "version": "3", "description": "Exported from roboflow.com", "contributor": ""},
            "licenses": [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}],
            "categories": categories,
            "images": images,
            "annotations": [{**annotation, "iscrowd": 0} for annotation in annotations],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return _with_readme(root)


def _names() -> dict[str, list[str]]:
    stems = {split: [f"{split}{i:02}" for i in range(count)] for split, count in SPLITS.items()}
    return {split: [f"{s}_jpg.rf.{md5(s.encode()).hexdigest()}.jpg" for s in names] for split, names in stems.items()}


def _draw(root: Path, pattern: str) -> None:
    """Draw all images; ``pattern`` makes a path of the split's folder and the name."""
    normal = [pattern.format(split, name) for split, names in _names().items() for name in names[:-2]]
    draw_images(root, normal, [pattern.format(split, name) for split, names in _names().items() for name in names[-2:]])


def _with_readme(root: Path) -> Path:
    (root / "README.dataset.txt").write_text(
        "# bottles > 2026-01-31 10:15am\n\nProvided by a Roboflow user\nLicense: CC BY 4.0\n"
    )
    (root / "README.roboflow.txt").write_text(_README)
    return root
