# Pillow 13 scrambles an uncompressed grey TIFF that is to be turned by 90 degrees when it is opened by its name, and reads it right from a file object.
#
# Expected: Image.open(path) and Image.open(open(path, "rb")) give the same pixels, upright, width and height exchanged.
# Happens:  with Orientation 5 to 8 in the file, 8 or 16 bits grey and no compression, the image that was opened by name keeps the
#           stored width and height, while its rows are cut at the turned width: a sheared jumble. Orientations 1 to 4, colour,
#           and compressed files are right both ways. Nothing warns; exif_transpose does not help.
# Versions: Pillow 13.0.0, which can write such a file itself.
# Hurts:    industrial cameras write uncompressed grey TIFFs, handhelds and turned mounts set the orientation. What was trained
#           from paths is scored from bytes (a web request, S3) as another picture, and masks do not fit.
# adjobs:   opens every image as a file object, never by name. Elsewhere: with open(path, "rb") as file: Image.open(file).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'pillow==13.0.0' 'numpy==2.4.6'
cd "$work"
HOME=$work venv/bin/python - <<'PYTHON'
import numpy as np
import PIL
from PIL import Image, ImageOps


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print("Pillow", PIL.__version__)
ORIENTATION = 274
# What the eight orientations ask for: rows reversed, columns reversed, or both, after rows and columns changed places from 5 on.
FLIPS = {1: np.s_[:, :], 2: np.s_[:, ::-1], 3: np.s_[::-1, ::-1], 4: np.s_[::-1, :]}
FLIPS |= {5: np.s_[:, :], 6: np.s_[:, ::-1], 7: np.s_[::-1, ::-1], 8: np.s_[::-1, :]}


def right_orientations(picture, **options):
    """Orientations of which each way of opening gives the upright picture."""
    right = {"by name": [], "by name, exif_transpose": [], "by file object": []}
    for orientation, flip in FLIPS.items():
        image = Image.fromarray(picture)
        exif = image.getexif()
        exif[ORIENTATION] = orientation
        image.save("part.tif", exif=exif, **options)
        want = (picture if orientation < 5 else picture.swapaxes(0, 1))[flip]
        with open("part.tif", "rb") as file:
            seen = {
                "by name": np.asarray(Image.open("part.tif")),
                "by name, exif_transpose": np.asarray(ImageOps.exif_transpose(Image.open("part.tif"))),
                "by file object": np.asarray(Image.open(file)),
            }
        for way, pixels in seen.items():
            if np.array_equal(pixels, want):
                right[way].append(orientation)
    return right


grey = np.arange(24, dtype=np.uint8).reshape(4, 6)
every, unturned = list(range(1, 9)), [1, 2, 3, 4]
wrong = {"by name": unturned, "by name, exif_transpose": unturned, "by file object": every}
fine = dict.fromkeys(wrong, every)
check("8 bits grey, right orientations", right_orientations(grey), wrong)
check("16 bits grey", right_orientations(grey.astype(np.uint16) * 1000), wrong)
check("colour", right_orientations(np.stack([grey] * 3, axis=2)), fine)
check("8 bits grey, deflate", right_orientations(grey, compression="tiff_adobe_deflate"), fine)

image = Image.fromarray(grey)
exif = image.getexif()
exif[ORIENTATION] = 6
image.save("part.tif", exif=exif)
print("stored:        ", grey.tolist())
print("by name:       ", np.asarray(Image.open("part.tif")).tolist())
with open("part.tif", "rb") as file:
    print("by file object:", np.asarray(Image.open(file)).tolist())
PYTHON
