# Label Studio's and datumaro's YOLO exports write an empty file for an image whose defects are brush strokes, ellipses or masks: a normal image.
#
# Expected: the box of the mask, or a refusal: an empty .txt means in YOLO that there is nothing on the image.
# Happens:  of five tasks (rectangle, polygon, brush, ellipse, submitted empty) Label Studio's converter writes the last three
#           alike, as empty files; its COCO export leaves the images with brush and ellipse out altogether. Datumaro writes an
#           empty file for a mask, beside a file with a row for a box. Neither fails; datumaro says nothing, Label Studio's line
#           is in a log.
# Versions: label-studio-sdk 2.1.2 (its converter), datumaro 1.13.12.
# Hurts:    stains and scratches are painted, not boxed. After the export the worst images train a detector as good ones and count
#           as false alarms in its test.
# adjobs:   reads Label Studio's own JSON with brush strokes and ellipses, and COCO with masks; export these, not YOLO. It warns of
#           empty files that Label Studio wrote, or that lie beside images without a file.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'label-studio-sdk==2.1.2' 'datumaro==1.13.12'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
import json
import logging
from importlib.metadata import version
from pathlib import Path

import numpy as np
from datumaro.components.annotation import Bbox, Mask
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image
from label_studio_sdk.converter import Converter, brush


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


logging.disable(logging.CRITICAL)
print(*(f"{name} {version(name)}" for name in ("label-studio-sdk", "datumaro")), sep=", ")
WIDTH, HEIGHT = 400, 100
painted = np.zeros((HEIGHT, WIDTH), np.uint8)
painted[20:40, 50:90] = 255
values = {
    "rectangle": {"x": 25, "y": 40, "width": 25, "height": 10, "rotation": 0},
    "polygon": {"points": [[25, 40], [50, 40], [50, 50], [25, 50]]},
    "brush": {"format": "rle", "rle": brush.mask2rle(painted)},
    "ellipse": {"x": 50, "y": 50, "radiusX": 5, "radiusY": 20, "rotation": 0},
    "empty": None,
}
tasks = []
for number, (kind, value) in enumerate(values.items(), 1):
    result = []
    if value is not None:
        region = {"id": kind, "type": f"{kind}labels", "from_name": kind, "to_name": "image"}
        region |= {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
        result = [region | {"value": value | {f"{kind}labels": ["scratch"]}}]
    tasks.append({"id": number, "data": {"image": f"/data/{kind}.png"}, "annotations": [{"id": number, "result": result}]})
Path("tasks.json").write_text(json.dumps(tasks))
tools = "".join(
    f'<{kind}Labels name="{kind.lower()}" toName="image"><Label value="scratch"/></{kind}Labels>'
    for kind in ("Rectangle", "Polygon", "Brush", "Ellipse")
)
converter = Converter(f'<View><Image name="image" value="$image"/>{tools}</View>', ".", download_resources=False)
converter.convert("tasks.json", "yolo", "YOLO", is_dir=False)
texts = {file.stem.split("__")[-1]: file.read_text().strip() for file in Path("yolo/labels").glob("*.txt")}
seen = {kind: len(texts[kind].splitlines()) if kind in texts else "no file" for kind in values}
check("rows in Label Studio's YOLO files", seen, {"rectangle": 1, "polygon": 1, "brush": 0, "ellipse": 0, "empty": 0})
converter.convert("tasks.json", "coco", "COCO", is_dir=False)
coco = json.loads(Path("coco/result.json").read_text())
listed = [Path(image["file_name"]).stem.split("__")[-1] for image in coco["images"]]
check("images in its COCO file", listed, ["rectangle", "polygon", "empty"])

picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
labels = {"box": [Bbox(50, 20, 40, 20, label=0)], "mask": [Mask((painted > 0).astype(np.uint8), label=0)], "empty": []}
Dataset.from_iterable(
    [DatasetItem(id=name, subset="train", media=Image.from_numpy(picture), annotations=found) for name, found in labels.items()],
    categories=["scratch"],
).export("datumaro", "yolo", save_media=True)
texts = {file.stem: file.read_text().strip() for file in Path("datumaro/obj_train_data").glob("*.txt")}
seen = {name: len(texts[name].splitlines()) if name in texts else "no file" for name in labels}
check("rows in datumaro's YOLO files", seen, {"box": 1, "mask": 0, "empty": 0})
PYTHON
