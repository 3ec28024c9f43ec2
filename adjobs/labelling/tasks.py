"""Tasks for Label Studio: an image, why it is suggested, and what the detector says of it as a prediction to correct.

The names in the labelling configuration are those that :mod:`adjobs.data.formats.labelstudio` reads without options.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from adjobs.errors import DataError, StorageError
from adjobs.inference.regions import Region
from adjobs.labelling.images import ImageSource
from adjobs.labelling.suggest import Suggestion, SuggestResult
from adjobs.storage.base import atomic_write, disk_errors

IMAGE, CHOICE, BOX, BRUSH = "image", "label", "box", "brush"
"""Names of the image, and of what annotators set: the label of the image, boxes, brush strokes."""

NORMAL, ANOMALOUS, DEFECT = "normal", "anomalous", "defect"
"""The two choices, and the label of a region whose type of defect is not known."""

LOCAL_FILES = "/data/local-files/?d="
"""Starts the address of an image in Label Studio's own folder of files."""

MAX_DEFECTS = 50
"""Types of defects that are offered, the most frequent."""

BROWSER_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp"})
"""Images that browsers show."""


def label_config(defects: Sequence[str] = ()) -> str:
    """The labelling configuration, XML: one choice for the image, and boxes or brush strokes for defects of these types."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value="$reason", size="5")
    ElementTree.SubElement(view, "Image", name=IMAGE, value="$image", zoom="true", zoomControl="true")
    attributes = {"name": CHOICE, "toName": IMAGE, "choice": "single", "showInline": "true", "required": "true"}
    choices = ElementTree.SubElement(view, "Choices", attributes)
    for choice in (NORMAL, ANOMALOUS):
        ElementTree.SubElement(choices, "Choice", value=choice)
    for tag, name in (("RectangleLabels", BOX), ("BrushLabels", BRUSH)):
        labels = ElementTree.SubElement(view, tag, name=name, toName=IMAGE)
        for defect in dict.fromkeys([DEFECT, *defects[:MAX_DEFECTS]]):
            ElementTree.SubElement(labels, "Label", value=defect)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def missing_controls(config: str) -> list[str]:
    """What a project's labelling configuration lacks of what the tasks need, in words; empty if nothing."""
    if "<!DOCTYPE" in config:  # which may define entities that expand to any size
        return ["XML without a DOCTYPE"]
    try:
        view = ElementTree.fromstring(config)
    except ElementTree.ParseError:
        return ["valid XML"]
    controls = {_control(element) for element in view.iter()}
    values = {(parent.get("name"), child.get("value")) for parent in view.iter() for child in parent}
    needed = {
        f'<Image name="{IMAGE}" value="$image">': ("Image", IMAGE, None) in controls,
        f'<Choices name="{CHOICE}" toName="{IMAGE}">': ("Choices", CHOICE, IMAGE) in controls,
        f"the choice {NORMAL}": (CHOICE, NORMAL) in values,
        f"the choice {ANOMALOUS}": (CHOICE, ANOMALOUS) in values,
        f'<RectangleLabels name="{BOX}" toName="{IMAGE}">': ("RectangleLabels", BOX, IMAGE) in controls,
        f"the label {DEFECT} of {BOX}": (BOX, DEFECT) in values,
    }
    return [text for text, is_present in needed.items() if not is_present]


def local_address(path: Path, root: Path) -> str:
    """The address of a file that Label Studio reads itself.

    Args:
        path: the image.
        root: Label Studio's ``LOCAL_FILES_DOCUMENT_ROOT``, as this machine has it.

    Raises:
        DataError: the image is not in that folder.
    """
    absolute, folder = path.absolute(), root.absolute()
    if not absolute.is_relative_to(folder):
        raise DataError(f"{path}: is not in the image root {root}; give the folder that Label Studio serves files from")
    return LOCAL_FILES + quote(absolute.relative_to(folder).as_posix())


def make_task(suggestion: Suggestion, address: str, result: SuggestResult) -> dict[str, Any]:
    """The task of a suggestion; its prediction has the choice, and boxes on an image that was decided to be anomalous.

    Args:
        suggestion: the image.
        address: where Label Studio finds it.
        result: that the suggestion belongs to.
    """
    data = {
        "image": address,
        "name": suggestion.source.path.name,
        "sha256": suggestion.digest,
        "score": suggestion.score,
        "threshold": result.threshold,
        "reason": suggestion.reason,
    }
    number = suggestion.digest[:8]
    results = [_rectangle(region, suggestion.size, f"{number}-{i + 1}") for i, region in enumerate(suggestion.regions)]
    results.insert(0, _result(f"{number}-0", CHOICE, "choices", {"choices": [suggestion.decision]}))
    return {"data": data, "predictions": [{"model_version": result.model, "score": suggestion.score, "result": results}]}


def write_tasks(tasks: Sequence[dict[str, Any]], config: str, path: Path) -> Path:
    """Write the tasks, and beside them the labelling configuration, as ``.xml``; returns the path of the latter.

    Raises:
        StorageError: the files cannot be written.
    """
    config_path = path.with_suffix(".xml")
    for target, text in ((config_path, config), (path, json.dumps(list(tasks), indent=1, ensure_ascii=False) + "\n")):
        with disk_errors("write", target), atomic_write(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return config_path


def is_task_file(path: Path) -> bool:
    """Whether a file holds tasks that were written here."""
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
        return isinstance(tasks, list) and all(
            {"image", "sha256", "reason"} <= task["data"].keys() and "annotations" not in task for task in tasks
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def check_config_path(path: Path) -> None:
    """Refuse to replace a file that is not a labelling configuration.

    Raises:
        StorageError: there is such a file beside the tasks.
    """
    config_path = path.with_suffix(".xml")
    if config_path == path:
        raise StorageError(f"{path}: is the name of the labelling configuration; give a name that ends in .json with --out")
    with disk_errors("read", config_path):
        if config_path.exists() and missing_controls(config_path.read_text(encoding="utf-8", errors="replace")):
            raise StorageError(f"{config_path}: exists and is not a labelling configuration of adjobs; choose another --out")


def unshown(sources: Sequence[ImageSource]) -> list[ImageSource]:
    """Images that browsers do not show, such as TIFF."""
    return [source for source in sources if source.path.suffix.lower() not in BROWSER_SUFFIXES]


def _control(element: ElementTree.Element) -> tuple[str, str | None, str | None]:
    """Tag, name, and the name of the image that it is for; an image that shows something else has no name."""
    name = element.get("name") if element.tag != "Image" or element.get("value") == "$image" else None
    return element.tag, name, element.get("toName")


def _rectangle(region: Region, size: tuple[int, int], number: str) -> dict[str, Any]:
    width, height = size
    value = {
        "x": 100 * region.left / width,
        "y": 100 * region.top / height,
        "width": 100 * (region.right - region.left) / width,
        "height": 100 * (region.bottom - region.top) / height,
        "rotation": 0,
        "rectanglelabels": [DEFECT],
    }
    image = {"original_width": width, "original_height": height, "image_rotation": 0}
    return image | _result(number, BOX, "rectanglelabels", value)


def _result(number: str, name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "from_name": name, "to_name": IMAGE, "type": kind, "value": value}
