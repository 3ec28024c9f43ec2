"""A project of the Supervisely SDK 6.74.51: ``pip install supervisely==6.74.51``; bitmaps, polygons, rectangles, tags."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import scene
import supervisely as sly


def label(meta: sly.ProjectMeta, name: str, kind: str, number: int) -> sly.Label:
    class_name, mask = scene.masks(name)[number]
    left, top, right, bottom = scene.BOXES[name][number][1]
    if kind == "masks":
        geometry = sly.Bitmap(mask)
    elif kind == "boxes":
        geometry = sly.Rectangle(top, left, bottom - 1, right - 1)
    else:
        geometry = sly.Bitmap(mask).to_contours()[0]
    return sly.Label(geometry, meta.get_obj_class(class_name))


def main() -> None:
    images = scene.draw(Path(tempfile.mkdtemp()))
    for kind in ("masks", "polygons", "boxes"):
        target = scene.files() / f"supervisely-{kind}"
        shutil.rmtree(target, ignore_errors=True)
        classes = [sly.ObjClass(name, sly.AnyGeometry) for name in ("scratch", "dent", "stain", "crack")]
        tags = [sly.TagMeta("ok", sly.TagValueType.NONE), sly.TagMeta("camera", sly.TagValueType.ANY_STRING)]
        meta = sly.ProjectMeta(obj_classes=classes, tag_metas=tags)
        project = sly.Project(str(target), sly.OpenMode.CREATE)
        project.set_meta(meta)
        for name, boxes in [*scene.BOXES.items(), ("tagged", [])]:
            dataset_name = "val" if name == "two" else "train"
            dataset = next((d for d in project.datasets if d.name == dataset_name), None) or project.create_dataset(dataset_name)
            marks = [sly.Tag(tags[0]), sly.Tag(tags[1], "left")] if name == "tagged" else []
            labels = [label(meta, name, kind, number) for number in range(len(boxes))]
            annotation = sly.Annotation((scene.HEIGHT, scene.WIDTH), labels, img_tags=sly.TagCollection(marks))
            source = images / ("empty.png" if name == "tagged" else f"{name}.png")
            dataset.add_item_file(f"{name}.png", str(source), annotation)
        scene.drop_images(target)


if __name__ == "__main__":
    main()
