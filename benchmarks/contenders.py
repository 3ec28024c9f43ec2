"""Those who take part in accuracy.py: our methods, trained here, and anomalib's models, trained in their own environment."""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from neighbours.memory import peak_mib
from safetensors.torch import save_file
from torch import nn

from adjobs import methods
from adjobs.backbones import LEVELS, create
from adjobs.config.environment import load_settings
from adjobs.config.job import JobConfig
from adjobs.data.batches import TrainingData, to_float
from adjobs.data.cache.images import ImageCache, open_cache
from adjobs.data.checks.preflight import check_dataset, without_invalid
from adjobs.data.dataset import Dataset, fingerprint
from adjobs.data.open import open_dataset
from adjobs.data.splits.assignment import SplitAssignment, make_split
from adjobs.evaluation.evaluate import EVAL_BATCH, DeviceConfig, predict_split
from adjobs.evaluation.result import compute_image_metrics
from adjobs.training.device import resolve_precision
from adjobs.training.loop import FitResult, ProgressUpdate, Round, Validation, WorkerContext, fit
from adjobs.types import ImageScores, Prediction

NEIGHBOURS = {"patchcore": "anomalib PatchCore, coreset 1 %", "padim": "anomalib PaDiM"}


@dataclass(frozen=True)
class Data:
    """A data set, divided."""

    uri: str
    index: Dataset
    fingerprint: str
    split: SplitAssignment
    excluded: int

    def open(self, size: int) -> ImageCache:
        """The decoded pictures."""
        return open_cache(self.index, self.fingerprint, size, load_settings().cache)


class Answers(NamedTuple):
    """What a neighbour answers for the test part, and what it took."""

    method: str
    supervision: str
    scores: ImageScores
    ms_per_image: float
    seconds: float
    peak_mib: float


def look(uri: str, protocol: str, seed: int, k: int | None) -> Data:
    """Open a data set, leave out what ``adjobs data check_dataset`` complains of, and divide it."""
    index = open_dataset(uri, cache=load_settings().cache)
    problems = check_dataset(index, progress=True)
    usable = without_invalid(index, problems)
    excluded = len(index.samples) - len(usable.samples)
    return Data(uri, usable, fingerprint(usable), make_split(usable, protocol, max_train_anomalies=k, seed=seed), excluded)


class Aloud:
    """Says on standard error how far a training is."""

    def tick(self, tick: ProgressUpdate) -> None:
        """Too often to be said."""

    def round(self, finished: Round) -> None:
        """One line per round."""
        said = [
            f"{name} {value:.4g}"
            for name, value in finished.metrics.items()
            if name.endswith("loss") or name.startswith(("val/", "train/d_"))
        ]
        print(f"  round {finished.number}: {', '.join(said)}", file=sys.stderr)


class Nowhere:
    """Checkpoints that are not kept: a benchmark that is stopped begins anew."""

    def load(self) -> AbstractContextManager[None]:
        """There is none."""
        return nullcontext()

    def save(self, folder: Path | None, metrics: Mapping[str, float]) -> None:
        """Forget it."""


class Replay(nn.Module):
    """A method that answers with scores ``(N,)`` and maps ``(N, H, W)`` computed elsewhere, in their order."""

    def __init__(self, scores: np.ndarray, maps: np.ndarray) -> None:
        super().__init__()
        self.scores, self.maps, self.at = torch.from_numpy(scores), torch.from_numpy(maps), 0

    def predict(self, images: torch.Tensor) -> Prediction:
        """The next answers."""
        here = slice(self.at, self.at + len(images))
        self.at = here.stop
        return Prediction(self.scores[here], self.maps[here, None])


class Fitted(NamedTuple):
    """One of our methods, trained."""

    method: nn.Module
    cache: ImageCache
    training: TrainingData
    rounds: FitResult
    seconds: float
    device: torch.device


