"""A small data set in each format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.helpers.annotated import draw_cvat, draw_datumaro, draw_labelme, draw_supervisely, draw_via, draw_voc
from tests.helpers.drawing import (
    draw_btad,
    draw_coco,
    draw_elpv,
    draw_folder,
    draw_ksdd2,
    draw_labelstudio,
    draw_loco,
    draw_manifest,
    draw_mtd,
    draw_mvtec,
    draw_mvtec3d,
    draw_oct,
    draw_visa,
    draw_yolo,
)
from tests.helpers.versioned import draw_versioned

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "btad": draw_btad,
    "coco": draw_coco,
    "cvat": draw_cvat,
    "datumaro": draw_datumaro,
    "elpv": draw_elpv,
    "folder": lambda root: draw_folder(root, 15, 5, 32),
    "ksdd2": draw_ksdd2,
    "labelme": draw_labelme,
    "labelstudio": draw_labelstudio,
    "loco": draw_loco,
    "manifest": draw_manifest,
    "mtd": draw_mtd,
    "mvtec": lambda root: draw_mvtec(root, 16, 4, 32),
    "mvtec3d": draw_mvtec3d,
    "oct": draw_oct,
    "supervisely": draw_supervisely,
    "versioned": draw_versioned,
    "via": draw_via,
    "visa": draw_visa,
    "voc": draw_voc,
    "yolo": draw_yolo,
}
"""A function for each format that draws a data set into a folder (``visa`` also writes beside it) and returns the folder."""
