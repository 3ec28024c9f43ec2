"""An image beside itself with its anomaly map, for people."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from scipy import ndimage

OVERLAY_SIDE = 384  # pixels of an overlay's longer side: enough to see a defect, small enough to send by mail
OUTLINE = (64, 224, 255)  # cyan, which the heat map's colours lack
# From black through purple and orange to pale yellow, as light grows, like matplotlib's inferno; linear in between.
HEAT_COLOURS = np.array(
    [
        (0, 0, 4),
        (30, 12, 69),
        (87, 16, 110),
        (138, 34, 106),
        (188, 55, 84),
        (227, 89, 51),
        (249, 142, 9),
        (249, 203, 53),
        (252, 255, 164),
    ]
)
COMPRESSION = 4  # zlib's level: less than half the time of level 6, Pillow's own choice, for files that are 2 to 7 % larger


def shrink(image: Image.Image) -> Image.Image:
    """A decoded image at the size at which it is drawn; :func:`draw_overlay` draws the same from either."""
    scale = OVERLAY_SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BILINEAR)


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
        image: decoded, at its own size or from :func:`shrink`.
        anomaly_map: ``(S, S)`` float.
        floor: median of the map over normal pixels.
        threshold: for pixels.
        defect_mask: ``(S, S)`` bool, outlined on the heat map; None for no outlines.
    """
    shrunk = shrink(image)
    pixels = np.asarray(shrunk.convert("RGB"))
    resized = np.asarray(Image.fromarray(anomaly_map.astype(np.float32)).resize(shrunk.size, Image.Resampling.BILINEAR))
    heat = np.clip((resized - floor) / (2 * max(threshold - floor, 1e-12)), 0, 1)  # 0.5 at the threshold
    mixed = _mix(pixels, heat)
    if defect_mask is not None:
        mixed[outline(defect_mask, shrunk.size)] = OUTLINE
    return Image.fromarray(np.concatenate([pixels, mixed], axis=1))


def encode_overlay(overlay: Image.Image) -> bytes:
    """An overlay as a PNG file."""
    file = BytesIO()
    overlay.save(file, "PNG", compress_level=COMPRESSION)
    return file.getvalue()


def _mix(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The pixels under the colours of the heat map; on most images few have a colour, and only they are computed."""
    mixed = pixels.copy()
    coloured = heat > 0.25
    hot = heat[coloured]
    alpha = np.clip((hot - 0.25) * 2, 0, 0.65)[:, None]
    knots = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.stack([np.interp(hot, knots, channel) for channel in HEAT_COLOURS.T], axis=1)
    mixed[coloured] = ((1 - alpha) * pixels[coloured].astype(np.float32) + alpha * colours).round().astype(np.uint8)
    return mixed


def outline(defect_mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A line of two pixels around the regions, not on them: a scratch is no wider than the line."""
    shape = Image.fromarray(defect_mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(shape) > 63  # a quarter, so that thin regions survive being shrunk
    return np.asarray(ndimage.binary_dilation(inside, iterations=2) & ~inside)
