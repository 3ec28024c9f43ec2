"""A trained model outside training: a folder with the weights, and with everything that turns a picture into a decision.

The folder holds ``weights.safetensors`` and ``detector.json``. No pickle: loading a
model does not mean trusting the bucket it came from.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from adjobs import methods
from adjobs.data.images import RESIZE_RULE, load_rgb
from adjobs.errors import StorageError, one_line
from adjobs.evaluation.evaluate import DeviceConfig, evaluating, predict

FORMAT = 1
MANIFEST_FILE = "detector.json"


@dataclass(frozen=True)
class Manifest:
    """What ``detector.json`` says.

    Attributes:
        method: its name.
        params: its resolved parameters.
        map_floor: median of the map over good validation pixels, where heat maps begin; None for methods without maps.
        image_size: pictures are resized to this square, by ``resize_rule``.
        threshold: as :meth:`adjobs.metrics.threshold.Threshold.to_dict` gives it; ``value`` decides.
        data_fingerprint: of the data set that it was trained on.
        pixel_threshold: as :meth:`adjobs.metrics.pixel_threshold.PixelThreshold.to_dict` gives it; None for methods without maps.
        good_digest: of the good pictures that it was trained on, from
            :func:`adjobs.data.splits.assignment.normal_train_digest`; or None.
    """

    method: str
    params: dict[str, Any]
    image_size: int
    threshold: dict[str, Any]
    data_fingerprint: str
    map_floor: float | None = None
    pixel_threshold: dict[str, Any] | None = None
    normal_train_digest: str | None = None
    resize_rule: str = RESIZE_RULE
    format: int = FORMAT


class Detection(NamedTuple):
    """What is found on B images.

    Attributes:
        scores: ``(B,)`` float64.
        decisions: ``(B,)`` bool, True for an alarm.
        maps: ``(B, H, W)`` float32, or None for methods that locate nothing.
        marked: ``(B, H, W)`` bool, pixels that reach the pixel threshold, whatever is decided on the image; None without maps or
            without a pixel threshold.
    """

    scores: np.ndarray
    decisions: np.ndarray
    maps: np.ndarray | None
    marked: np.ndarray | None


def save(folder: Path, method: nn.Module, manifest: Manifest) -> None:
    """Write a detector's folder; the manifest last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: tensor.detach().cpu().contiguous() for key, tensor in method.state_dict().items()},
        folder / "weights.safetensors",
    )
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write or replace what a detector's folder says of its weights."""
    (folder / MANIFEST_FILE).write_text(json.dumps(asdict(manifest), indent=2))


def read_manifest(folder: Path) -> Manifest:
    """What a detector's folder says of its weights.

    Raises:
        StorageError: the folder holds no detector, or one of another format.
    """
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST_FILE).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(folder, error) from error
    if manifest.format != FORMAT or manifest.resize_rule != RESIZE_RULE:
        raise StorageError(
            f"detector {folder}: format {manifest.format}, resize rule {manifest.resize_rule}; this version reads format "
            f"{FORMAT}, {RESIZE_RULE}; use the adjobs version that trained it"
        )
    return manifest


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state of a detector's method, by name.

    Raises:
        StorageError: the folder holds no detector.
    """
    try:
        return dict(load_file(folder / "weights.safetensors"))
    except (OSError, ValueError, SafetensorError) as error:
        raise _unreadable(folder, error) from error


class Detector:
    """A loaded detector.

    Attributes:
        method: with its weights, on the runner's device.
        runner: where it runs.
        manifest: what its folder said.
    """

    def __init__(self, method: nn.Module, manifest: Manifest, device: torch.device) -> None:
        self.method = method.to(device).to(memory_format=torch.channels_last).eval()
        self.runner = DeviceConfig(device)
        self.manifest = manifest

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read a folder that ``save`` wrote.

        Args:
            folder: the folder.
            device: ``auto`` (a GPU where there is one), or a torch device.

        Raises:
            StorageError: the folder holds no detector, or one of another format.
        """
        manifest, weights = read_manifest(folder), read_weights(folder)
        found = methods.load(manifest.method)
        # The weights are all here; nothing is to be downloaded only to be overwritten.
        offline = {"weights": "none"} if "weights" in found.config.model_fields else {}
        try:
            config = found.config(**{**manifest.params, **offline})
        except ValidationError as error:
            raise StorageError(
                f"detector {folder}: parameters that {manifest.method} does not have here ({one_line(error)[:120]}); "
                "use the adjobs version that trained it"
            ) from error
        method = found.build(config, image_size=manifest.image_size, seed=0)
        method.load_state_dict(weights)
        return cls(method, manifest, torch.device(_default_device() if device == "auto" else device))

    @property
    def threshold(self) -> float:
        """An image is called anomalous when its score is at least this."""
        return float(self.manifest.threshold["value"])

    @property
    def pixel_threshold(self) -> float | None:
        """A pixel is marked when its place in the map is at least this; None for methods without maps."""
        found = self.manifest.pixel_threshold
        return None if found is None else float(found["value"])

    def read(self, source: Path | bytes) -> np.ndarray:
        """Decode and resize a picture as in training: ``(S, S, 3)`` uint8.

        Raises:
            DataError: not a picture, truncated, or too large.
        """
        return load_rgb(source, self.manifest.image_size)

    def __call__(self, images: np.ndarray) -> Detection:
        """Detect on ``(B, S, S, 3)`` uint8 images as ``read`` gives them."""
        with evaluating(self.method):
            scores, maps, _ = predict(self.method, images, self.runner)
        marked = None if maps is None or self.pixel_threshold is None else maps >= self.pixel_threshold
        return Detection(scores, scores >= self.threshold, maps, marked)


def _unreadable(folder: Path, error: Exception) -> StorageError:
    return StorageError(f"detector {folder}: cannot be read ({one_line(error)}); give a run or model that adjobs logged")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
