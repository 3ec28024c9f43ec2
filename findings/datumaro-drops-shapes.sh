# Datumaro exports polygons to VOC and ellipses to CVAT as nothing, without a word: the image becomes one without defects.
#
# Expected: a shape that a format cannot hold is converted or refused, or at least a message says so.
# Happens:  an image with a polygon gets no file in VOC's Annotations and no mask, and stands in ImageSets/Main/train.txt as an image
#           without annotation does; in CVAT's XML, which has an element for ellipses, an image with an ellipse has no child. No error, no
#           warning, exit status 0. Converted to masks first (dataset.transform("polygons_to_masks")), VOC has both.
# Versions: datumaro 1.13.12.
# Hurts:    anomaly detection: the images with defects are trained on as normal ones.
# adjobs:   warns of VOC lists whose images have no annotation, where those of images without objects show the difference. Export
#           as Datumaro or COCO.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'datumaro==1.13.12'
cd "$work"
HOME=$work venv/bin/python - 2>messages.txt <<'PYTHON'
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import datumaro as dm
import numpy as np
from datumaro.components.annotation import Ellipse, Polygon


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print("datumaro", version("datumaro"))
SHAPES = {"polygon": Polygon([5, 4, 15, 4, 15, 14, 5, 14], label=0), "ellipse": Ellipse(12, 7, 28, 23, label=0)}


def dataset():
    image = dm.Image.from_numpy(np.zeros((30, 40, 3), np.uint8))
    items = [dm.DatasetItem(name, subset="train", media=image, annotations=[shape]) for name, shape in SHAPES.items()]
    items.append(dm.DatasetItem("normal", subset="train", media=image))
    return dm.Dataset.from_iterable(items, categories=["scratch"])


def files(folder, *parents):
    return sorted(path.name for parent in parents for path in Path(folder, parent).glob("*"))


dataset().export("voc", "voc", save_media=True)
check("VOC: files in Annotations and SegmentationClass", files("voc", "Annotations", "SegmentationClass"), [])
check("  images of the list", Path("voc/ImageSets/Main/train.txt").read_text().split(), ["polygon", "ellipse", "normal"])
dataset().export("cvat", "cvat", save_media=True)
images = ElementTree.parse("cvat/train.xml").iter("image")
children = {image.get("name").partition(".")[0]: [child.tag for child in image] for image in images}
check("CVAT: elements of each image", children, {"polygon": ["polygon"], "ellipse": [], "normal": []})
dataset().transform("polygons_to_masks").export("masks", "voc", save_media=True)
check("VOC of masks: files in SegmentationClass", files("masks", "SegmentationClass"), ["ellipse.png", "polygon.png"])
PYTHON
if grep -qi 'warn\|error\|skip\|ellipse\|polygon' messages.txt; then
    echo "changed: there is a message now:"; cat messages.txt; exit 1
fi
echo "messages: none"
