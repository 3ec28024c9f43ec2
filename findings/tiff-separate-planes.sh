# 16-bit RGB TIFFs with separate colour planes are read as other pixels by OpenCV, and by Pillow where they are uncompressed; no error says so.
#
# Expected: PlanarConfiguration 2 (all of red, then green, then blue) says only how the values are stored: the same picture as
#           with interleaved colours.
# Happens:  8 bits are right. Of 16 bits, Pillow takes each byte of an uncompressed file for a pixel, so that a row is the first
#           half of the stored one with its low bytes in between; with Deflate or LZW it is right (the high bytes). OpenCV gives
#           other values with and without compression. Size and type are as expected, and nothing warns; tifffile is right.
# Versions: Pillow 13.0.0, opencv-python-headless 5.0.0.93, tifffile 2026.3.3.
# Hurts:    scientific cameras' software and tifffile (planarconfig="separate") write such files. A model is trained on what looks
#           like noise only to the eye, and on a line with another reader every part is anomalous.
# adjobs:   refuses colour of 16 bits in separate planes, whatever its compression. Write interleaved colours (in tifffile
#           planarconfig="contig").
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    'pillow==13.0.0' 'opencv-python-headless==5.0.0.93' 'tifffile==2026.3.3' 'imagecodecs==2026.3.6'
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
rng = np.random.default_rng(0)
for kind in (np.uint8, np.uint16):
    picture = rng.integers(0, np.iinfo(kind).max, (20, 30, 3), kind, endpoint=True)
    for compression in (None, "zlib", "lzw"):
        for planes in ("contig", "separate"):
            values = picture if planes == "contig" else np.ascontiguousarray(np.moveaxis(picture, 2, 0))
            tifffile.imwrite("part.tif", values, photometric="rgb", planarconfig=planes, compression=compression)
            pillow, opencv = np.asarray(Image.open("part.tif")), cv2.imread("part.tif", cv2.IMREAD_UNCHANGED)[..., ::-1]
            print(f"{picture.dtype}, {planes}, compression {compression}: Pillow {pillow.shape}, OpenCV {opencv.shape} {opencv.dtype}")
            high = picture if kind is np.uint8 else picture >> 8
            deep_planes = kind is np.uint16 and planes == "separate"
            check("  right in tifffile", bool((tifffile.imread("part.tif") == values).all()), True)
            check("  right in Pillow, which keeps the high bytes", bool((pillow == high).all()), not (deep_planes and not compression))
            check("  right in OpenCV", bool((opencv == picture).all()), not deep_planes)
            if deep_planes and not compression:
                stored = list(values[0, 0].tobytes()[:30])
                check("  Pillow's first row of red is made of bytes", pillow[0, :, 0].tolist() == stored, True)
PYTHON
