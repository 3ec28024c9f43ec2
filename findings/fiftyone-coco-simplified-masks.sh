# FiftyOne's COCO export simplifies the outlines of masks by two pixels: a defect of 3 × 3 pixels and a scratch get polygons without area.
#
# Expected: a mask has its pixels again after export and pycocotools; its area is its number of pixels; holes stay holes.
# Happens:  outlines are traced half a pixel to the upper left and simplified by the default tolerance=2: 84 of 100 pixels, 0 of 9,
#           a line of 1 × 40 pixels gets 0, the hole of a ring is filled, and "area" is that of the box. With tolerance=0 it is 99 of
#           100, 8 of 9 and 39 of 40, and holes are still filled. Boxes are right, and so are run-length codes, which
#           crowds get (an attribute iscrowd=1 of each detection).
# Versions: fiftyone 1.22.1, pycocotools 2.0.11. The exporter is called without a data set, which would need a MongoDB.
# Hurts:    users with small or thin defects: the annotation is there and looks whole, but says that no pixel is anomalous.
# adjobs:   takes the box where the outline is only a line, with a warning. Export with tolerance=0, or polylines.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'fiftyone==1.22.1' 'pycocotools==2.0.11'
cd "$work"
HOME=$work FIFTYONE_DO_NOT_TRACK=1 venv/bin/python -W ignore - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

import fiftyone as fo
import numpy as np
from fiftyone.utils.coco import COCODetectionDatasetExporter
from PIL import Image
from pycocotools import mask as codes


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(*(f"{name} {version(name)}" for name in ("fiftyone", "pycocotools")), sep=", ")
SIDE = 64
masks = {name: np.zeros((SIDE, SIDE), bool) for name in ("square10", "square3", "line40", "ring")}
masks["square10"][20:30, 20:30] = masks["square3"][20:23, 20:23] = masks["line40"][20, 10:50] = True
masks["ring"][10:30, 10:30], masks["ring"][15:25, 15:25] = True, False
Image.new("L", (SIDE, SIDE)).save("image.png")


def export(folder, crowds=False, **options):
    """Pixels of each mask as pycocotools draws it, after export."""
    with COCODetectionDatasetExporter(export_dir=folder, export_media=False, classes=["a"], **options) as exporter:
        for mask in masks.values():
            y, x = np.nonzero(mask)
            left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
            box = [edge / SIDE for edge in (left, top, right - left, bottom - top)]
            one = fo.Detection(label="a", bounding_box=box, mask=mask[top:bottom, left:right])
            if crowds:
                one["iscrowd"] = 1
            exporter.export_sample("image.png", fo.Detections(detections=[one]), metadata=fo.ImageMetadata.build_for("image.png"))
    found = json.loads(Path(folder, "labels.json").read_text())["annotations"]
    return found, dict(zip(masks, map(pixels, found), strict=True))


def pixels(annotation):
    outlines = annotation["segmentation"]
    drawn = codes.frPyObjects(outlines, SIDE, SIDE)
    return int(codes.area(codes.merge(drawn) if isinstance(outlines, list) else drawn))


print("pixels drawn:", {name: int(mask.sum()) for name, mask in masks.items()})
annotations, default = export("default")
check("exported, read by pycocotools", default, {"square10": 84, "square3": 0, "line40": 0, "ring": 367})
print("  the 3 x 3:", {key: annotations[1][key] for key in ("bbox", "area", "segmentation")})
check("  area of the ring", annotations[3]["area"], 400.0)
check("with tolerance=0", export("exact", tolerance=0)[1], {"square10": 99, "square3": 8, "line40": 39, "ring": 399})
check("as crowds", export("crowds", crowds=True)[1], {"square10": 100, "square3": 9, "line40": 40, "ring": 300})
PYTHON
