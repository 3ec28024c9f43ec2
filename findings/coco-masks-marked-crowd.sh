# Datumaro's COCO export marks every defect mask as a crowd, supervision's every mask with a hole or in pieces, and pycocotools leaves crowds out.
#
# Expected: a mask is exported as an ordinary instance (iscrowd 0), so that predictions equal to the labels have AP 1.
# Happens:  datumaro writes each mask as a run-length code with iscrowd 1, at its own defaults. Supervision writes a polygon with
#           iscrowd 0 for a solid mask, and a run-length code with iscrowd 1 for a ring or for two spots of one defect. COCOeval
#           treats crowds as regions to ignore: predictions equal to datumaro's labels have AP -1, and so has a model that finds
#           nothing.
# Versions: datumaro 1.13.12, supervision 0.31.2, pycocotools 2.0.11.
# Hurts:    defects are drawn as masks and come in pieces (scratches, spatter, stains). Code in the manner of COCO leaves their
#           annotations out of training, which makes the image a normal one, and out of evaluation, where nobody misses them.
# adjobs:   reads every annotation as a defect, whatever iscrowd says. Elsewhere, set iscrowd to 0 after such an export.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'datumaro==1.13.12' 'supervision==0.31.2' 'pycocotools==2.0.11'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
import contextlib
import copy
import io
import json
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import supervision
from datumaro.components.annotation import Mask
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from pycocotools import mask as codes
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(*(f"{name} {version(name)}" for name in ("datumaro", "supervision", "pycocotools")), sep=", ")
SIDE = 64
masks = {name: np.zeros((SIDE, SIDE), bool) for name in ("solid", "ring", "pieces")}
masks["solid"][20:30, 20:30] = True
masks["ring"][20:40, 20:40] = True
masks["ring"][25:35, 25:35] = False
masks["pieces"][5:15, 5:15] = masks["pieces"][40:50, 40:50] = True
picture = np.zeros((SIDE, SIDE, 3), np.uint8)


def flags(coco):
    names = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    return {names[one["image_id"]]: one["iscrowd"] for one in coco["annotations"]}


Dataset.from_iterable(
    [
        DatasetItem(
            id=name,
            subset="train",
            media=Image.from_numpy(picture),
            annotations=[Mask(mask.astype(np.uint8), label=0, id=number)],
        )
        for number, (name, mask) in enumerate(masks.items(), 1)
    ],
    categories=["scratch"],
).export("datumaro", "coco_instances")
from_datumaro = json.loads(next(Path("datumaro").rglob("*.json")).read_text())
check("iscrowd by datumaro", flags(from_datumaro), {"solid": 1, "ring": 1, "pieces": 1})

Path("images").mkdir()
detections = {}
for name, mask in masks.items():
    cv2.imwrite(f"images/{name}.png", picture)
    y, x = np.nonzero(mask)
    box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], float)
    detections[f"images/{name}.png"] = supervision.Detections(xyxy=box, mask=mask[None], class_id=np.array([0]))
labelled = supervision.DetectionDataset(classes=["scratch"], images=list(detections), annotations=detections)
labelled.as_coco(annotations_path="supervision.json")
check("iscrowd by supervision", flags(json.loads(Path("supervision.json").read_text())), {"solid": 0, "ring": 1, "pieces": 1})


def average_precision(labels, predictions):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = labels
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(predictions), "segm")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return round(float(run.stats[0]), 6)


def predictions(shift):
    """The labelled masks themselves, or moved so far that they hit nothing."""
    numbers = {Path(image["file_name"]).stem: image["id"] for image in from_datumaro["images"]}
    category = from_datumaro["categories"][0]["id"]
    return [
        {
            "image_id": numbers[name],
            "category_id": category,
            "score": 0.9,
            "segmentation": codes.encode(np.asfortranarray(np.roll(mask, shift, axis=1).astype(np.uint8))),
        }
        for name, mask in masks.items()
    ]


ordinary = copy.deepcopy(from_datumaro)
for annotation in ordinary["annotations"]:
    annotation["iscrowd"] = 0
check("AP of predictions equal to datumaro's labels", average_precision(copy.deepcopy(from_datumaro), predictions(0)), -1.0)
check("AP of predictions that hit nothing", average_precision(copy.deepcopy(from_datumaro), predictions(32)), -1.0)
check("the same with iscrowd 0, equal", average_precision(copy.deepcopy(ordinary), predictions(0)), 1.0)
check("the same with iscrowd 0, nothing hit", average_precision(copy.deepcopy(ordinary), predictions(32)), 0.0)
PYTHON
