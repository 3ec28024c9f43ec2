# Supervisely's SDK turns bitmaps into polygons without lines and single pixels, and with larger holes.
#
# Expected: a bitmap has the same pixels as polygons, since both are drawn by the same SDK; what cannot be kept is said.
# Happens:  a line of 1 × 20 pixels and a single pixel become no polygon at all; a hole grows by the pixels around it, so that a frame of 364
#           pixels has 340, and one with a hole of a single pixel loses five. A square of 10 × 10 is exact, but its
#           polygon's "area" is 81.
# Versions: supervisely 6.74.51.
# Hurts:    scratches and pores vanish when a project is converted to polygons, as for COCO or YOLO.
# adjobs:   reads bitmaps exactly, and draws the outline of a hole as part of the defect, which undoes the loss at holes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'supervisely==6.74.51'
cd "$work"
HOME=$work venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import supervisely as sly


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print("supervisely", version("supervisely"))
masks = {name: np.zeros((30, 40), bool) for name in ("square", "line", "pixel", "frame", "pore")}
masks["square"][4:14, 5:15] = masks["line"][5, 5:25] = masks["pixel"][20, 20] = True
masks["frame"][5:25, 5:25], masks["frame"][10:16, 10:16] = True, False
masks["pore"][5:25, 5:25], masks["pore"][15, 15] = True, False


def pixels(polygons):
    drawn = np.zeros((30, 40), np.uint8)
    for polygon in polygons:
        polygon.draw(drawn, 1)
    return int(drawn.sum())


print("pixels of the bitmaps:", {name: int(mask.sum()) for name, mask in masks.items()})
polygons = {name: sly.Bitmap(mask).to_contours() for name, mask in masks.items()}
check("as polygons", {name: pixels(some) for name, some in polygons.items()}, {"square": 100, "line": 0, "pixel": 0, "frame": 340, "pore": 395})
check("area of the square's polygon", float(polygons["square"][0].area), 81.0)
PYTHON
