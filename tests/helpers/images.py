"""Image files with special properties."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path


def write_huge_png(path: Path, side: int) -> Path:
    """A valid PNG of side x side black pixels, 1 bit each, which compress to nearly nothing. Returns ``path``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    line, compressor = bytes(1 + (side + 7) // 8), zlib.compressobj(1)
    pixels = b"".join(compressor.compress(line) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path
