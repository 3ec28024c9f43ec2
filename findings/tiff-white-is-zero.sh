# Pillow and OpenCV invert a TIFF whose zero is white at 8 bits and leave it alone at 16, tifffile never inverts: one scene, opposite brightness.
#
# Expected: TIFF's PhotometricInterpretation 0 (white is zero) means the same at every depth and to every reader: 0 is the
#           brightest.
# Happens:  at 8 bits Pillow and OpenCV give 255 less the stored value, tifffile the stored value; at 16 bits all give the stored
#           value. None warns; Pillow's modes (L, I;16) and OpenCV's types say nothing of it.
# Versions: Pillow 13.0.0, opencv-python-headless 5.0.0.93, tifffile 2026.3.3.
# Hurts:    radiographs, scanners and some frame grabbers write white-is-zero. When a line goes from 8 to 16 bits, or training
#           reads with Pillow and the line with tifffile, every image is the negative of what was learnt, and all of it is
#           anomalous.
# adjobs:   opens images with Pillow and inverts what Pillow leaves, at every depth. What reads the same files beside it must do
#           so, too; black as zero (photometric "minisblack") spares the question.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' 'tifffile==2026.3.3'
cd "$work"
HOME=$work venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import cv2
import numpy as np
import tifffile
from PIL import Image


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print(*(f"{name} {version(name)}" for name in ("pillow", "opencv-python-headless", "tifffile")), sep=", ")
readers = {
    "Pillow": lambda path: np.asarray(Image.open(path)),
    "OpenCV": lambda path: cv2.imread(path, cv2.IMREAD_UNCHANGED),
    "tifffile": tifffile.imread,
}
for kind, top in ((np.uint8, 255), (np.uint16, 65535)):
    stored = np.array([[0, top // 4, top]], kind)
    tifffile.imwrite("part.tif", stored, photometric="miniswhite")
    with tifffile.TiffFile("part.tif") as file:
        check(f"{stored.dtype} file, PhotometricInterpretation", int(file.pages[0].photometric), 0)
    inverts = {name: bool((read("part.tif") == top - stored).all()) for name, read in readers.items()}
    for name, read in readers.items():
        print(f"  stored {stored[0].tolist()}, {name} reads {read('part.tif')[0].tolist()}")
    eight = kind is np.uint8
    check("  inverted as the file asks", inverts, {"Pillow": eight, "OpenCV": eight, "tifffile": False})
PYTHON
