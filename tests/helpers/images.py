"""Image files with special properties, which Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_png(values: np.ndarray, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file.

    Args:
        values: ``(H, W)`` or ``(H, W, channels)``, uint8 or uint16; 1 to 4 channels: grey, with alpha, RGB, with alpha.
        before: chunks before the pixels.
        after: chunks behind them.
    """
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    big_endian = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, colour_type, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + before + pixels + after + png_chunk(b"IEND", b"")


def encode_tiff(
    *pages: np.ndarray, order: str = "<", compress: bool = False, planar: bool = False, tags: dict | None = None
) -> bytes:
    """A TIFF file of one strip a page.

    Args:
        pages: ``(H, W)`` or ``(H, W, channels)`` of any type of number.
        order: byte order, "<" or ">".
        compress: with Deflate.
        planar: channels one after the other.
        tags: more tags, or others in place of these, each with its value or with its values page by page, of 16 bits.
    """
    mark = {"<": b"II", ">": b"MM"}[order]
    file, next_at = bytearray(mark + struct.pack(order + "HI", 42, 0)), 4
    for number, values in enumerate(pages):
        height, width = values.shape[:2]
        channels = 1 if values.ndim == 2 else values.shape[2]
        samples = np.moveaxis(values, -1, 0) if planar else values
        data = samples.astype(values.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if compress else data
        strips = [len(file)]
        size = [len(data)]
        if planar:
            size = [len(data) // channels] * channels
            strips = [len(file) + i * size[0] for i in range(channels)]
        file += data + bytes(len(data) % 2)
        kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
        entries: dict[int, list[int]] = {
            256: [width],
            257: [height],
            258: [8 * values.itemsize] * channels,
            259: [8 if compress else 1],
            262: [2 if channels >= 3 else 1],
            273: strips,
            277: [channels],
            278: [height],
            279: size,
            284: [2 if planar else 1],
            339: [kind] * channels,
        }
        if channels in (2, 4):
            entries[338] = [2]
        for tag, value in (tags or {}).items():
            entries[tag] = [value[number] if isinstance(value, tuple) else value]
        file[next_at : next_at + 4] = struct.pack(order + "I", len(file))
        next_at = _add_directory(file, entries, order)
    return bytes(file)


def _add_directory(file: bytearray, entries: dict[int, list[int]], order: str) -> int:
    """Append a directory, and what does not fit into it; returns where the place of the next one stands."""
    start = len(file)
    end = start + 2 + 12 * len(entries) + 4
    directory, extra = struct.pack(order + "H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        code = "I" if tag in (273, 279) else "H"
        data = struct.pack(f"{order}{len(values)}{code}", *values)
        if len(data) > 4:
            place = struct.pack(order + "I", end + len(extra))
            extra += data
        else:
            place = data.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[code], len(values)) + place
    file += directory + bytes(4) + extra + bytes(len(extra) % 2)
    return end - 4


def write_huge_png(path: Path, side: int, height: int | None = None) -> Path:
    """A valid PNG of black pixels, ``side`` wide and as high unless said, 1 bit each, which compress to nearly nothing."""
    height = side if height is None else height
    line, compressor = bytes(1 + (side + 7) // 8), zlib.compressobj(1)
    pixels = b"".join(compressor.compress(line) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, height, 1, 0, 0, 0, 0)
    content = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path
