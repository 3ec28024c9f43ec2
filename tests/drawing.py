"""Small data sets drawn on the fly: textured squares, the bad ones with a bright scratch, and its mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def texture(size: int, rng: np.random.Generator) -> np.ndarray:
    """A good part: ``(size, size, 3)`` uint8, grey stripes with noise; no two draws are equal."""
    y, x = np.mgrid[:size, :size]
    stripes = 12 * np.sin(x * 2 * np.pi / 8 + rng.uniform(0, 2 * np.pi)) + 6 * np.sin(y * 2 * np.pi / 16)
    grey = 110 + stripes + rng.normal(0, 4, (size, size))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def scratch(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a bright diagonal line.

    Returns:
        The scratched copy of ``image``, and the scratch as ``(size, size)`` bool.
    """
    size = len(image)
    y, x = np.mgrid[:size, :size]
    angle, middle = rng.uniform(0, np.pi), rng.uniform(size * 0.35, size * 0.65, 2)
    along = (x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)
    across = (y - middle[1]) * np.cos(angle) - (x - middle[0]) * np.sin(angle)
    mask = (np.abs(along) < size * 0.3) & (np.abs(across) < max(1.0, size / 32))
    scratched = image.copy()
    scratched[mask] = 240
    return scratched, mask


def save(path: Path, pixels: np.ndarray) -> Path:
    """Write uint8 or bool pixels as an image, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def draw_folder(root: Path, n_good: int, n_bad: int, size: int = 64, seed: int = 0) -> Path:
    """Plain layout: ``good/000.png``, ``bad/scratch/000.png``, ``masks/scratch/000.png``. Returns ``root``."""
    rng = np.random.default_rng(seed)
    for i in range(n_good):
        save(root / "good" / f"{i:03}.png", texture(size, rng))
    for i in range(n_bad):
        image, mask = scratch(texture(size, rng), rng)
        save(root / "bad" / "scratch" / f"{i:03}.png", image)
        save(root / "masks" / "scratch" / f"{i:03}.png", mask)
    return root


def draw_mvtec(root: Path, n_good: int, n_bad: int, size: int = 64, seed: int = 0) -> Path:
    """MVTec AD's layout; the last quarter of the good images (at least one) is in ``test``. Returns ``root``."""
    rng = np.random.default_rng(seed)
    n_train = n_good - max(1, n_good // 4)
    for i in range(n_good):
        place = root / "train" / "good" if i < n_train else root / "test" / "good"
        save(place / f"{i:03}.png", texture(size, rng))
    for i in range(n_bad):
        image, mask = scratch(texture(size, rng), rng)
        save(root / "test" / "scratch" / f"{i:03}.png", image)
        save(root / "ground_truth" / "scratch" / f"{i:03}_mask.png", mask)
    return root
