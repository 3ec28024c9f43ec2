"""Predicting a folder as `adjobs predict` does, beside one image after the other. Prints a table and keeps it in results/.

    python benchmarks/predict_folder.py [--methods cdo liac] [--size 256] [--count 1000] [--one-by-one 100]

The images are drawn: trays of 512, 768 and 1024 px, PNG and JPEG by turns, with noise. The networks are not trained, which does
not change times; thresholds are quantiles of some images. Each measurement has a process of its own. One after the other means:
decode, network by PyTorch with a batch of one, draw every pixel of the overlay, compress as Pillow does by default; with all
threads of PyTorch, and with one, which is faster beside other work. ``predict`` takes OpenVINO where it is installed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from neighbours.memory import peak_mib
from PIL import Image
from report import machine, table, write_result

from adjobs import methods
from adjobs.data.images import load_rgb
from adjobs.data.packing import to_float
from adjobs.inference.detector_folder import save
from adjobs.inference.files import predict_files
from adjobs.inference.manifest import Manifest
from adjobs.inference.overlay import OUTLINE, outline, shrink
from adjobs.inference.torch_detector import TorchDetector, one_thread_per_network
from adjobs.methods.cdo.model import CDO
from adjobs.metrics.pixel_threshold import PixelThreshold
from adjobs.metrics.threshold import Threshold

SIDES = (512, 768, 1024)
SCENES = 7  # different trays of each size
FITTED = 64  # images, half of them for statistics, half for thresholds
WARM_UP = 4
HEAD = "| method | how | images | images/s | ms CPU/image | MiB after a tenth | MiB at most |"


class Speed(NamedTuple):
    """What a process measured, with the scores and decisions of its images."""

    images: int
    seconds: float
    cpu_seconds: float
    early_mib: float
    peak_mib: float
    scores: list[float]
    decisions: list[str]

    def row(self, method: str, how: str) -> list[str]:
        """Of the table."""
        per_image = 1000 * self.cpu_seconds / self.images
        memory = f"{self.early_mib:.0f}", f"{self.peak_mib:.0f}"
        return [method, how, str(self.images), f"{self.images / self.seconds:.2f}", f"{per_image:.0f}", *memory]


def draw_images(folder: Path, count: int) -> None:
    """Write trays, all different; every seventh has a scratch."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from scenes import TRAY, Scene, scratch

    rng, trays = np.random.default_rng(0), {}
    for index in range(count):
        key = SIDES[index % len(SIDES)], index % SCENES
        if key not in trays:
            trays[key] = Scene(rng, key[0]).draw(TRAY, None if key[1] else scratch(rng))
        shifted = np.roll(trays[key], tuple(rng.integers(-4, 5, 2)), (0, 1)).astype(np.int16)
        image = Image.fromarray(np.clip(shifted + rng.integers(-3, 4, shifted.shape, np.int16), 0, 255).astype(np.uint8))
        if index % 2:
            image.save(folder / f"{index:05}.png", compress_level=1)
        else:
            image.save(folder / f"{index:05}.jpg", quality=90)


def save_detector(folder: Path, name: str, size: int, paths: Sequence[Path]) -> None:
    """Write a detector that was not trained; a fifth of the images are anomalous, and 2 % of their pixels."""
    module = methods.load(name)
    config = module.config()
    method = module.build(config, image_size=size, seed=0).eval()
    batches = [np.stack([load_rgb(path, size) for path in paths[start : start + 8]]) for start in range(0, len(paths), 8)]
    images = [to_float(batch, torch.device("cpu")) for batch in batches]
    with torch.no_grad():
        if isinstance(method, CDO) and method.differences is not None:
            differences, pairs = method.differences, map(method.features, images[::2])
            normal = ((differences.reference(expert), apprentice) for expert, apprentice in pairs)
            differences.fit(normal, sum(map(len, images[::2])))
        predictions = [method.predict(batch) for batch in images[1::2]]
    image_value = float(torch.cat([prediction.score for prediction in predictions]).quantile(0.8))
    maps = [prediction.anomaly_map for prediction in predictions if prediction.anomaly_map is not None]
    pixel_value = float(np.quantile(torch.cat(maps).numpy(), 0.98)) if maps else 0.0
    pixels = PixelThreshold("fixed", pixel_value, pixel_value, 0, 0, None, 0, None, None, None, 0.95)
    manifest = Manifest(
        method=name,
        params=config.model_dump(),
        image_size=size,
        threshold=Threshold("fixed", image_value, image_value, 0, 0, 0, None, None, 0.95, 0),
        pixel_threshold=pixels if maps else None,
        map_floor=float(np.median(torch.cat(maps).numpy())) if maps else None,
        data_fingerprint="0" * 64,
    )
    save(folder, method, manifest)


def predict_one_by_one(detector: TorchDetector, paths: Sequence[Path], out: Path) -> Iterator[tuple[float, str]]:
    """Score and decision of one image after the other; overlays are written."""
    out.mkdir()
    for path in paths:
        decoded = detector.read_image(path)
        prediction = detector(decoded.image)
        if prediction.anomaly_map is not None:
            overlay = draw_every_pixel(detector, decoded.image, prediction.anomaly_map, prediction.region_mask)
            Image.fromarray(overlay).save(out / f"{path.stem}.png")
        yield prediction.score, prediction.decision


