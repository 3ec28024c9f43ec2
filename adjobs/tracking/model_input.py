"""What the logged MLflow model takes, as a list of images.

Text is an image in base64 and never the path of a file: behind a server it comes from clients, who could read the server's files
with it. MLflow's own server leaves a mark in the environment, others (Ray Serve, KServe, a service of one's own) leave none, so
nothing tells text of a client from text of the program. A path is therefore a :class:`pathlib.Path`, which no request can hold.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from adjobs.errors import DataError, one_line, shorten, shown

COLUMN = "image"
ALLOWED = "bytes of an image file, base64 text, a PIL image, a uint8 or uint16 array, or in Python a pathlib.Path"
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+[=\s]*")  # no PNG, JPEG, BMP, TIFF or WebP is of these alone
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")  # as browsers write files

Source = bytes | Path | Image.Image | np.ndarray


def images_in(model_input: object) -> list[object]:
    """The images in an input, one by one, whatever they are.

    Args:
        model_input: an image, an ``(N, H, W, 3)`` array of several, a list or series of images, or a data frame or mapping with
            them in ``image``, or in its only column.

    Raises:
        DataError: a table with several columns and no ``image``.
    """
    if isinstance(model_input, pd.DataFrame):
        # By position: names may be numbers, or come twice.
        return list(model_input.iloc[:, _column(model_input.columns.tolist(), "data frame")])
    if isinstance(model_input, Mapping):
        names = list(model_input)
        return images_in(model_input[names[_column(names, "dictionary")]])
    if isinstance(model_input, np.ndarray) and model_input.dtype.kind in "OSUT":  # of text or objects, as MLflow's server makes
        return [image for item in model_input.ravel().tolist() for image in _inside(item)]
    if isinstance(model_input, np.ndarray) and model_input.ndim == 4:
        return list(model_input)
    if isinstance(model_input, list | tuple | pd.Series):
        return [image for item in model_input for image in _inside(item)]
    return [model_input]


def source_of(image: object) -> Source:
    """What a detector reads, of one image; never text, which a detector takes for a path.

    Raises:
        DataError: something else, or text that is not base64.
    """
    if isinstance(image, Path | Image.Image | np.ndarray):
        return image
    if isinstance(image, str):
        return _decode(_DATA_URL.sub("", image, count=1).encode(errors="replace"))
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        return _decode(content) if _BASE64.fullmatch(content) else content
    raise DataError(f"image: got {type(image).__name__}; give {ALLOWED}")


def _inside(item: object) -> list[object]:
    """An image of a list; records, and single values that MLflow's server has made arrays of, are unpacked."""
    is_scalar = isinstance(item, np.ndarray) and item.ndim == 0
    return images_in(item) if is_scalar or isinstance(item, Mapping) else [item]


def _column(names: list[Any], description: str) -> int:
    if COLUMN in names:
        return names.index(COLUMN)
    if len(names) != 1:
        listed = shorten(", ".join(map(str, names))) or "none"
        raise DataError(f"{description}: its columns are {listed}; give a column '{COLUMN}', or one column alone")
    return 0


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except ValueError as error:
        start = shown(text[:200].decode())
        raise DataError(
            f"image: got text that is not base64, {start} ({one_line(error)}); give an image file as bytes or base64; text is "
            "never a path, as clients of a server could read its files: in Python give pathlib.Path(...)"
        ) from error
