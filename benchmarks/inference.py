"""Speed of predictions on a processor: PyTorch beside OpenVINO, method by method. Prints a table and keeps it in results/.

    python benchmarks/inference.py [--batch 1 16] [--seconds 20] [--anomalib]

Times are from uint8 pixels to score and map in memory. Weights and images are random: their values do not matter here. The
engines take turns call by call, so that other load on the machine slows all of them. With several threads it slows PyTorch most;
``taskset -c 0`` is fairer. ``--anomalib`` adds anomalib's PaDiM and PatchCore, which must be importable; both are converted
in the same way and timed in the same rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
from report import machine, table, write_result
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.evaluation.predictions import PredictionArrays
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine_contract import Engine
from adjobs.inference.engine_torch import TorchEngine
from adjobs.types import Prediction

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "cdo": ("cdo", {"weights": "none"}),
    "liac, one view": ("liac", {"weights": "none", "views": 1}),
    "liac": ("liac", {"weights": "none"}),
    "dpae": ("dpae", {"weights": "none"}),
    "slsg": ("slsg", {}),
    "semirest": ("semirest", {"weights": "none"}),
}
BACKBONE, PADIM_LEVELS, PATCHCORE_LEVELS = "tf_efficientnet_lite0", [1, 2, 3], [2, 3]
BANK = 2048  # vectors in memory banks, as of 200 images of 256 px at 1 %
PADIM_FEATURES, PADIM_IMAGES = 100, 8


class Peer(nn.Module):
    """A model of anomalib as a method; it takes normalised images."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, 3, 1, 1), 0.5))

    def predict(self, images: Tensor) -> Prediction:
        """Score and map of ``(B, 3, H, W)`` images in [0, 1]."""
        output = self.model((images - self.mean) / self.std)
        return Prediction(output.pred_score.reshape(-1), output.anomaly_map)


class Row(NamedTuple):
    """A method with its engines, the first of them PyTorch, and the billions of multiply-adds that an image takes."""

    name: str
    engines: dict[str, Engine]
    gmac: float


def build(case: str, size: int) -> Any:
    """A method with random weights."""
    name, params = CASES[case]
    loaded = methods.load(name)
    method = loaded.build(loaded.config(**params), image_size=size, seed=0)
    if name == "semirest":
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randn(BANK, method.config.feature_dim, generator=generator)
        method.memory.set_tokens(tokens, torch.zeros(BANK, dtype=torch.long))
    return method


def build_peers(size: int) -> Iterator[tuple[str, Peer]]:
    """PaDiM and PatchCore of anomalib, fitted to noise."""
    from anomalib.models.image.padim.torch_model import PadimModel
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    generator = torch.Generator().manual_seed(0)
    padim = PadimModel(BACKBONE, PADIM_LEVELS, pre_trained=False, n_features=PADIM_FEATURES)
    padim.train()
    padim(torch.randn(PADIM_IMAGES, 3, size, size, generator=generator))
    padim.fit()
    yield "anomalib PaDiM", Peer(padim).eval()
    patchcore = PatchcoreModel(PATCHCORE_LEVELS, BACKBONE, pre_trained=False)
    patchcore.train()
    patchcore(torch.randn(1, 3, size, size, generator=generator))
    patchcore.subsample_embedding(0.01)
    patchcore.memory_bank = torch.randn(BANK, patchcore.memory_bank.shape[1], generator=generator)
    yield "anomalib PatchCore", Peer(patchcore).eval()


def make_row(name: str, method: Any, size: int) -> Row:
    """All engines of a method."""
    from adjobs.inference.engine_openvino import OpenVINOEngine  # an optional package

    method = method.eval().to(memory_format=torch.channels_last)
    engines: dict[str, Engine] = {"PyTorch": TorchEngine(method, DeviceConfig(torch.device("cpu")))}
    for precision in ("f32", "bf16"):
        engines[precision] = OpenVINOEngine.of(method, size, precision)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        method.predict(torch.rand(1, 3, size, size))
    return Row(name, engines, counter.get_total_flops() / 2e9)


