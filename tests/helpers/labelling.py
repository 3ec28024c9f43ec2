"""Images to label, each with a texture of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from adjobs.labelling.suggest import SuggestResult


def draw_textured(folder: Path, name: str, seed: int, brightness: int) -> Path:
    """An image with texture of its own, whose brightest pixels have this value."""
    rng = np.random.default_rng(seed)
    pixels = np.asarray(Image.fromarray(rng.integers(0, 90, (12, 16), np.uint8)).resize((160, 96), Image.Resampling.NEAREST))
    pixels = pixels.copy()
    pixels[20:52, 40:90] = brightness
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    Image.fromarray(np.stack([pixels] * 3, 2)).save(path)
    return path


def suggested_names(result: SuggestResult) -> list[str]:
    return [suggestion.source.path.name for suggestion in result.suggestions]
