# A mask that supervision, datumaro or Label Studio's converter writes as a COCO polygon loses a pixel of width and height in pycocotools.
#
# Expected: a defect of 10 × 10 pixels has 100 pixels after export and pycocotools, a scratch one pixel wide is still there.
# Happens:  the exporters trace the centres of the outermost pixels (20 … 29), pycocotools reads pixel edges (20 … 30): 81 of 100
#           pixels, 4 of 9, and a line of 1 × 40 becomes an annotation with an empty segmentation (supervision warns, datumaro
#           does not) or none at all (Label Studio). The annotation itself gives it away: its box, from the mask, is one pixel
#           wider and higher than its polygon.
# Versions: supervision 0.31.2, datumaro 1.13.12, label-studio-sdk 2.1.2 (BRUSH_TO_COCO), pycocotools 2.0.11.
# Hurts:    defects are small and thin. Up to all of a scratch is lost, every pixel measure has a floor of error, and
#           supervision's own reader, which fills the outermost pixels again, shows nothing wrong with squares.
# adjobs:   draws a polygon whose box or area shows it with the pixels under its outline, and the box of a thin line as a mask;
#           datumaro's are simplified, so a few pixels differ. Elsewhere, export masks as run-length codes or PNG.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'supervision==0.31.2' 'datumaro==1.13.12' 'label-studio-sdk==2.1.2' 'pycocotools==2.0.11'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
import json
import logging
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import supervision
from datumaro.components.annotation import Mask
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from label_studio_sdk.converter import Converter, brush
from pycocotools import mask as codes


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


logging.disable(logging.CRITICAL)
print(*(f"{name} {version(name)}" for name in ("supervision", "datumaro", "label-studio-sdk", "pycocotools")), sep=", ")
SIDE = 64
masks = {name: np.zeros((SIDE, SIDE), np.uint8) for name in ("square10", "square3", "line40")}
masks["square10"][20:30, 20:30] = masks["square3"][20:23, 20:23] = masks["line40"][20, 10:50] = 1
picture = np.zeros((SIDE, SIDE, 3), np.uint8)


def pixels(coco):
    """Pixels of each annotation as pycocotools draws its polygons, 0 without any, by the name of the image."""
    names = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    found = {}
    for one in coco["annotations"]:
        outlines = one["segmentation"]
        drawn = codes.merge(codes.frPyObjects(outlines, SIDE, SIDE)) if outlines else None
        found[names[one["image_id"]]] = int(codes.area(drawn)) if drawn else 0
    return found


KNOWN = {"square10": 81, "square3": 4, "line40": 0}
print("pixels drawn:", {name: int(mask.sum()) for name, mask in masks.items()})

Path("images").mkdir()
detections = {}
for name, mask in masks.items():
    cv2.imwrite(f"images/{name}.png", picture)
    y, x = np.nonzero(mask)
    box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], float)
    detections[f"images/{name}.png"] = supervision.Detections(xyxy=box, mask=mask[None] > 0, class_id=np.array([0]))
labelled = supervision.DetectionDataset(classes=["scratch"], images=list(detections), annotations=detections)
labelled.as_coco(annotations_path="supervision.json")
coco = json.loads(Path("supervision.json").read_text())
check("supervision, read by pycocotools", pixels(coco), KNOWN)
square = next(one for one in coco["annotations"] if one["area"] == 100)
print("  one annotation:", {key: square[key] for key in ("area", "bbox", "segmentation")})
width = max(square["segmentation"][0][::2]) - min(square["segmentation"][0][::2])
check("  width of its box, width of its polygon", (square["bbox"][2], width), (10, 9))
again = supervision.DetectionDataset.from_coco("images", "supervision.json", force_masks=True)
own = {Path(path).stem: int(found.mask.sum()) for path, _, found in again}
check("supervision, read by itself", own, {"square10": 100, "square3": 9, "line40": 0})

items = [
    DatasetItem(id=name, subset="train", media=Image.from_numpy(picture), annotations=[Mask(mask, label=0, id=number)])
    for number, (name, mask) in enumerate(masks.items(), 1)
]
Dataset.from_iterable(items, categories=["scratch"]).export("datumaro", "coco_instances", segmentation_mode="polygons")
check("datumaro, read by pycocotools", pixels(json.loads(next(Path("datumaro").rglob("*.json")).read_text())), KNOWN)

tasks = []
for number, (name, mask) in enumerate(masks.items(), 1):
    value = {"format": "rle", "rle": brush.mask2rle(mask * 255), "brushlabels": ["scratch"]}
    region = {"id": name, "type": "brushlabels", "from_name": "tag", "to_name": "image", "value": value}
    region |= {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    tasks.append({"id": number, "data": {"image": f"/data/{name}.png"}, "annotations": [{"id": number, "result": [region]}]})
Path("tasks.json").write_text(json.dumps(tasks))
config = (
    '<View><Image name="image" value="$image"/>'
    '<BrushLabels name="tag" toName="image"><Label value="scratch"/></BrushLabels></View>'
)
Converter(config, ".", download_resources=False).convert("tasks.json", "labelstudio", "BRUSH_TO_COCO", is_dir=False)
coco = json.loads(next(Path("labelstudio").glob("*.json")).read_text())
check("Label Studio, read by pycocotools", pixels(coco), {"square10": 81, "square3": 4})
PYTHON