def product_speed(side: int = 1024) -> float:
    """Billions of multiply-adds per second in a float32 product of square matrices: about the most that this processor does."""
    a, b = torch.rand(2, side, side)
    medians = race({("product", ""): lambda: a @ b}, 2.0)
    return side**3 / 1e9 / medians["product", ""]


def race(calls: dict[tuple[str, str], Callable[[], object]], seconds: float) -> dict[tuple[str, str], float]:
    """Median seconds of each call, over rounds in which all of them take turns, after two rounds to warm up."""
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(2):
        for call in calls.values():
            call()
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end or len(next(iter(taken.values()))) < 5:
        for key, call in calls.items():
            started_at = time.perf_counter()
            call()
            taken[key].append(time.perf_counter() - started_at)
    return {key: float(np.median(values)) for key, values in taken.items()}


def difference(expected: PredictionArrays, actual: PredictionArrays) -> str:
    """Largest difference of score and of map, relative to the largest score and to the range of the maps."""
    score = np.abs(actual.score - expected.score).max() / np.abs(expected.score).max()
    if expected.anomaly_maps is None or actual.anomaly_maps is None:
        return f"{score:.0e}, –"
    return f"{score:.0e}, {np.abs(actual.anomaly_maps - expected.anomaly_maps).max() / np.ptp(expected.anomaly_maps):.0e}"


def speed_table(rows: list[Row], batch: int, size: int, seconds: float) -> str:
    """Milliseconds per image of all methods and engines, in common rounds."""
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    calls = {
        (row.name, key): (lambda engine=engine: engine.predict(images)) for row in rows for key, engine in row.engines.items()
    }
    medians = race(calls, seconds)
    lines = []
    for row in rows:
        reference, f32, bf16 = (1000 * medians[row.name, key] / batch for key in row.engines)
        speeds = [f"{reference:.1f}", f"{f32:.1f}", f"{reference / f32:.1f}", f"{bf16:.1f}", f"{reference / bf16:.1f}"]
        lines.append([row.name, f"{row.gmac:.1f}", *speeds])
    head = f"| batch {batch}, ms per image | GMAC | PyTorch | OpenVINO f32 | times faster | OpenVINO bf16 | times faster |"
    return table(head, lines)


def difference_table(rows: list[Row], size: int) -> str:
    """How far OpenVINO's predictions are from PyTorch's."""
    images = np.concatenate([drawn_images(size), np.random.default_rng(1).integers(0, 256, (4, size, size, 3), np.uint8)])
    lines = []
    for row in rows:
        reference, f32, bf16 = (engine.predict(images) for engine in row.engines.values())
        lines.append([row.name, difference(reference, f32), difference(reference, bf16)])
    return table("| largest difference: score, map | OpenVINO f32 | OpenVINO bf16 |", lines)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="batch sizes")
    parser.add_argument("--size", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each measurement, on average")
    parser.add_argument("--methods", nargs="+", choices=list(CASES), default=list(CASES), help="which methods")
    parser.add_argument("--anomalib", action="store_true", help="also time anomalib's models")
    parser.add_argument("--name", default="inference-cpu", help="of the page in results/")
    arguments = parser.parse_args()
    size = arguments.size
    named = [(case, build(case, size)) for case in arguments.methods]
    if arguments.anomalib:
        named += build_peers(size)
    started_at = time.perf_counter()
    rows = [make_row(name, method, size) for name, method in named]
    converting = (time.perf_counter() - started_at) / len(rows)
    about = f"{machine(torch.device('cpu'))}, openvino {version('openvino')}"
    about += f", anomalib {version('anomalib')}" if arguments.anomalib else ""
    write_result(
        arguments.name,
        "Predictions on a processor",
        about,
        [
            f"Images of {size} px. Medians over rounds in which all take turns. Converting takes {converting:.0f} s on average. "
            "GMAC: billions of multiply-adds in an image. "
            f"A float32 product of large matrices does {product_speed():.0f} of them a second.",
            *(speed_table(rows, batch, size, arguments.seconds) for batch in arguments.batch),
            difference_table(rows, size),
            "Differences of the score are relative to the largest score, those of the map to the range of its values.",
        ],
    )


if __name__ == "__main__":
    main()
