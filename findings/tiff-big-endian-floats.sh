# Pillow swaps the bytes of compressed big-endian TIFFs of floats and of signed integers: 100.0 is read as 7e-41, 1 as 16777216.
#
# Expected: byte order and compression are a matter of storage, and the values are those that were written.
# Happens:  libtiff hands values over in the machine's order, and Pillow swaps them once more; of unsigned 16-bit values it takes
#           care. Floats become zero or nearly so, integers jump; there is neither an error nor a warning. Uncompressed files and
#           little-endian ones are right, tifffile and OpenCV read all of them.
# Versions: Pillow 13.0.0, opencv-python-headless 5.0.0.93, tifffile 2026.3.3.
# Hurts:    ImageJ writes big-endian TIFFs by default; compressed by another tool, height maps, thermal images and radiographs are
#           black or noise in every program that opens them with Pillow.
# adjobs:   reads these files with the machine's byte order, and so rightly.
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
for kind in (np.uint16, np.int16, np.int32, np.float32):
    stored = np.array([[1, 2, 100]], kind)
    for order in "<>":
        for compression in (None, "zlib", "lzw"):
            tifffile.imwrite("part.tif", stored, photometric="minisblack", byteorder=order, compression=compression)
            pixels = np.asarray(Image.open("part.tif"))
            swapped = stored.byteswap()
            wrong = order == ">" and compression is not None and kind is not np.uint16
            name = f"{stored.dtype} {'big' if order == '>' else 'little'}-endian, {compression}"
            check(f"{name}: Pillow reads {pixels[0].tolist()}, right", bool((pixels == stored).all()), not wrong)
            check("  swapped", bool((pixels == swapped).all()), wrong)
            check("  right in tifffile", bool((tifffile.imread("part.tif") == stored).all()), True)
            if kind in (np.uint16, np.float32):
                check("  right in OpenCV", bool((cv2.imread("part.tif", cv2.IMREAD_UNCHANGED) == stored).all()), True)
PYTHON
