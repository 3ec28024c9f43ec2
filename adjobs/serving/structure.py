"""Image files that are small and yet take minutes to read: refused by the number of their segments, before Pillow reads them.

Pillow walks through the chunks of a PNG, the pages of a TIFF and the markers of a JPEG in Python, and libjpeg goes over the whole
image for each scan. Cameras write a few dozens of each.
"""

from __future__ import annotations

import struct

MAX_SEGMENTS = 10_000
"""Chunks of a PNG, which are as small as its writer's buffer, and markers of a JPEG before its pixels."""

MAX_PAGES = 64
"""Of a TIFF."""

MAX_SCANS = 30
"""Of a JPEG; progressive ones have about ten."""

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_START_OF_SCAN = 0xDA
_TIFF_ORDERS = {b"II": "<", b"MM": ">"}
_TIFF, _BIG_TIFF = 42, 43


def find_excess(content: bytes) -> str | None:
    """What a file has too many of; None if nothing.

    >>> find_excess(_PNG + 20_000 * struct.pack(">I4sI", 0, b"teXt", 0))
    'has more than 10,000 chunks'
    """
    if content.startswith(_PNG):
        return _excess_of_png(content)
    if content.startswith(_JPEG):
        return _excess_of_jpeg(content)
    if content[:2] in _TIFF_ORDERS:
        return _excess_of_tiff(content, _TIFF_ORDERS[content[:2]])
    return None


def _excess_of_png(content: bytes) -> str | None:
    place = len(_PNG)
    for _ in range(MAX_SEGMENTS):
        if place + 8 > len(content):
            return None
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    return f"has more than {MAX_SEGMENTS:,} chunks"


def _excess_of_jpeg(content: bytes) -> str | None:
    if content.count(b"\xff\xda") > MAX_SCANS:
        return f"has more than {MAX_SCANS} scans"
    place = len(_JPEG)
    for _ in range(MAX_SEGMENTS):
        place = content.find(b"\xff", place)
        if place < 0 or place + 4 > len(content) or content[place + 1] == _START_OF_SCAN:
            return None
        has_length = content[place + 1] not in (0x00, 0x01, 0xFF) and not 0xD0 <= content[place + 1] <= 0xD9
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big") if has_length else 1
    return f"has more than {MAX_SEGMENTS:,} markers"


def _excess_of_tiff(content: bytes, order: str) -> str | None:
    try:
        (kind,) = struct.unpack_from(order + "H", content, 2)
        if kind not in (_TIFF, _BIG_TIFF):
            return None
        place_format, count_format, entry = (order + "I", order + "H", 12) if kind == _TIFF else (order + "Q", order + "Q", 20)
        (place,) = struct.unpack_from(place_format, content, 4 if kind == _TIFF else 8)
        for _ in range(MAX_PAGES):
            (entries,) = struct.unpack_from(count_format, content, place)
            (place,) = struct.unpack_from(place_format, content, place + struct.calcsize(count_format) + entry * entries)
            if place == 0:
                return None
    except struct.error:  # points behind its end, which Pillow reports
        return None
    return f"has more than {MAX_PAGES} pages"
