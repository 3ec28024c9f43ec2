"""Label Studio's run-length code of brush strokes: the bit format of thi.ng/rle-pack over four channels per pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjobs.data.labels.polygons import refuse_large


def decode_brush(code: Any, width: int, height: int) -> np.ndarray:
    """Pixels that a brush painted.

    Args:
        code: list of bytes; red, green, blue and opacity of each pixel in turn, row by row.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        ``(height, width)`` bool, True where the paint is not fully transparent.

    Raises:
        ValueError: it is no such code, or one for another size.
    """
    refuse_large(width, height)
    return unpack(code, width * height * 4).reshape(height, width, 4)[..., 3] > 0


def unpack(code: Any, count: int) -> np.ndarray:
    """Numbers packed by rle-pack.

    The code begins with the count of numbers (32 bits), the bits of a number less one (5) and four bits of lengths less one (4
    each). Groups follow: whether one number is repeated (1), which of the four (2), length less one, and the number or numbers.

    Args:
        code: list of bytes.
        count: numbers that must come out.

    Raises:
        ValueError: it is no such code, or has another count.
    """
    try:
        bits = _Bits(bytes([*code]))  # of a number alone, bytes would make as many zeros
    except TypeError as error:
        raise ValueError(f"brush code is {repr(code)[:40]}; allowed is a list of bytes") from error
    found, word = bits.read(32), bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    if found != count:
        raise ValueError(f"brush code has {found} numbers; {count} are needed, four for each pixel of the image")
    numbers = np.zeros(count, dtype=np.uint8 if word <= 8 else np.uint32)
    place = 0
    while place < count:
        repeated, size = bits.read(1), sizes[bits.read(2)]
        length = bits.read(size) + 1
        group = numbers[place : place + length]
        group[:] = bits.read(word) if repeated else [bits.read(word) for _ in group]
        place += length
    return numbers


class _Bits:
    """Bits of a code, read one after another."""

    def __init__(self, code: bytes) -> None:
        self._text = f"{int.from_bytes(code, 'big'):0{8 * len(code)}b}"
        self._place = 0

    def read(self, bits: int) -> int:
        text = self._text[self._place : self._place + bits]
        if len(text) < bits:
            raise ValueError("brush code ends too early; export it again")
        self._place += bits
        return int(text, 2)
