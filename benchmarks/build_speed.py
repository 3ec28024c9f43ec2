"""Training and prediction speed of the build of adjobs that Python imports: one JSON line for each setting.

Called through ``builds.py``, for this build and for older ones, hence the imports that are tried one after the other. Images and
defects are drawn. An older build takes the steps of its loop, one operation after the other; this one uses its stage trainer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from timing import seconds_of

try:
    from adjobs.data.batches import TrainingData
    from adjobs.data.cache.images import ImageCache
    from adjobs.evaluation.evaluate import DeviceConfig
    from adjobs.training.stage_trainer import StageTrainer, WorkerContext
except ImportError:  # before the second edition
    from adjobs.data.loaders import TrainingData  # type: ignore[import-not-found, no-redef]

    from adjobs.data.cache import ImageCache  # type: ignore[attr-defined, no-redef]

    StageTrainer = None  # type: ignore[assignment, misc]
try:
    from adjobs.inference.engine_captured import CapturedEngine
except ImportError:
    CapturedEngine = None  # type: ignore[assignment, misc]

from adjobs import methods

N_NORMAL, N_ANOMALOUS = 160, 24
WARM_STEPS = 24  # until every layout of a batch has come three times, in one epoch or two


def drawn_data(size: int, device: torch.device, folder: Path) -> Any:
    """Textured squares, some with a spot as their defect, as the training split of a data set."""
    rng = np.random.default_rng(0)
    count = N_NORMAL + N_ANOMALOUS
    coarse = torch.from_numpy(rng.normal(size=(count, 3, 16, 16))).float()
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").permute(0, 2, 3, 1).numpy()
    # In memory as in the cache: NumPy takes images of an array in another order by copying all of it first.
    images = np.clip(128 + 24 * smooth + rng.normal(0, 8, (count, size, size, 1)), 0, 255).astype(np.uint8, order="C")
    labels = np.zeros((N_ANOMALOUS, size, size), np.uint8)
    for i, (y, x) in enumerate(rng.integers(0, size - size // 8, (N_ANOMALOUS, 2))):
        spot = slice(y, y + size // 8), slice(x, x + size // 8)
        labels[i][spot], images[N_NORMAL + i][spot] = 1, rng.integers(0, 256, 3)
    names = [f"{i:04d}" for i in range(count)]
    samples = [SimpleNamespace(id=name, label="anomalous" if i >= N_NORMAL else "normal") for i, name in enumerate(names)]
    rows, label_rows = {name: i for i, name in enumerate(names)}, {name: i for i, name in enumerate(names[N_NORMAL:])}
    cache = ImageCache(images, labels, rows, label_rows, folder)  # type: ignore[arg-type]
    data = TrainingData(cache, SimpleNamespace(samples=samples), names, device)  # type: ignore[arg-type]
    if hasattr(data, "packer"):
        data.packer.make_resident(0.25)
    return data


def steps_of(stage: Any, index: int, data: Any, device: torch.device, bf16: bool) -> Callable[[range], object]:
    """What takes the steps of a stage: this build's trainer, or the loop of an older one."""
    plan = data.plan(stage.mix, 1)
    if StageTrainer is not None:
        trainer = StageTrainer(stage, index, plan, WorkerContext(DeviceConfig(device, torch.bfloat16 if bf16 else None)), None)
        trainer.total = 10**9
        return lambda steps: trainer.train(steps, 1, lambda update: None, lambda: False)
    optimizer = stage.optimizer()
    stage.module.train()

    def take(steps: range) -> None:
        sums: dict[str, torch.Tensor] = {}
        for step in steps:
            batch = plan.batch(step, seed=0, stage=index, rank=0, device=device)
            torch.manual_seed(batch.generator.initial_seed())
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = stage.module(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.total.backward()
            if stage.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], stage.clip_norm)
            optimizer.step()
            for name, value in {"loss": loss.total.detach(), **loss[1]}.items():
                sums[name] = sums[name] + value if name in sums else value
        _ = [float(value) for value in sums.values()]

    return take


