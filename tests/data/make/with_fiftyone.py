"""Exports of FiftyOne 1.22.1: ``pip install fiftyone==1.22.1``; COCO, VOC, CVAT and YOLO, of masks, outlines and boxes.

The exporters are called without a data set, which would need a MongoDB.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import fiftyone as fo
import scene
from fiftyone.utils.coco import COCODetectionDatasetExporter
from fiftyone.utils.cvat import CVATImageDatasetExporter
from fiftyone.utils.voc import VOCDetectionDatasetExporter
from fiftyone.utils.yolo import YOLOv5DatasetExporter

EXPORTERS = {
    "coco": COCODetectionDatasetExporter,
    "voc": VOCDetectionDatasetExporter,
    "cvat": CVATImageDatasetExporter,
    "yolo": YOLOv5DatasetExporter,
}
CLASSES = ["scratch", "dent", "stain", "crack"]


def labels(name: str, kind: str) -> fo.Label:
    size = (scene.WIDTH, scene.HEIGHT)
    shapes = []
    for (label, mask), (_, (left, top, right, bottom)) in zip(scene.masks(name), scene.BOXES[name], strict=True):
        if kind == "polygons":
            points = [(x / size[0], y / size[1]) for x, y in scene.corners((left, top, right, bottom))]
            shapes.append(fo.Polyline(label=label, points=[points], closed=True, filled=True))
        else:
            box = [left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1]]
            crop = mask[top:bottom, left:right] if kind == "masks" else None
            shapes.append(fo.Detection(label=label, bounding_box=box, mask=crop))
    return fo.Polylines(polylines=shapes) if kind == "polygons" else fo.Detections(detections=shapes)


def main() -> None:
    images = scene.draw(Path(tempfile.mkdtemp()))
    for kind in ("masks", "polygons", "boxes"):
        for layout, make in EXPORTERS.items():
            target = scene.files() / f"{layout}-fiftyone-{kind}"
            shutil.rmtree(target, ignore_errors=True)
            options = {"classes": CLASSES} if layout in ("coco", "yolo") else {}
            try:
                with make(export_dir=str(target), export_media=True, **options) as exporter:
                    for name in scene.BOXES:
                        path = str(images / f"{name}.png")
                        exporter.export_sample(path, labels(name, kind), metadata=fo.ImageMetadata.build_for(path))
                scene.drop_images(target)
            except Exception as error:
                print(layout, kind, type(error).__name__, error)
                shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
