"""Label Studio's run-length encoding of brush strokes: the bit format of thi.ng/rle-pack, with four channels per pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjobs.data.labels.polygons import refuse_large


def decode_brush(code: Any, width: int, height: int) -> np.ndarray:
    """Decode the pixels that a brush painted.

    Args:
        code: list of bytes that encodes red, green, blue and opacity of each pixel, row by row.
        width: of the image, in pixels.
        height: of the image, in pixels.

    Returns:
        ``(height, width)`` bool, True where the opacity is not 0.

    Raises:
        ValueError: the code is invalid, or is for another image size.
    """
    refuse_large(width, height)
    return unpack(code, width * height * 4).reshape(height, width, 4)[..., 3] > 0


def unpack(code: Any, count: int) -> np.ndarray:
    """Decode the numbers packed by rle-pack, ``(count,)``.

    The code starts with the number of values (32 bits), the bits per value minus one (5 bits) and four length sizes minus one
    (4 bits each). Groups follow: whether one value is repeated (1 bit), which of the four length sizes is used (2 bits), the
    length minus one, and the value or values.

    Args:
        code: list of bytes.
        count: expected number of values.

    Raises:
        ValueError: the code is invalid, or has another count.
    """
    try:
        bits = _Bits(bytes([*code]))  # bytes(5) would be five zeros
    except TypeError as error:
        raise ValueError(f"brush code is {repr(code)[:40]}; expected a list of bytes") from error
    n_values, value_bits = bits.read(32), bits.read(5) + 1
    length_sizes = [bits.read(4) + 1 for _ in range(4)]
    if n_values != count:
        raise ValueError(f"brush code has {n_values} values; expected {count}, four for each pixel of the image")
    values = np.zeros(count, dtype=np.uint8 if value_bits <= 8 else np.uint32)
    position = 0
    while position < count:
        repeated, length_size = bits.read(1), length_sizes[bits.read(2)]
        length = bits.read(length_size) + 1
        group = values[position : position + length]
        group[:] = bits.read(value_bits) if repeated else [bits.read(value_bits) for _ in group]
        position += length
    return values


class _Bits:
    """Reads the bits of a code in order."""

    def __init__(self, code: bytes) -> None:
        self._text = f"{int.from_bytes(code, 'big'):0{8 * len(code)}b}"
        self._position = 0

    def read(self, bits: int) -> int:
        text = self._text[self._position : self._position + bits]
        if len(text) < bits:
            raise ValueError("brush code ends too early; export it again")
        self._position += bits
        return int(text, 2)
