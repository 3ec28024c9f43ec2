"""Images to try a detector on before real ones come."""

from __future__ import annotations

import numpy as np
from PIL import Image


def drawn_images(size: int) -> np.ndarray:
    """Noise, and a picture as smooth as most photographs are, ``(2, S, S, 3)`` uint8."""
    rng = np.random.default_rng(0)
    noise, coarse = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (size, 8))
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    return np.stack([noise, smooth])
