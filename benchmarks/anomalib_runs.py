"""anomalib's models on the data of a benchmark, trained in their own environment by ``neighbours/anomalib_scores.py``."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from training import BenchmarkData, describe_training_images

from adjobs.backbones import LEVELS, create_backbone
from adjobs.data.packing import to_float
from adjobs.evaluation.evaluate import DeviceConfig, predict_split
from adjobs.evaluation.predictions import EVAL_BATCH
from adjobs.metrics.intervals import auroc_interval
from adjobs.types import ImageScores, Prediction

NEIGHBOURS = {"patchcore": "anomalib PatchCore, coreset 1 %", "padim": "anomalib PaDiM", "patchflow": "anomalib PatchFlow"}
PATCHFLOW_LEVELS = [2, 3, 4]  # anomalib's, not to be chosen


class NeighbourRun(NamedTuple):
    """The predictions of a neighbour for the test split, its image AUROC on the validation split, and what they cost."""

    method: str
    training_images: str
    val: float | None
    scores: ImageScores
    ms_per_image: float
    seconds: float
    peak_mib: float


class Replay(nn.Module):
    """A method that predicts scores ``(N,)`` and anomaly maps ``(N, H, W)`` that were computed elsewhere, in their order."""

    def __init__(self, scores: np.ndarray, maps: np.ndarray) -> None:
        super().__init__()
        self.scores, self.maps, self.position = torch.from_numpy(scores), torch.from_numpy(maps), 0

    def predict(self, images: torch.Tensor) -> Prediction:
        """The next predictions."""
        batch = slice(self.position, self.position + len(images))
        self.position = batch.stop
        return Prediction(self.scores[batch], self.maps[batch, None])


def run_neighbours(data: BenchmarkData, folder: Path, seed: int, arguments: argparse.Namespace) -> Iterator[NeighbourRun]:
    """Train and score in anomalib's environment, and read the predictions; input and output stay in ``folder``."""
    program = Path(__file__).with_name("neighbours") / "anomalib_scores.py"
    folder.mkdir(parents=True, exist_ok=True)
    n_normal = write_exchange(folder, data, seed, arguments)
    digest = digest_exchange(folder)
    for name in arguments.neighbours:
        print(f"{data.dataset.format}: {NEIGHBOURS[name]}", file=sys.stderr)
        digest_file = folder / f"{name}.digest"
        if not digest_file.exists() or digest_file.read_text() != digest:
            command = [arguments.anomalib_python, "-W", "ignore", str(program), str(folder), "--model", name]
            subprocess.run(command, check=True)
            digest_file.write_text(digest)
        with np.load(folder / f"{name}.npz") as arrays:
            replay = Replay(arrays["scores"], arrays["maps"])
            val = auroc_interval([label == "anomalous" for label in data.labels("val")], arrays["val_scores"]).value
            costs = [float(arrays[key]) for key in ("ms_per_image", "train_seconds", "peak_mib")]
        cache = data.open_cache(arguments.size)
        scores = predict_split(replay, cache, data.dataset, data.split.test, DeviceConfig(torch.device("cpu"))).scores
        yield NeighbourRun(NEIGHBOURS[name], describe_training_images(n_normal), val, scores, *costs)


def write_exchange(folder: Path, data: BenchmarkData, seed: int, arguments: argparse.Namespace) -> int:
    """Write what the neighbours may see; returns the number of training images."""
    cache, labels = data.open_cache(arguments.size), data.labels("train")
    train = [cache.index_of[name] for name, label in zip(data.split.train, labels, strict=True) if label == "normal"]
    np.save(folder / "train.npy", cache.images[train])
    for split in ("val", "test"):
        np.save(folder / f"{split}.npy", cache.images[[cache.index_of[name] for name in getattr(data.split, split)]])
    levels = {"patchcore": arguments.patchcore_levels, "padim": arguments.padim_levels, "patchflow": PATCHFLOW_LEVELS}
    backbone = create_backbone(arguments.backbone, levels=max(map(max, levels.values()))).eval()
    save_file(
        {key: tensor.contiguous() for key, tensor in backbone.features.state_dict().items()}, folder / "weights.safetensors"
    )
    with torch.inference_mode():
        features = backbone(to_float(cache.images[train[:1]], torch.device("cpu")))
    by_level = dict(zip(LEVELS, features, strict=False))  # as many as are used
    np.savez(folder / "probe.npz", **{str(level): values.numpy() for level, values in by_level.items()})
    channels = sum(by_level[level].shape[1] for level in levels["padim"])
    settings = {
        "backbone": arguments.backbone,
        "levels": levels,
        "padim_features": arguments.padim_features or channels,
        "coreset": 0.01,
        "patchflow_steps": arguments.patchflow_steps,
        "size": arguments.size,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
        "batch": EVAL_BATCH,
        "seed": seed,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return len(train)


def digest_exchange(folder: Path) -> str:
    """SHA-256 of the neighbours' input: predictions for other input are not used."""
    digest = hashlib.sha256()
    for name in ("settings.json", "train.npy", "val.npy", "test.npy", "weights.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
