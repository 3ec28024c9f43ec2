"""CVAT's own XML (CVAT for images 1.1), as CVAT, Datumaro and FiftyOne write it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from adjobs.data.annotation_files import (
    AnnotatedImages,
    add_region,
    head,
    no_region,
    numbers,
    published_split,
    read_xml,
    warn_of_damaged,
)
from adjobs.data.annotations import AnnotatedImage
from adjobs.data.dataset import Sample
from adjobs.data.labels.rasters import decode_runs, encode_bitmap, encode_ellipse, turned_box
from adjobs.data.reading import ReadContext
from adjobs.errors import DataError, shorten

NAME = "cvat"
DESCRIPTION = "annotations.xml (CVAT for images 1.1) beside the images or beside images/ or data/; unannotated images are normal"


def recognises(root: Path) -> bool:
    """Whether an XML file has the root element ``annotations``."""
    return bool(_documents(root))


def read(root: Path, context: ReadContext) -> list[Sample]:
    """List the samples; an image that no document names is unlabelled.

    Polygons, ellipses and masks become the mask; if one shape of an image is a box, all become boxes. Tags are classes of the
    whole image. Attributes, and whether a shape is occluded, are not used.

    Raises:
        DataError: a document is not valid XML, or is of a video.
    """
    images, documents = AnnotatedImages(root, context), _documents(root)
    warn_of_damaged(root, root.glob("*.xml"), documents, context)
    for path in documents:
        document = read_xml(path)
        if document.find("track") is not None:
            raise DataError(f"{path}: is of a video (CVAT for video); images are needed; export it as 'CVAT for images 1.1'")
        for element in document.iter("image"):
            _read_image(images, path, element)
    return list(images.samples())


def _documents(root: Path) -> list[Path]:
    paths = [path for path in sorted(root.glob("*.xml")) if path.is_file()]
    return [path for path in paths if "<annotations>" in head(path) or "<annotations " in head(path)]


def _read_image(images: AnnotatedImages, path: Path, element: Element) -> None:
    name, subset = element.get("name", ""), element.get("subset", "")
    parents = [images.root / "images", images.root, images.root / "data"]
    folders = [*(parent / subset for parent in parents if subset), *parents]
    file = images.find(path.name, name, folders)
    if file is None:
        return
    size = (element.get("width"), element.get("height"))
    annotated = images.open(file, path.name, size, published_split(subset, path.stem))
    if annotated is None:
        return
    counts: dict[str, int] = {}
    for shape in element:
        counts[shape.tag] = counts.get(shape.tag, 0) + 1
        _read_shape(annotated, f"image {shorten(name, 80)}, {shape.tag} {counts[shape.tag]}", shape)


def _read_shape(annotated: AnnotatedImage, where: str, shape: Element) -> None:
    label = shape.get("label", "")
    if shape.tag == "tag":
        annotated.tag(label)
    else:
        add_region(annotated, where, label, partial(_region, shape))


def _region(shape: Element, size: tuple[int, int]) -> dict[str, Any]:
    """Outline or box of a shape, as arguments of :meth:`AnnotatedImage.add`; raises ValueError if it is malformed."""
    get: Mapping[str, str] = shape.attrib
    angle = math.radians(numbers([get.get("rotation", "0")])[0])
    if shape.tag == "box":
        left, top, right, bottom = numbers(get.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return {"box": turned_box(left, top, right, bottom, angle)}
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in get.get("points", "").split(";")]
        return {"segmentation": [numbers(text for pair in pairs for text in pair)]}
    if shape.tag == "ellipse":
        x, y, width, height = numbers(get.get(key) for key in ("cx", "cy", "rx", "ry"))
        return {"segmentation": encode_ellipse((x, y), (width, height), angle, size)}
    if shape.tag == "mask":
        left, top, *sides = (int(value) for value in numbers(get.get(key) for key in ("left", "top", "width", "height")))
        runs = [int(value) for value in numbers(get.get("rle", "").split(","))]
        return {"segmentation": encode_bitmap(decode_runs(runs, *sides), left, top, size)}
    raise ValueError(no_region(shape.tag))
