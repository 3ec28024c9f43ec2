"""Small data sets in the layouts of annotation tools, drawn on the fly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.helpers.drawing import draw_images, numbered, save


def draw_cvat(root: Path) -> Path:
    """CVAT for images: a polygon and an ellipse, a box, a mask, a tag, and images without annotations. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.png", 13), numbered("bad{}.png", 4)
    draw_images(root / "images", normal, anomalous)
    shapes = {
        "bad0.png": '<polygon label="scratch" occluded="0" points="4.00,4.00;13.00,4.00;13.00,9.00;4.00,9.00" z_order="0">'
        '<attribute name="depth">2</attribute></polygon><ellipse label="dent" cx="20" cy="20" rx="3" ry="2"/>',
        "bad1.png": '<box label="dent" occluded="0" xtl="1.50" ytl="2.00" xbr="11.50" ybr="22.25" z_order="0"></box>',
        "bad2.png": '<mask label="dent" rle="1, 2, 1" left="3" top="4" width="2" height="2" z_order="0"></mask>',
        "bad3.png": '<tag label="dent"></tag>',
        "good00.png": '<tag label="OK"></tag>',
    }
    images = [
        f'<image id="{i}" name="{name}" width="32" height="32">{shapes.get(name, "")}</image>'
        for i, name in enumerate([*anomalous, *normal])
    ]
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{"".join(images)}</annotations>\n'
    (root / "annotations.xml").write_text(text)
    return root


def draw_voc(root: Path) -> Path:
    """Pascal VOC: boxes, a mask of class colours, and lists that also name an image without annotation. Returns ``root``."""
    normal, anomalous = numbered("good{:02}", 13), ["bad0", "bad1"]
    draw_images(root / "JPEGImages", [f"{name}.jpg" for name in normal], [f"{name}.jpg" for name in anomalous])
    box = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>8</xmax><ymax>9</ymax></bndbox>"
    size = "<size><width>32</width><height>32</height><depth>3</depth></size>"
    for name in [*anomalous, *normal[1:]]:
        entry = f"<object><name>dent</name><difficult>1</difficult>{box}</object>" if name in anomalous else ""
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<annotation><filename>{name}.jpg</filename>{size}{entry}</annotation>")
    mask = np.zeros((32, 32, 3), dtype=np.uint8)
    mask[5:9, 4:8] = (128, 0, 0)
    save(root / "SegmentationClass" / "bad1.png", mask)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{name}\n" for name in normal))
    (lists / "test.txt").write_text("bad0\nbad1\n")
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ndent:128,0,0::\n")
    return root


def draw_labelme(root: Path) -> Path:
    """LabelMe: a polygon and a circle, a rectangle, a flag, files without shapes, an image without file. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.png", 13), numbered("bad{}.png", 3)
    draw_images(root, [*normal, "new.png"], anomalous)
    polygon = {"label": "scratch", "points": [[4, 4], [13, 4], [13, 9], [4, 9]], "shape_type": "polygon", "flags": {}}
    circle = {"label": "dent", "points": [[20, 20], [20, 23]], "shape_type": "circle"}
    rectangle = {"label": "dent", "points": [[11.5, 22.25], [1.5, 2]], "shape_type": "rectangle"}
    shapes = {"bad0.png": [polygon, circle], "bad1.png": [rectangle]}
    for name in [*anomalous, *normal]:
        document = {
            "version": "6.3.1",
            "flags": {"scratch": name == "bad2.png", "ok": name == "good00.png"},
            "shapes": shapes.get(name, []),
            "imagePath": name,
            "imageData": None,
            "imageHeight": 32,
            "imageWidth": 32,
        }
        (root / name).with_suffix(".json").write_text(json.dumps(document))
    return root


def draw_datumaro(root: Path) -> Path:
    """Datumaro: polygon with its box, ellipse, box, run-length code, label, in two subsets. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.png", 13), numbered("bad{}.png", 4)
    draw_images(root / "images" / "train", normal, [])
    draw_images(root / "images" / "test", [], anomalous)
    polygon = {"type": "polygon", "label_id": 0, "group": 1, "points": [4, 4, 13, 4, 13, 9, 4, 9]}
    annotations = {
        "bad0.png": [polygon, {"type": "bbox", "label_id": 0, "group": 1, "bbox": [4, 4, 9, 5]}],
        "bad1.png": [{"type": "bbox", "label_id": 1, "group": 0, "bbox": [1.5, 2, 10, 20.25]}],
        "bad2.png": [{"type": "mask", "label_id": 1, "rle": {"size": [32, 32], "counts": [64, 96, 864]}}],
        "bad3.png": [{"type": "label", "label_id": 1}, {"type": "caption", "caption": "dented"}],
    }
    categories = {"label": {"labels": [{"name": "scratch"}, {"name": "dent"}]}}
    for subset, names in (("train", normal), ("test", anomalous)):
        items = [
            {"id": name[:-4], "annotations": annotations.get(name, []), "image": {"path": name, "size": [32, 32]}}
            for name in names
        ]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{subset}.json").write_text(json.dumps({"infos": {}, "categories": categories, "items": items}))
    return root


def draw_supervisely(root: Path) -> Path:
    """Supervisely: a polygon, a rectangle, a tag, in the data sets train and test. Returns ``root``."""
    normal, anomalous = numbered("train/img/good{:02}.png", 13), numbered("test/img/bad{}.png", 3)
    draw_images(root, [*normal, "train/img/new.png"], anomalous)
    polygon = {"exterior": [[4, 4], [12, 4], [12, 8], [4, 8]], "interior": []}
    rectangle = {"exterior": [[1, 2], [10, 21]], "interior": []}
    objects = {
        "test/img/bad0.png": [{"classTitle": "scratch", "geometryType": "polygon", "points": polygon}],
        "test/img/bad1.png": [{"classTitle": "dent", "geometryType": "rectangle", "points": rectangle}],
    }
    for name in [*anomalous, *normal]:
        tags = [{"name": "dent"}] if name.endswith("bad2.png") else [{"name": "ok", "value": None}]
        document = {
            "size": {"width": 32, "height": 32},
            "tags": tags if name not in objects else [],
            "objects": objects.get(name, []),
        }
        path = root / f"{name.replace('/img/', '/ann/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    (root / "meta.json").write_text(json.dumps({"classes": [{"title": "scratch", "shape": "any"}], "tags": []}))
    return root


def draw_via(root: Path) -> Path:
    """VGG Image Annotator: a polygon and a circle, a rectangle, a file attribute, images without regions. Returns ``root``."""
    normal, anomalous = numbered("good{:02}.png", 13), numbered("bad{}.png", 3)
    draw_images(root, [*normal, "new.png"], anomalous)
    polygon = {"name": "polygon", "all_points_x": [4, 13, 13, 4], "all_points_y": [4, 4, 9, 9]}
    circle, rectangle = (
        {"name": "circle", "cx": 20, "cy": 20, "r": 3},
        {"name": "rect", "x": 1.5, "y": 2, "width": 10, "height": 20.25},
    )
    shapes = {"bad0.png": [(polygon, "scratch"), (circle, "dent")], "bad1.png": [(rectangle, "dent")]}
    document = {
        f"{name}100": {
            "filename": name,
            "size": 100,
            "regions": [
                {"shape_attributes": shape, "region_attributes": {"defect": label}} for shape, label in shapes.get(name, [])
            ],
            "file_attributes": {"quality": "dent"} if name == "bad2.png" else {},
        }
        for name in [*anomalous, *normal]
    }
    (root / "via_region_data.json").write_text(json.dumps(document))
    return root
