"""Exports of Datumaro 1.13.12: ``pip install datumaro==1.13.12``; the polygons and the masks of the scene in each format."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import datumaro as dm
import numpy as np
import scene
from datumaro.components.annotation import Bbox, Ellipse, Label, Mask, Polygon
from datumaro.components.media import Image

LABELS = ["scratch", "dent", "stain", "crack", "ok"]


def annotations(name: str, kind: str) -> list[dm.Annotation]:
    if name == "empty":
        return []
    shapes = []
    for number, (label, mask) in enumerate(scene.masks(name), 1):
        left, top, right, bottom = scene.BOXES[name][number - 1][1]
        common = {"label": LABELS.index(label), "id": number, "group": number}
        if kind == "masks":
            shapes.append(Mask(np.asarray(mask, dtype=np.uint8), **common))
        elif kind == "boxes":
            shapes.append(Bbox(left, top, right - left, bottom - top, **common))
        elif name == "circle":
            shapes.append(Ellipse(left, top, right, bottom, **common))
        else:
            points = [edge for corner in scene.corners((left, top, right, bottom)) for edge in corner]
            shapes.append(Polygon(points, **common))
    return shapes


def main() -> None:
    images = scene.draw(Path(tempfile.mkdtemp()))
    for kind in ("masks", "polygons", "boxes"):
        items = []
        for name in scene.BOXES:
            media = Image.from_file(path=str(images / f"{name}.png"))
            split = "val" if name == "two" else "train"
            items.append(dm.DatasetItem(name, subset=split, media=media, annotations=annotations(name, kind)))
        tagged = Image.from_file(path=str(images / "empty.png"))
        items.append(dm.DatasetItem("tagged", subset="train", media=tagged, annotations=[Label(LABELS.index("ok"))]))
        dataset = dm.Dataset.from_iterable(items, categories=LABELS)
        for layout in ("coco", "voc", "datumaro", "cvat", "yolo"):
            target = scene.files() / f"{layout}-datumaro-{kind}".replace("datumaro-datumaro", "datumaro")
            shutil.rmtree(target, ignore_errors=True)
            try:
                dataset.export(str(target), layout, save_media=True)
                scene.drop_images(target)
            except Exception as error:
                print(layout, kind, type(error).__name__, error)
                shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    main()
