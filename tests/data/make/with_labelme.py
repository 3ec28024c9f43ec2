"""Files of LabelMe 6.3.1: ``pip install labelme==6.3.1``; written as its window writes them, without opening one."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import PIL.Image
import scene
from labelme._label_file import LabelFile


def shape(name: str, number: int, kind: str) -> dict[str, object]:
    label, (left, top, right, bottom) = scene.BOXES[name][number]
    common = {"label": label, "group_id": None, "description": "", "flags": {}, "mask": None}
    if kind == "masks":
        crop = scene.masks(name)[number][1][top:bottom, left:right]
        buffer = io.BytesIO()
        PIL.Image.fromarray(np.asarray(crop)).save(buffer, format="PNG")
        points = [[left, top], [right - 1, bottom - 1]]
        return {**common, "points": points, "shape_type": "mask", "mask": base64.b64encode(buffer.getvalue()).decode()}
    if kind == "boxes":
        return {**common, "points": [[float(left), float(top)], [float(right), float(bottom)]], "shape_type": "rectangle"}
    if name == "circle":
        x, y, radius = map(float, scene.CIRCLE)
        return {**common, "points": [[x, y], [x + radius, y]], "shape_type": "circle"}
    return {**common, "points": scene.corners((left, top, right, bottom)), "shape_type": "polygon"}


def main() -> None:
    for kind in ("masks", "polygons", "boxes"):
        target = scene.files() / f"labelme-{kind}"
        shutil.rmtree(target, ignore_errors=True)
        scene.draw(target)
        shutil.copy(target / "empty.png", target / "tagged.png")
        for name in [*scene.BOXES, "tagged"]:
            shapes = [shape(name, number, kind) for number in range(len(scene.BOXES.get(name, [])))]
            size = {"image_height": scene.HEIGHT, "image_width": scene.WIDTH}
            flags = {"ok": name == "tagged", "blurred": False}
            LabelFile().save(str(target / f"{name}.json"), shapes=shapes, image_path=f"{name}.png", flags=flags, **size)
        scene.drop_images(target)


if __name__ == "__main__":
    main()
