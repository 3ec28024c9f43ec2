# Pillow rotates and warps 16-bit images by treating each byte as a pixel as soon as the filter is not NEAREST: a grey plate becomes noise below 256.
#
# Expected: an even plate of level 1000 turned by 10 degrees is still 1000 everywhere but in the corners, or an error is raised,
#           as by filters that lack 16 bits ("image has wrong mode").
# Happens:  rotate and transform with BILINEAR or BICUBIC on mode I;16 return, without a word, values that never exceed 255 and
#           vary where the plate does not. NEAREST is right, resize is right with every filter, and so is mode F.
# Versions: Pillow 13.0.0. An early report of the black result: https://github.com/python-pillow/Pillow/issues/1127 (2015,
#           closed).
# Hurts:    rotation by a few degrees is the commonest augmentation here, and torchvision hands PIL images to these two functions.
#           Of 10-, 12- and 16-bit images the augmented ones are noise, the unturned ones are not, and a detector learns to tell
#           these apart.
# adjobs:   converts to 8 bits before anything else and turns arrays, not PIL images. Else convert to mode F, turn, convert back.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile 'pillow==13.0.0' 'numpy==2.4.6'
cd "$work"
HOME=$work venv/bin/python - <<'PYTHON'
import numpy as np
import PIL
from PIL import Image
from PIL.Image import Resampling, Transform


def check(what, seen, known):
    print(f"{what}: {seen}")
    if seen != known:
        raise SystemExit(f"changed: it was {known}")


print("Pillow", PIL.__version__)
LEVEL = 1000
plate = np.full((64, 64), LEVEL, np.uint16)
middle = slice(24, 40)
operations = {
    "rotate by 10 degrees": lambda image, filter_: image.rotate(10, filter_),
    "affine, half a pixel": lambda image, filter_: image.transform((64, 64), Transform.AFFINE, (1, 0, 0.5, 0, 1, 0.5), filter_),
    "resize to 90 %": lambda image, filter_: image.resize((58, 58), filter_),
}
for name, operation in operations.items():
    for filter_ in (Resampling.NEAREST, Resampling.BILINEAR, Resampling.BICUBIC):
        for mode, kind in (("I;16", np.uint16), ("F", np.float32)):
            image = Image.fromarray(plate.astype(kind))
            assert image.mode == mode
            seen = np.asarray(operation(image, filter_))[middle, middle]
            levels = f"{seen.min():g} to {seen.max():g}"
            broken = mode == "I;16" and filter_ is not Resampling.NEAREST and not name.startswith("resize")
            state = "right" if np.allclose(seen, LEVEL) else "below 256" if seen.max() < 256 else "wrong"
            check(f"{name}, {filter_.name}, mode {mode}, {levels}", state, "below 256" if broken else "right")
PYTHON
