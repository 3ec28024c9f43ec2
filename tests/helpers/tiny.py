"""Every method, small enough to train in seconds. No method is named here: parameters are set if the method has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from adjobs import methods
from adjobs.data.batches import TrainingData
from adjobs.data.cache.images import open_cache
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.open import open_dataset
from adjobs.methods.method import Method
from adjobs.types import Batch

# Values of parameters, for the methods that have them. Random weights need no download.
SMALL: dict[str, Any] = {
    "weights": "none",
    "backbone": "resnet18",
    "width": 16,
    "latent": 16,
    "batch_size": 4,
    "epochs": 2,
    "lr": 1e-3,
    "steps": 4,
    "pretrain": "gpt",
    "pretrain_epochs": 2,
    "pretrain_batch_size": 4,
    "texture_count": 4,
    "feature_dim": 32,
    "coreset_ratio": 0.1,
    "embed_dim": 16,
    "heads": 2,
    "window": 4,
    "window_stride": 2,
    "attention_window": 2,
    "refine_steps": 4,
    "views": 1,
    "max_channels": 32,
    "distance": "mahalanobis",
}
# Values that leave nothing random in a training step.
DETERMINISTIC: dict[str, Any] = {
    "rectangles": 0,
    "flip": False,
    "flip_vertical": False,
    "mask_ratio": 0,
    "large_masks": 0,
    "jitter": 0,
    "window_fraction": 1,
    "noise_token_fraction": 0,
    "nearest_probability": 1,
    "two_nearest_probability": 1,
}

SIDE = 64  # of the images, in pixels
CPU = torch.device("cpu")


def tiny_method(name: str, side: int = SIDE, **params: Any) -> Method:
    """A small method, after everything that it computes from training images without gradients."""
    loaded = methods.load(name)
    method = loaded.build(loaded.config(**{**small_params(name), **params}), image_size=side, seed=0)
    warm_start = loaded.spec.warm_start
    is_warm = warm_start is not None and params.get(warm_start.param) is not None  # then all that it starts with is loaded later
    for stage in method.stages():
        if stage.optimizer is None:
            stage.prepare(RandomImages(side))
        if stage.fit_statistics is not None and not is_warm:
            stage.fit_statistics(RandomImages(side))
    return method


def small_params(name: str) -> dict[str, Any]:
    """Parameters of a small method."""
    fields = methods.config_class(name).model_fields
    params = {key: value for key, value in SMALL.items() if key in fields}
    return params | {"lr": max(params["lr"], fields["lr"].default)} if "lr" in params else params


def drawn_data(
    root: Path, cache: Path, size: int = SIDE, device: torch.device = CPU, **options: Any
) -> tuple[Dataset, TrainingData]:
    """All images of a folder as a training split."""
    dataset = open_dataset(str(root), cache=cache)
    images = open_cache(dataset, fingerprint(dataset), size, cache, progress=False)
    return dataset, TrainingData(images, dataset, [sample.id for sample in dataset.samples], device, **options)


class RandomImages:
    """A training split of noise."""

    n_normal, n_anomalous = 8, 4

    def __init__(self, side: int = SIDE) -> None:
        self.side = side

    def normal(self, size: int) -> Iterator[Batch]:
        """All of them in one batch, whatever the size."""
        batch = random_batch(self.n_normal, self.side)
        yield batch._replace(labels=torch.zeros_like(batch.labels), masks=torch.zeros_like(batch.masks))

    def anomalous(self, size: int) -> Iterator[Batch]:
        """The anomalous half of a random batch; a quarter of each image is unknown."""
        batch = random_batch(2 * self.n_anomalous, self.side, seed=1)
        batch.unknown[:, :, self.side // 2 :, self.side // 2 :] = True
        tensors = (tensor[self.n_anomalous :] for tensor in batch[:6])
        indices = self.n_normal + torch.arange(self.n_anomalous)
        yield Batch(*tensors, batch.generator, slice(0, 0))._replace(indices=indices)

    def compute_once(self, name: str, key: Mapping[str, Any], read: Callable[[Path], Any], build: Callable[[Path], None]) -> Any:
        """Built on every call; a memory map outlives its file's name."""
        with TemporaryDirectory() as folder:
            build(Path(folder))
            return read(Path(folder))


def random_batch(size: int = 4, side: int = SIDE, seed: int = 0) -> Batch:
    """Half normal images to simulate anomalies on, half anomalous images with a square mask."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(size, 1, side, side, dtype=torch.bool)
    masks[size // 2 :, :, side // 4 : side // 2, side // 4 : side // 2] = True
    labels = torch.arange(size) >= size // 2
    return Batch(
        torch.rand(size, 3, side, side, generator=generator),
        labels.long(),
        masks,
        torch.zeros_like(masks),
        ~labels,
        torch.arange(size),
        generator,
        slice(0, size // 2),
    )
