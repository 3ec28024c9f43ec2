"""Exported models beside PyTorch on a processor: speed, differences and size. Prints tables and keeps them in results/.

    python benchmarks/exporting.py [--methods cdo "liac, one view"] [--size 256] [--seconds 10] [--name exporting]

Times are from uint8 pixels to score and map in memory, for one image of the detector's size, and for a camera's image that the
model resizes itself. Weights and images are random: their values do not matter here. The runtimes take turns call by call, so
that other load on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
import torch
from inference import CASES, build, difference, race
from PIL import Image
from report import machine, table, write_result

from adjobs.data.images import stretch
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.inference.drawn import drawn_images
from adjobs.inference.engine_exported import ExportedEngine
from adjobs.inference.engine_torch import TorchEngine
from adjobs.inference.export.export import FILES, save_model
from adjobs.inference.export.graph import make_network
from adjobs.inference.manifest import Manifest
from adjobs.metrics.threshold import Threshold

FORMATS = "onnx", "openvino"
NAMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
CAMERA = (1280, 1024)


class Case(NamedTuple):
    """A method with its exported models, for images of its size and of any size."""

    name: str
    torch: TorchEngine
    fixed: dict[str, ExportedEngine]
    free: dict[str, ExportedEngine]
    megabytes: dict[str, float]
    seconds: float


def make_case(name: str, size: int, folder: Path) -> Case:
    """Export a method with random weights in both formats."""
    method = build(name, size).eval().to(memory_format=torch.channels_last)
    threshold = Threshold("fixed", 0.5, 0.5, 0, 0, 0, None, None, 0.95, 0)
    params = method.config.model_dump(mode="json")
    manifest = Manifest(method=CASES[name][0], params=params, image_size=size, threshold=threshold, data_fingerprint="0" * 64)
    started_at = time.perf_counter()
    network = make_network(method, size)
    seconds = time.perf_counter() - started_at
    fixed, free, megabytes = {}, {}, {}
    for format in FORMATS:
        copy = onnx.ModelProto()
        copy.CopyFrom(network)
        place = folder / name.replace(", ", "-").replace(" ", "-") / format
        place.mkdir(parents=True)
        path = save_model(copy, manifest, format, place)
        megabytes[format] = sum((place / file).stat().st_size for file in FILES[format]) / 1e6
        fixed[format], free[format] = ExportedEngine(path, format, size), ExportedEngine(path, format, None)
    return Case(name, TorchEngine(method, DeviceConfig(torch.device("cpu"))), fixed, free, megabytes, seconds)


def speed_table(cases: list[Case], size: int, seconds: float) -> str:
    """Milliseconds of one image, in common rounds."""
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    calls = {}
    for case in cases:
        calls[case.name, "torch"] = lambda case=case: case.torch.predict(image)
        calls |= {(case.name, key): (lambda engine=engine: engine.predict(image)) for key, engine in case.fixed.items()}
    medians = race(calls, seconds)
    lines = []
    for case in cases:
        reference, *others = (1000 * medians[case.name, key] for key in ("torch", *FORMATS))
        lines.append(
            [case.name, f"{reference:.1f}", *(text for value in others for text in (f"{value:.1f}", f"{reference / value:.1f}"))]
        )
    return table(f"| one image of {size} px, ms | PyTorch | ONNX Runtime | times faster | OpenVINO | times faster |", lines)


def resize_table(cases: list[Case], size: int, seconds: float) -> str:
    """Milliseconds of one camera image: resized by Pillow before the model, or by the model."""
    camera = np.random.default_rng(0).integers(0, 256, (1, CAMERA[1], CAMERA[0], 3), np.uint8)
    calls = {}
    for case in cases:
        for key in FORMATS:
            calls[case.name, f"before {key}"] = lambda case=case, key=key: case.fixed[key].predict(
                stretch(Image.fromarray(camera[0]), size)[None]
            )
            calls[case.name, f"inside {key}"] = lambda case=case, key=key: case.free[key].predict(camera)
    medians = race(calls, seconds)
    lines = [
        [case.name, *(f"{1000 * medians[case.name, f'{where} {key}']:.1f}" for key in FORMATS for where in ("before", "inside"))]
        for case in cases
    ]
    names = " | ".join(f"{before}{NAMES[key]}" for key in FORMATS for before in ("Pillow, ", "inside "))
    return table(f"| one image of {CAMERA[0]} × {CAMERA[1]} px, ms: resized by | {names} |", lines)


def difference_table(cases: list[Case], size: int) -> str:
    """How far exported predictions are from PyTorch's, and how large the models are."""
    images = np.concatenate([drawn_images(size), np.random.default_rng(1).integers(0, 256, (4, size, size, 3), np.uint8)])
    lines = []
    for case in cases:
        expected = case.torch.predict(images)
        gaps = [difference(expected, case.fixed[key].predict(images)) for key in FORMATS]
        sizes = [f"{case.megabytes[key]:.0f}" for key in FORMATS]
        lines.append([case.name, *gaps, *sizes, f"{case.seconds:.0f}"])
    return table("| largest difference: score, map | ONNX Runtime | OpenVINO | MB, ONNX | MB, OpenVINO | s to convert |", lines)


def main() -> None:
    """Compare and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(CASES), default=list(CASES), help="which methods")
    parser.add_argument("--size", type=int, default=256, help="side of the detector's images in pixels")
    parser.add_argument("--seconds", type=float, default=10.0, help="duration of each comparison, on average")
    parser.add_argument("--name", default="exporting", help="of the page in results/")
    arguments = parser.parse_args()
    with TemporaryDirectory() as temporary:
        cases = [make_case(name, arguments.size, Path(temporary)) for name in arguments.methods]
        body = [
            "Medians over rounds in which all take turns.",
            speed_table(cases, arguments.size, arguments.seconds),
            resize_table(cases, arguments.size, arguments.seconds),
            difference_table(cases, arguments.size),
            "Differences of the score are relative to the largest score, those of the map to the range of its values.",
        ]
    packages = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "Pillow"))
    write_result(arguments.name, "Exported models on a processor", f"{machine(torch.device('cpu'))}, {packages}", body)


if __name__ == "__main__":
    main()
