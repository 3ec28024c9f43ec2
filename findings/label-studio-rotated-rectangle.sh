# One rotated rectangle of Label Studio has three different boxes in its exports: COCO turns it in per cent, YOLO and VOC do not turn it at all.
#
# Expected: every format gives the upright box around the rectangle that was drawn. Label Studio stores x, y, width and height in
#           per cent of the image and turns it around its upper left corner, in pixels.
# Happens:  a rectangle of 40 × 20 pixels at (100, 40) in an image of 400 × 100, turned by 90 degrees, covers 80 … 100 and 40 …
#           80. COCO says 20 … 100 and 40 … 50 (per cent of two unequal sides were mixed), YOLO and VOC say 100 … 140 and 40 … 60
#           (as before it was turned, no overlap with the defect), YOLO_OBB has the right corners. On a square image COCO is
#           right.
# Versions: label-studio-sdk 2.1.2 (its converter). Known in parts: https://github.com/HumanSignal/label-studio/issues/5223 and
#           https://github.com/HumanSignal/label-studio-converter/issues/101
# Hurts:    scratches and cables are slanted, line cameras' images are wide. The box covers good material, the defect trains as
#           normal.
# adjobs:   reads Label Studio's own JSON and turns rectangles in pixels. Else export YOLO_OBB, or draw polygons.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'label-studio-sdk==2.1.2'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
import json
import logging
import math
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


logging.disable(logging.CRITICAL)
print("label-studio-sdk", version("label-studio-sdk"))
CONFIG = (
    '<View><Image name="image" value="$image"/>'
    '<RectangleLabels name="tag" toName="image"><Label value="scratch"/></RectangleLabels></View>'
)


def exports(width, height):
    """Left, top, right and bottom of the rectangle that was drawn, and of what each format says, in pixels."""
    x, y, wide, high, turned = 100, 40, 40, 20, math.radians(90)
    value = {"x": 100 * x / width, "y": 100 * y / height, "width": 100 * wide / width, "height": 100 * high / height}
    region = {"id": "1", "type": "rectanglelabels", "from_name": "tag", "to_name": "image", "image_rotation": 0}
    region |= {"original_width": width, "original_height": height}
    region["value"] = value | {"rotation": 90, "rectanglelabels": ["scratch"]}
    task = {"id": 1, "data": {"image": "/data/part.png"}, "annotations": [{"id": 1, "result": [region]}]}
    folder = Path(f"{width}x{height}")
    folder.mkdir()
    (folder / "tasks.json").write_text(json.dumps([task]))
    for name in ("COCO", "YOLO", "VOC", "YOLO_OBB"):
        Converter(CONFIG, ".", download_resources=False).convert(folder / "tasks.json", folder / name, name, is_dir=False)
    corners = [
        (x + a * math.cos(turned) - b * math.sin(turned), y + a * math.sin(turned) + b * math.cos(turned))
        for a, b in ((0, 0), (wide, 0), (wide, high), (0, high))
    ]
    found = {"drawn": around(corners)}
    left, top, w, h = json.loads((folder / "COCO" / "result.json").read_text())["annotations"][0]["bbox"]
    found["COCO"] = around([(left, top), (left + w, top + h)])
    _, middle, centre, w, h = map(float, next((folder / "YOLO" / "labels").glob("*.txt")).read_text().split())
    sides = [(middle - w / 2, centre - h / 2), (middle + w / 2, centre + h / 2)]
    found["YOLO"] = around([(a * width, b * height) for a, b in sides])
    box = ElementTree.parse(next((folder / "VOC" / "Annotations").glob("*.xml"))).find("object/bndbox")
    edges = [float(box.find(name).text) for name in ("xmin", "ymin", "xmax", "ymax")]
    found["VOC"] = around([tuple(edges[:2]), tuple(edges[2:])])
    numbers = list(map(float, next((folder / "YOLO_OBB" / "labels").glob("*.txt")).read_text().split()))[1:]
    found["YOLO_OBB"] = around([(a * width, b * height) for a, b in zip(numbers[::2], numbers[1::2], strict=True)])
    return found


def around(points):
    columns, rows = zip(*points, strict=True)
    return tuple(round(edge) for edge in (min(columns), min(rows), max(columns), max(rows)))


turned, before = (80, 40, 100, 80), (100, 40, 140, 60)
known = {"drawn": turned, "COCO": (20, 40, 100, 50), "YOLO": before, "VOC": before, "YOLO_OBB": turned}
check("400 × 100", exports(400, 100), known)
check("400 × 400", exports(400, 400), known | {"COCO": turned})
PYTHON
