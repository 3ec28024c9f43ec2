"""What ``detector.json`` says: everything that turns an image into a decision, but the weights. Without PyTorch.

It is validated like a job: types, ranges, and no key that is not known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adjobs.data.image_reading import DEFAULT_READING, ImageReading
from adjobs.data.images import RESIZE_RULE
from adjobs.errors import StorageError, one_line, shorten, shown
from adjobs.inference.engine_contract import GraphFormat
from adjobs.methods.contract import ImageSize
from adjobs.metrics.pixel_threshold import PixelThreshold
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import Threshold
from adjobs.storage.base import atomic_write

FORMAT = 1
MANIFEST_FILE = "detector.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+[.][a-z]+$")]


class Agreement(BaseModel):
    """How an exported model was compared with PyTorch, on how many images.

    Attributes:
        images: that were compared.
        score_difference: largest difference of the score, relative to the largest score.
        map_difference: largest difference of a pixel of the anomaly map, at either size, relative to the range of the maps; None
            without maps.
        resized_score_difference: that of the score for images of their own size, which the model itself resizes.
        changed_decisions: images whose score is so near the threshold that rounding decides, and decides differently.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    images: int
    score_difference: float
    map_difference: float | None
    resized_score_difference: float
    changed_decisions: int


class Graph(BaseModel):
    """An exported model, in the place of weights.

    Attributes:
        format: which runtime computes it.
        files: their SHA-256 by name, the model's own first.
        agreement: with PyTorch, when it was exported.
        versions: of the packages that took part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: GraphFormat
    files: Annotated[dict[FileName, Digest], Field(min_length=1)]
    agreement: Agreement
    versions: dict[str, str]


class Manifest(BaseModel):
    """What ``detector.json`` says.

    Attributes:
        method: its name.
        params: its resolved parameters.
        image_size: images are resized to this square, by ``resize_rule``.
        threshold: of images; its ``value`` decides.
        data_fingerprint: of the data set that it was trained on.
        map_floor: median of the anomaly map over normal validation pixels, where heat maps start; None without anomaly maps.
        pixel_threshold: of pixels; None without anomaly maps.
        normal_train_digest: of the normal images that it was trained on, from
            :func:`adjobs.data.splits.assignment.normal_train_digest`; None where unknown.
        image_reading: how images of more than 8 bits are read.
        graph: of an exported detector, the model; None where the folder holds weights for PyTorch.
        resize_rule: see :mod:`adjobs.data.images`.
        format: of this file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    method: str
    params: dict[str, Any]
    image_size: ImageSize
    threshold: Threshold
    data_fingerprint: Digest
    map_floor: float | None = None
    pixel_threshold: PixelThreshold | None = None
    normal_train_digest: Digest | None = None
    image_reading: ImageReading = DEFAULT_READING
    graph: Graph | None = None
    resize_rule: str = RESIZE_RULE
    format: int = FORMAT

    @field_validator("threshold", "pixel_threshold")
    @classmethod
    def _check_policy(cls, threshold: Threshold | PixelThreshold | None) -> Threshold | PixelThreshold | None:
        fault = None if threshold is None else ThresholdPolicy(threshold.policy, threshold.requested).find_fault()
        if fault:
            raise ValueError(fault)
        return threshold


def is_detector(folder: Path) -> bool:
    """Whether a folder holds a detector, so far as its manifest is there."""
    try:
        return (folder / MANIFEST_FILE).is_file()
    except OSError:  # a name that is too long, which may be anything but a folder
        return False


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace what a detector's folder says of its weights."""
    with atomic_write(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2, allow_nan=False), encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """What a detector's folder says of its weights.

    Raises:
        StorageError: the folder holds no detector, one of another format, or one that was changed.
    """
    try:
        text = (folder / MANIFEST_FILE).read_text(encoding="utf-8")
        document = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(folder, error) from error
    if not isinstance(document, dict):
        raise damaged(folder, f"{MANIFEST_FILE} holds a {type(document).__name__}, must be a JSON object")
    stored_format, resize_rule = document.get("format"), document.get("resize_rule")
    # Before anything else: what another format holds is not for this version to validate.
    if (stored_format, resize_rule) != (FORMAT, RESIZE_RULE) or isinstance(stored_format, bool):
        raise StorageError(
            f"detector {folder}: format {shown(stored_format)}, resize rule {shown(resize_rule)}; this version reads "
            f"format {FORMAT}, {RESIZE_RULE}; use the adjobs version that trained it"
        )
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise damaged(folder, f"{MANIFEST_FILE}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """The first mistake: key, what was found, what is allowed."""
    first, more = error.errors()[0], error.error_count() - 1
    key = ".".join(map(str, first["loc"])) or "the document"
    reason = first["msg"].replace("Input should be", "must be")
    others = f" (and {more} more)" if more else ""
    if first["type"] == "missing":
        return f"{key} is missing{others}"
    return f"{key} is {shown(first['input'])}; {shorten(reason[:1].lower() + reason[1:])}{others}"


def unreadable(folder: Path, error: Exception) -> StorageError:
    """The error of a folder whose files cannot be read."""
    return StorageError(f"detector {folder}: cannot be read ({one_line(error)}); give a run or model that adjobs logged")


def damaged(folder: Path, reason: str) -> StorageError:
    """The error of a folder whose files are not what a detector is saved as."""
    return StorageError(f"detector {folder}: {reason}; restore the folder, or log the model again")
