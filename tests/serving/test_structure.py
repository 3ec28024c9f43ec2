from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from adjobs.serving.structure import find_excess
from tests.helpers.images import encode_tiff, png_chunk
from tests.helpers.serving import draw_png, encode

SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_find_excess_photographs_have_none(kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    assert find_excess(encode(image, kind)) is None


@pytest.mark.parametrize(
    ("content", "excess"),
    [
        (SIGNATURE + png_chunk(b"tEXt", b"") * 10_001, "has more than 10,000 chunks"),
        (b"\xff\xd8" + struct.pack(">HH", 0xFFE1, 2) * 10_001, "has more than 10,000 markers"),
        (b"\xff\xd8" + b"\xff" * 50_000, "has more than 10,000 markers"),
        (b"\xff\xd8" + struct.pack(">HH", 0xFFDA, 2) * 31, "has more than 30 scans"),
        (encode_tiff(*[np.zeros((1, 1), np.uint8)] * 65), "has more than 64 pages"),
        (encode_tiff(*[np.zeros((1, 1), np.uint8)] * 65, order=">"), "has more than 64 pages"),
        (b"II" + struct.pack("<HIHI", 42, 8, 0, 8), "has more than 64 pages"),  # a page that is its own successor
        (b"II" + struct.pack("<HHHQQQ", 43, 8, 0, 16, 0, 16), "has more than 64 pages"),  # the same with addresses of 64 bits
    ],
)
def test_find_excess_names_the_excess(content, excess):
    assert find_excess(content) == excess


@pytest.mark.parametrize("content", [b"", b"II", b"MM\0*", SIGNATURE, b"\xff\xd8", b"II*\0\xff\xff\xff\xff", draw_png()[:40]])
def test_find_excess_truncated_files_have_none(content):
    assert find_excess(content) is None