def fit_ours(job: JobConfig, data: Data, start: Mapping[str, torch.Tensor] | None = None) -> Fitted:
    """Train one of our methods, without MLflow and Ray; the checkpoint is chosen as a job chooses it.

    ``start`` is what another run has learnt, for methods that can begin with that.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache, spec = data.open(job.data.image_size), methods.spec(job.method)
    for seed in (random.seed, np.random.seed, torch.manual_seed):  # for code of others; ours draws from its own generators
        seed(job.train.seed)
    method = methods.load(job.method).build(job.method_config(), image_size=job.data.image_size, seed=job.train.seed)
    if start is not None:
        method.load_pretrained(start)  # type: ignore[operator]
    method.to(device).to(memory_format=torch.channels_last)

    def validate() -> Mapping[str, float | None]:
        seen = predict_split(method, cache, data.index, data.split.val, DeviceConfig(device))
        return compute_image_metrics(seen.scores, spec.native_threshold)

    training = TrainingData(cache, data.index, data.split.train, device, label_detail=job.label_detail, block=job.data.block_size)
    begin = time.perf_counter()
    rounds = fit(
        method,
        training,
        WorkerContext(resolve_precision(job.train.precision, device), seed=job.train.seed),
        # Where the last checkpoint becomes the model, validation only costs time.
        validation=Validation(spec.selection, validate if spec.selection.rule == "best" else None, job.train.validate_every),
        checkpoints=Nowhere(),
        listener=Aloud(),
    )
    return Fitted(method, cache, training, rounds, time.perf_counter() - begin, device)


def latency(method: nn.Module, size: int, batch: int, device: torch.device, times: int = 5) -> float:
    """Median milliseconds per image over some batches after the first, from floats in memory to score and map."""
    images, taken = torch.rand(batch, 3, size, size, device=device), []
    method.eval()
    for _ in range(times + 1):
        begin = time.perf_counter()
        float(method.predict(images).score[0])  # type: ignore[operator]  # waits for the device
        taken.append(1000 * (time.perf_counter() - begin) / batch)
    return float(np.median(taken[1:]))


def peak_memory(device: torch.device) -> float:
    """Peak of the GPU, or of this process, in MiB."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_mib()


def learnt(normal: int, anomalous: int = 0) -> str:
    """What a method learns from, in words."""
    return f"{normal} normal" + (f" + {anomalous} anomalous" if anomalous else "")


def write_exchange(folder: Path, data: Data, arguments: argparse.Namespace) -> int:
    """What the neighbours may see; returns the number of training images."""
    cache, labels = data.open(arguments.size), {sample.id: sample.label for sample in data.index.samples}
    train = [cache.index_of[name] for name in data.split.train if labels[name] == "normal"]
    np.save(folder / "train.npy", cache.images[train])
    np.save(folder / "test.npy", cache.images[[cache.index_of[name] for name in data.split.test]])
    levels = {"patchcore": arguments.patchcore_levels, "padim": arguments.padim_levels}
    backbone = create(arguments.backbone, levels=max(map(max, levels.values()))).eval()
    save_file(
        {key: tensor.contiguous() for key, tensor in backbone.features.state_dict().items()}, folder / "weights.safetensors"
    )
    with torch.inference_mode():
        features = backbone(to_float(cache.images[train[:1]], torch.device("cpu")))
    maps = dict(zip(LEVELS, features, strict=False))  # as many as are used
    np.savez(folder / "probe.npz", **{str(level): map_.numpy() for level, map_ in maps.items()})
    channels = sum(maps[level].shape[1] for level in levels["padim"])
    document = {
        "backbone": arguments.backbone,
        "levels": levels,
        "padim_features": arguments.padim_features or channels,
        "coreset": 0.01,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
        "batch": EVAL_BATCH,
        "seed": arguments.seed,
    }
    (folder / "settings.json").write_text(json.dumps(document))
    return len(train)


def digest(folder: Path) -> str:
    """Sha256 of what the neighbours are asked: answers to another question are not taken."""
    total = hashlib.sha256()
    for name in ("settings.json", "train.npy", "test.npy", "weights.safetensors"):
        total.update((folder / name).read_bytes())
    return total.hexdigest()


def run_neighbours(data: Data, folder: Path, arguments: argparse.Namespace) -> Iterator[Answers]:
    """Have anomalib's environment train and score, and read its answers; question and answers stay in ``folder``."""
    program = Path(__file__).with_name("neighbours") / "anomalib_scores.py"
    folder.mkdir(parents=True, exist_ok=True)
    normal = write_exchange(folder, data, arguments)
    question = digest(folder)
    for name in arguments.neighbours:
        print(f"{data.index.format}: {NEIGHBOURS[name]}", file=sys.stderr)
        asked = folder / f"{name}.question"
        if not asked.exists() or asked.read_text() != question:
            command = [arguments.anomalib_python, "-W", "ignore", str(program), str(folder), "--model", name]
            subprocess.run(command, check_dataset=True)
            asked.write_text(question)
        with np.load(folder / f"{name}.npz") as found:
            replay = Replay(found["scores"], found["maps"])
            costs = [float(found[key]) for key in ("ms_per_image", "train_seconds", "peak_mib")]
        cache = data.open(arguments.size)
        scores = predict_split(replay, cache, data.index, data.split.test, DeviceConfig(torch.device("cpu"))).scores
        yield Answers(NEIGHBOURS[name], learnt(normal), scores, costs[0], costs[1], costs[2])