def profile(work: Callable[[], object], steps: int, device: torch.device) -> dict[str, float]:
    """Kernels, launches and waits for the device in a step, and the share of the time in which the device is busy."""
    if device.type != "cuda":
        return {}
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        seconds = seconds_of(work, device)
    kernels, busy, launches, waits = 0, 0.0, 0, 0
    for event in record.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kernels, busy = kernels + 1, busy + event.time_range.elapsed_us() / 1e6
        elif event.name in ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaGraphLaunch"):
            launches += 1
        elif event.name in ("cudaStreamSynchronize", "cudaDeviceSynchronize", "aten::_local_scalar_dense"):
            waits += 1
    return {"kernels": kernels / steps, "busy": busy / seconds, "launches": launches / steps, "waits": waits / steps}


def training_row(setting: dict[str, Any], device: torch.device, seconds: float) -> dict[str, Any]:
    """Images per second of a stage of a method, and its profile; seconds of what comes before its first step."""
    size = setting["size"]
    with tempfile.TemporaryDirectory() as folder:
        data, method = drawn_data(size, device, Path(folder)), build(setting, device)
        row: dict[str, Any] = {}
        for index, stage in enumerate(method.stages()):
            if stage.prepare is not None:
                row[f"{stage.name}_prepare_s"] = seconds_of(lambda stage=stage: stage.prepare(data), device)
            opened = getattr(stage, "on_stage_start", None) or getattr(stage, "attach", None)
            if opened is not None:
                opened(data)
            if stage.optimizer is None or stage.name != setting.get("stage", stage.name):
                continue
            row |= speed_of(steps_of(stage, index, data, device, setting["bf16"]), data.plan(stage.mix, 1), device, seconds)
            fit = getattr(stage, "fit_statistics", None) or getattr(stage, "calibrate", None)
            if fit is not None:
                row["fit_s"] = seconds_of(lambda fit=fit: fit(data), device)
            break  # what later stages prepare may take minutes
        return row | predictions(method, setting, device, seconds)


def speed_of(take: Callable[[range], object], plan: Any, device: torch.device, seconds: float) -> dict[str, float]:
    """Images per second of what takes steps, and the profile of a step."""
    # A processor is warm sooner, and takes seconds for a step of the larger networks.
    done, length = (WARM_STEPS, 16) if device.type == "cuda" else (2, 4)
    images, spent = 0, 0.0
    take(range(done))
    while spent < seconds:
        chunk = range(done, done + length)
        spent += seconds_of(lambda chunk=chunk: take(chunk), device)
        images, done = images + sum(plan.global_size(step) for step in chunk), done + length
    chunk = range(done, done + 8)
    return {"images_per_s": images / spent, **profile(lambda: take(chunk), 8, device)}


def predictions(method: Any, setting: dict[str, Any], device: torch.device, seconds: float) -> dict[str, float]:
    """Milliseconds per image from pixels on the device to score and map, for batches of 1 and 16."""
    method.eval()
    size, row = setting["size"], {}
    engine = None
    if CapturedEngine is not None and device.type == "cuda":
        from adjobs import devices

        capturer = devices.capturer(device)
        assert capturer is not None
        engine = CapturedEngine(method, size, DeviceConfig(device), capturer)
    for batch in (1, 16):
        pixels = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device=device)
        images = (pixels.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=torch.channels_last)

        def predict(pixels: torch.Tensor = pixels, images: torch.Tensor = images) -> None:
            with torch.inference_mode():
                score = (method.predict(images) if engine is None else engine.compute(pixels)).score
            float(score[0])

        for _ in range(4 if device.type == "cuda" else 1):
            predict()
        times: list[float] = []
        while sum(times) < seconds / 2 or len(times) < 3:
            times.append(seconds_of(predict, device))
        row[f"predict_ms_{batch}"] = 1000 * float(np.median(times)) / batch
    return row


def build(setting: dict[str, Any], device: torch.device) -> Any:
    """The method of a setting, with random weights."""
    loaded = methods.load(setting["method"])
    fields = loaded.config.model_fields
    params = {key: value for key, value in {"weights": "none", **setting["params"]}.items() if key in fields}
    method = loaded.build(loaded.config(**params), image_size=setting["size"], seed=0)
    return method.to(device).to(memory_format=torch.channels_last)


def main() -> None:
    """Measure the settings, given as JSON on standard input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    for setting in json.load(sys.stdin):
        with nullcontext() if device.type == "cpu" else torch.cuda.device(device):
            try:
                row = training_row(setting, device, arguments.seconds)
            except Exception as error:  # one setting that does not run must not cost the others
                row = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
        print(json.dumps({"name": setting["name"], **row}), flush=True)


if __name__ == "__main__":
    main()
