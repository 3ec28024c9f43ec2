"""The folder of a detector: ``weights.safetensors``, and ``detector.json`` with everything that turns an image into a decision.

No pickle: loading a model does not mean trusting the bucket it came from. What the folder holds is validated like a job: types,
ranges, and the name, shape and type of every tensor, whose values must be finite.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adjobs import methods
from adjobs.data.image_reading import DEFAULT_READING, ImageReading
from adjobs.data.images import RESIZE_RULE
from adjobs.errors import AdjobsError, StorageError, one_line, shorten, shown
from adjobs.evaluation.evaluate import DIVERGED, ScoreError
from adjobs.methods.contract import ImageSize
from adjobs.methods.method import Method
from adjobs.metrics.pixel_threshold import PixelThreshold
from adjobs.metrics.policies import ThresholdPolicy
from adjobs.metrics.threshold import Threshold
from adjobs.storage.base import atomic_write

FORMAT = 1
MANIFEST_FILE = "detector.json"
WEIGHTS_FILE = "weights.safetensors"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


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
    resize_rule: str = RESIZE_RULE
    format: int = FORMAT

    @field_validator("threshold", "pixel_threshold")
    @classmethod
    def _check_policy(cls, threshold: Threshold | PixelThreshold | None) -> Threshold | PixelThreshold | None:
        fault = None if threshold is None else ThresholdPolicy(threshold.policy, threshold.requested).find_fault()
        if fault:
            raise ValueError(fault)
        return threshold


def save(folder: Path, method: Method, manifest: Manifest) -> None:
    """Write a detector's folder; the manifest last.

    Raises:
        ScoreError: the state holds a value that is not finite, so that the detector could not be loaded.
    """
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in method.state_dict().items()}
    invalid = _not_finite(state)
    if invalid:
        raise ScoreError(f"trained model: NaN or infinite values in {_enumerate(invalid)}; {DIVERGED}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS_FILE)
    write_manifest(folder, manifest)


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
        raise _unreadable(folder, error) from error
    if not isinstance(document, dict):
        raise _damaged(folder, f"{MANIFEST_FILE} holds a {type(document).__name__}, must be a JSON object")
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
        raise _damaged(folder, f"{MANIFEST_FILE}: {_first_fault(error)}") from error


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state of a detector's method, by name.

    Raises:
        StorageError: the folder holds no detector, or a value is not finite.
    """
    try:
        weights = dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    invalid = _not_finite(weights)
    if invalid:
        raise _damaged(folder, f"{WEIGHTS_FILE}: NaN or infinite values in {_enumerate(invalid)}")
    return weights


def load_method(folder: Path, manifest: Manifest) -> Method:
    """The method of a detector with its weights, on the CPU.

    Raises:
        StorageError: the method is not installed, has other parameters, or the weights are not its own.
    """
    weights = read_weights(folder)
    method = _build(folder, manifest)
    fault = _find_mismatch(method.state_dict(), weights)
    if fault:
        raise _damaged(folder, f"{WEIGHTS_FILE}: {fault}")
    try:
        method.load_state_dict(weights)
    except (RuntimeError, IndexError, ValueError) as error:  # shapes, which a method may choose by what is stored
        raise _damaged(folder, f"{WEIGHTS_FILE} does not fit the method ({one_line(error)})") from error
    for name, tensor in method.state_dict().items():
        if tensor.shape != weights[name].shape:  # torch takes the first number of a vector for a scalar
            stored = tuple(weights[name].shape)
            raise _damaged(
                folder, f"{WEIGHTS_FILE} does not fit the method ({name} has shape {stored}, must be {tuple(tensor.shape)})"
            )
    return method


def _build(folder: Path, manifest: Manifest) -> Method:
    try:
        loaded = methods.load(manifest.method)
        config = loaded.config(**{**manifest.params, **methods.without_pretrained_weights(manifest.method)})
        return loaded.build(config, image_size=manifest.image_size, seed=0)
    except ValidationError as error:
        raise StorageError(
            f"detector {folder}: parameters that {manifest.method} does not have here (params.{_first_fault(error)}); "
            "use the adjobs version that trained it"
        ) from error
    except (AdjobsError, RuntimeError, MemoryError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StorageError(
            f"detector {folder}: its method cannot be built ({one_line(error)}); use the adjobs version that trained it, and the "
            "packages that it had"
        ) from error


def _find_mismatch(expected: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> str | None:
    """How names and types differ from those of the method; None if they do not."""
    missing, unknown = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing:
        return f"no {_enumerate(missing)}"
    if unknown:
        return f"{_enumerate(unknown)}, which the method does not have"
    for name, tensor in expected.items():
        if weights[name].dtype != tensor.dtype:
            return f"{name} is {weights[name].dtype}, must be {tensor.dtype}"
    return None


def _not_finite(state: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the tensors with NaN or infinite values."""
    return [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]


def _first_fault(error: ValidationError) -> str:
    """The first mistake: key, what was found, what is allowed."""
    first, more = error.errors()[0], error.error_count() - 1
    key = ".".join(map(str, first["loc"])) or "the document"
    reason = first["msg"].replace("Input should be", "must be")
    others = f" (and {more} more)" if more else ""
    if first["type"] == "missing":
        return f"{key} is missing{others}"
    return f"{key} is {shown(first['input'])}; {shorten(reason[:1].lower() + reason[1:])}{others}"


def _enumerate(names: Iterable[str]) -> str:
    """The first name and the number of others."""
    first, *others = names
    return shorten(first, 120) + (f" (and {len(others)} more)" if others else "")


def _unreadable(folder: Path, error: Exception) -> StorageError:
    return StorageError(f"detector {folder}: cannot be read ({one_line(error)}); give a run or model that adjobs logged")


def _damaged(folder: Path, reason: str) -> StorageError:
    return StorageError(f"detector {folder}: {reason}; restore the folder, or log the model again")
