"""An image beside itself with its anomaly map, for people."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

OVERLAY_SIDE = 384  # pixels of an overlay's longer side: enough to see a defect, small enough to send by mail
OUTLINE = (64, 224, 255)  # cyan, which the heat map's colours lack


def draw_overlay(
    image: Image.Image,
    anomaly_map: np.ndarray,
    floor: float,
    threshold: float,
    defect_mask: np.ndarray | None = None,
) -> Image.Image:
    """The image beside itself with its heat map, in the image's own proportions.

    Colours mean the same in all images of a model: the scale starts at what is usual on normal images, its middle is the
    threshold from which a pixel is defective. Up to half way to the threshold only the image is seen.

    Args:
        image: decoded.
        anomaly_map: ``(S, S)`` float.
        floor: median of the map over normal pixels.
        threshold: for pixels.
        defect_mask: ``(S, S)`` bool, outlined on the heat map; None for no outlines.
    """
    from matplotlib import colormaps

    scale = OVERLAY_SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR).convert("RGB"), dtype=np.float32)
    resized = np.asarray(Image.fromarray(anomaly_map.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    heat = np.clip((resized - floor) / (2 * max(threshold - floor, 1e-12)), 0, 1)  # 0.5 at the threshold
    alpha = np.clip((heat - 0.25) * 2, 0, 0.65)[..., None]
    mixed = (1 - alpha) * pixels + alpha * 255 * colormaps["inferno"](heat)[..., :3]
    if defect_mask is not None:
        mixed[_outline(defect_mask, size)] = OUTLINE
    return Image.fromarray(np.concatenate([pixels, mixed], axis=1).round().astype(np.uint8))


def _outline(defect_mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A line of two pixels around the regions, not on them: a scratch is no wider than the line."""
    shape = Image.fromarray(defect_mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(shape) > 63  # a quarter, so that thin regions survive being shrunk
    return np.asarray(ndimage.binary_dilation(inside, iterations=2) & ~inside)