def draw_every_pixel(
    detector: TorchDetector, image: Image.Image, anomaly_map: np.ndarray, region_mask: np.ndarray | None
) -> np.ndarray:
    """An overlay without the shortcuts of :func:`adjobs.inference.overlay.draw_overlay`."""
    from matplotlib import colormaps

    shrunk = shrink(image)
    pixels = np.asarray(shrunk.convert("RGB"), dtype=np.float32)
    resized = np.asarray(Image.fromarray(anomaly_map).resize(shrunk.size, Image.Resampling.BILINEAR))
    floor, threshold = detector.manifest.map_floor or 0.0, detector.pixel_threshold or detector.threshold
    heat = np.clip((resized - floor) / (2 * max(threshold - floor, 1e-12)), 0, 1)
    alpha = np.clip((heat - 0.25) * 2, 0, 0.65)[..., None]
    mixed = (1 - alpha) * pixels + alpha * 255 * colormaps["inferno"](heat)[..., :3]
    if region_mask is not None:
        mixed[outline(region_mask, shrunk.size)] = OUTLINE
    return np.concatenate([pixels, mixed], axis=1).round().astype(np.uint8)


def measure_speed(folder: Path, paths: Sequence[Path], out: Path, ahead: bool, one_thread: bool) -> Speed:
    """Predict the files with the detector of a folder, after some to warm up."""
    detector = TorchDetector.load(folder, "cpu")
    list(predict_one_by_one(detector, paths[:WARM_UP], out / "warm-up"))
    early, results = 0.0, []
    started_at, cpu_started_at = time.perf_counter(), time.process_time()
    with detector.throughput_mode() if one_thread else nullcontext():
        lines = ((line["score"], line["decision"]) for line in predict_files(detector, paths, out / "ahead"))
        for result in lines if ahead else predict_one_by_one(detector, paths, out / "one-by-one"):
            results.append(result)
            early = early or (peak_mib() if len(results) >= len(paths) // 10 else 0.0)
    seconds, cpu_seconds = time.perf_counter() - started_at, time.process_time() - cpu_started_at
    scores, decisions = map(list, zip(*results, strict=True))
    return Speed(len(results), seconds, cpu_seconds, early, peak_mib(), scores, decisions)


def in_own_process(folder: Path, paths: Sequence[Path], out: Path, *, ahead: bool, one_thread: bool) -> Speed:
    """Like :func:`measure_speed`, with a peak of memory of its own."""
    out.mkdir()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure_speed, folder, paths, out, ahead, one_thread).result()


def compare(single: Speed, ahead: Speed, single_out: Path, ahead_out: Path) -> str:
    """How far scores, decisions and overlays of the images that both have predicted agree."""
    expected, actual = np.array(single.scores), np.array(ahead.scores[: single.images])
    difference = float(np.max(np.abs(actual - expected) / np.abs(expected)))
    decisions = sum(a == b for a, b in zip(single.decisions, ahead.decisions, strict=False))
    names = sorted(file.name for file in single_out.glob("*.png"))
    overlays = ""
    if names:
        pixels = np.concatenate([_differences(single_out / name, ahead_out / name) for name in names])
        sizes = [sum((folder / name).stat().st_size for name in names) for folder in (single_out, ahead_out)]
        overlays = (
            f"; of the {len(pixels)} pixels of overlays {np.count_nonzero(pixels)} differ, by {pixels.max()} of 255 at most; "
            f"files {sizes[1] / sizes[0] - 1:+.0%}"
        )
    return (
        f"relative difference of scores {difference:.1e} at most, decisions equal {decisions} of {single.images}{overlays}; "
        f"{ahead.images / ahead.seconds / (single.images / single.seconds):.1f} times as many images/s, "
        f"{single.cpu_seconds / single.images / (ahead.cpu_seconds / ahead.images):.1f} times as many per second of CPU"
    )


def _differences(first: Path, second: Path) -> np.ndarray:
    """Of each pixel of two overlays, the largest over the channels."""
    levels = [np.asarray(Image.open(path), dtype=np.int16) for path in (first, second)]
    return np.abs(levels[0] - levels[1]).max(2).ravel()


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["cdo", "liac"], help="their default parameters are used")
    parser.add_argument("--size", type=int, default=256, help="side of the detectors in pixels")
    parser.add_argument("--count", type=int, default=1000, help="number of images")
    parser.add_argument("--one-by-one", type=int, default=100, help="number of images that are predicted one after the other")
    parser.add_argument("--name", default="predict-folder", help="of the file in results/")
    arguments = parser.parse_args()
    rows, agreements = [], []
    with TemporaryDirectory() as temporary:
        root = Path(temporary)
        images = root / "images"
        images.mkdir()
        draw_images(images, arguments.count)
        paths = sorted(images.iterdir())
        for name in arguments.methods:
            with one_thread_per_network():
                save_detector(root / name, name, arguments.size, paths[:FITTED])
            outs = [root / f"{name}-{run}" for run in ("all", "one", "ahead")]
            few = paths[: arguments.one_by_one]
            ahead = in_own_process(root / name, paths, outs[2], ahead=True, one_thread=True)
            one = in_own_process(root / name, few, outs[1], ahead=False, one_thread=True)
            single = in_own_process(root / name, few, outs[0], ahead=False, one_thread=False)
            rows.append(single.row(name, "one after the other"))
            rows.append(one.row(name, "one after the other, one thread of PyTorch"))
            rows.append(ahead.row(name, "predict"))
            agreements.append(f"{name}: {compare(single, ahead, outs[0] / 'one-by-one', outs[2] / 'ahead')}.")
    about = f"{machine(torch.device('cpu'))}; detectors of {arguments.size} px, drawn images of 512 to 1024 px"
    write_result(arguments.name, "Predicting a folder", about, [table(HEAD, rows, left=2), *agreements])


if __name__ == "__main__":
    main()
