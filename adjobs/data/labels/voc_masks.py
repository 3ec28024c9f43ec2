"""Masks of Pascal VOC, whose colours stand for classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adjobs.data.image_file import opened
from adjobs.data.walk import read_text
from adjobs.errors import DataError

BACKGROUND, BORDER = (0, 0, 0), (224, 224, 192)
"""Colours of pixels of no class, and of pixels near the edge of an object that VOC does not count."""

_MAX_COLORS = 256


@dataclass(frozen=True)
class ClassColors:
    """Colours of ``labelmap.txt``.

    Attributes:
        names: class by colour.
        background: colours of no class.
    """

    names: dict[tuple[int, int, int], str] = field(default_factory=dict)
    background: frozenset[tuple[int, int, int]] = frozenset({BACKGROUND})

    @classmethod
    def read(cls, path: Path) -> ClassColors:
        """Read lines ``name:red,green,blue:parts:actions``; without the file, black is the background.

        Datumaro leaves out the colours of classes where VOC's own serve, in the order of the lines.

        Raises:
            DataError: a line is malformed.
        """
        names: dict[tuple[int, int, int], str] = {}
        background = {BACKGROUND}
        lines = read_text(path).splitlines() if path.is_file() else []
        for index, line in enumerate(line for line in lines if line.strip() and not line.startswith("#")):
            name, _, rest = line.partition(":")
            text = rest.partition(":")[0].strip()
            try:
                red, green, blue = map(int, text.split(",")) if text else palette_color(index)
            except ValueError:
                raise DataError(f"{path}: line {line[:60]!r}; expected name:red,green,blue:parts:actions; fix it") from None
            if name.strip().casefold() == "background":
                background.add((red, green, blue))
            else:
                names[red, green, blue] = name.strip()
        return cls(names, frozenset(background - names.keys()))


def palette_color(index: int) -> tuple[int, int, int]:
    """The colour of a class in VOC's palette, whose bits are spread over those of red, green and blue.

    >>> palette_color(1), palette_color(4), palette_color(255)
    ((128, 0, 0), (0, 0, 128), (224, 224, 192))
    """
    red = green = blue = 0
    for shift in range(7, -1, -1):
        red, green, blue = red | (index & 1) << shift, green | (index >> 1 & 1) << shift, blue | (index >> 2 & 1) << shift
        index >>= 3
    return red, green, blue


def read_class_mask(path: Path, colors: ClassColors, size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Class ("" if its colour has none) and ``(H, W)`` bool of each colour in a mask but the background and VOC's border.

    Args:
        path: image of colours, or of a palette of them.
        colors: of the data set.
        size: width and height that the mask must have.

    Raises:
        ImageError: the mask is unreadable.
        ValueError: it has another size, or more colours than classes.
    """
    with opened(path) as image:
        actual = image.size
        pixels = np.asarray(image.convert("RGB"), dtype=np.int64)
    if actual != size:
        raise ValueError(f"has {actual[0]} x {actual[1]} pixels, the image {size[0]} x {size[1]}; both must be equal")
    codes = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    unique = np.unique(codes)
    if len(unique) > _MAX_COLORS:
        raise ValueError(f"has {len(unique)} colours; at most {_MAX_COLORS} can stand for classes; export it as PNG")
    for code in unique.tolist():
        color = code >> 16, code >> 8 & 255, code & 255
        if color not in colors.background and color != BORDER:
            yield colors.names.get(color, ""), codes == code
