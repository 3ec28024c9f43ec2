"""Contact sheets of simulated anomalies, for visual inspection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from adjobs.types import Simulated

COLUMNS = 8
GAP = 4  # pixels between images
BLANK = 255  # grey value of gaps and empty cells
STRUCTURAL_COLOUR, LOGICAL_COLOUR = (255, 255, 255), (90, 170, 255)  # of the masks


def draw_contact_sheet(images: Tensor, simulated: Simulated, extra: Sequence[Tensor] = ()) -> np.ndarray:
    """Draw rows of normal images, below each the same image with its anomaly, and below that the mask.

    Masks of logical anomalies are blue.

    Args:
        images: ``(B, 3, H, W)`` in [0, 1], before simulation.
        simulated: the same images with their anomalies.
        extra: further versions of the images, each ``(B, 3, H, W)`` in [0, 1], drawn below the masks.

    Returns:
        ``(height, width, 3)`` uint8.
    """
    logical = [False] * len(images) if simulated.logical is None else simulated.logical.tolist()
    colours = np.array([LOGICAL_COLOUR if is_logical else STRUCTURAL_COLOUR for is_logical in logical], dtype=np.uint8)
    masks = list(simulated.masks[:, 0, :, :, None].cpu().numpy() * colours[:, None, None])
    columns = [list(column) for column in zip(_uint8(images), _uint8(simulated.images), masks, *map(_uint8, extra), strict=True)]
    bands = [_draw_band(columns[start : start + COLUMNS], len(columns)) for start in range(0, len(columns), COLUMNS)]
    return _stack(bands, GAP * 4)


def save_contact_sheet(sheet: np.ndarray, path: Path) -> None:
    """Write a sheet as PNG, whatever the path's suffix."""
    Image.fromarray(sheet).save(path, "PNG")


def _uint8(images: Tensor) -> list[np.ndarray]:
    return list((images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _draw_band(columns: Sequence[Sequence[np.ndarray]], total: int) -> np.ndarray:
    """Columns side by side; the last of several bands is padded to full width."""
    drawn = [_stack(column, GAP) for column in columns]
    blank = np.full_like(drawn[0], BLANK)
    drawn += [blank] * (min(COLUMNS, total) - len(drawn))
    return _stack([column.swapaxes(0, 1) for column in drawn], GAP).swapaxes(0, 1)


def _stack(images: Sequence[np.ndarray], gap: int) -> np.ndarray:
    """Images one below the other, with blank gaps between them."""
    separator = np.full((gap, *images[0].shape[1:]), BLANK, dtype=np.uint8)
    pieces = [piece for image in images for piece in (image, separator)][:-1]
    return np.concatenate(pieces)
