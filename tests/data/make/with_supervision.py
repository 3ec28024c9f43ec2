"""Exports of supervision 0.31.2, which Roboflow maintains: ``pip install supervision==0.31.2``; VOC, COCO and YOLO."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import scene
import supervision as sv

CLASSES = ["scratch", "dent", "stain", "crack"]


def detections(name: str, kind: str) -> sv.Detections:
    masks = scene.masks(name)
    if not masks:
        return sv.Detections.empty()
    boxes = np.array([box for _, box in scene.BOXES[name]], dtype=np.float32)
    classes = np.array([CLASSES.index(label) for label, _ in masks])
    return sv.Detections(boxes, mask=np.array([mask for _, mask in masks]) if kind == "masks" else None, class_id=classes)


def main() -> None:
    images = scene.draw(Path(tempfile.mkdtemp()))
    for kind in ("masks", "boxes"):
        paths = {str(images / f"{name}.png"): name for name in scene.BOXES}
        annotations = {path: detections(name, kind) for path, name in paths.items()}
        dataset = sv.DetectionDataset(CLASSES, list(paths), annotations)
        voc, coco, yolo = (scene.files() / f"{layout}-supervision-{kind}" for layout in ("voc", "coco", "yolo"))
        for target in (voc, coco, yolo):
            shutil.rmtree(target, ignore_errors=True)
        exact = {"approximation_percentage": 0.0}
        dataset.as_pascal_voc(str(voc / "JPEGImages"), str(voc / "Annotations"), **exact)
        dataset.as_coco(str(coco / "train"), str(coco / "train" / "_annotations.coco.json"), **exact)
        folders = [str(yolo / "train" / name) for name in ("images", "labels")]
        dataset.as_yolo(*folders, data_yaml_path=str(yolo / "data.yaml"), **exact)
        for target in (voc, coco, yolo):
            scene.drop_images(target)


if __name__ == "__main__":
    main()
