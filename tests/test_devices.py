"""On a real GPU: copies beside the computation, captured work and whole trainings give what they give without.

Where nothing says otherwise a difference of a thousandth is allowed: a GPU adds in an order of its own.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adjobs import devices, methods
from adjobs.data.prefetch import prefetch
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.inference.engine_captured import CapturedEngine
from adjobs.inference.engine_torch import TorchEngine
from adjobs.methods.contract import Selection
from adjobs.training.loop import Validation, fit
from adjobs.training.stage_trainer import WorkerContext
from tests.helpers.tiny import CPU, drawn_data, tiny_method
from tests.training.test_loop import Checkpoints, RecordingCallback

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = torch.device("cuda")
SIDE = 32
LONG = {"epochs": 4, "steps": 6, "pretrain_epochs": 4, "refine_steps": 6}  # enough for repetitions of a captured step
LOSS_TOLERANCE = 0.05  # relative; differences of rounding grow from step to step


def train(name: str, folder_root, folder, *, capture: bool, resident: bool) -> list[float]:
    """Losses of a short training on the GPU, interval by interval."""
    params = {key: value for key, value in LONG.items() if key in methods.config_class(name).model_fields}
    method = tiny_method(name, SIDE, **params).to(GPU).to(memory_format=torch.channels_last)
    data = drawn_data(folder_root, folder / "cache", SIDE, GPU)[1]
    if resident:
        assert data.packer.make_resident(0.25)
    callback = RecordingCallback()
    fit(
        method,
        data,
        WorkerContext(DeviceConfig(GPU), capture=capture),
        validation=Validation(Selection("last", "image_auroc"), None),
        checkpoints=Checkpoints(folder / f"{capture}-{resident}"),
        callback=callback,
    )
    return [value for result in callback.intervals for key, value in result.metrics.items() if key.endswith("loss")]


@pytest.mark.parametrize("resident", [False, True])
def test_prefetched_batches_are_those_of_the_processor(resident, folder_root, tmp_path):
    on_gpu, on_cpu = (drawn_data(folder_root, tmp_path / "cache", SIDE, device)[1] for device in (GPU, CPU))
    if resident:
        assert on_gpu.packer.make_resident(0.25)
    plans = [data.plan((0, 0, 8, 4), 1) for data in (on_gpu, on_cpu)]
    packed = prefetch(lambda step: plans[0].pack(step, seed=0, stage=0, rank=0), range(9), GPU)
    for step, on_device in packed:
        assert on_device.buffer.device.type == "cuda"
        expected = plans[1].batch(step, seed=0, stage=0, rank=0, device=CPU)
        batch = on_gpu.packer.unpack(on_device, torch.Generator(GPU))
        torch.testing.assert_close(batch.images.cpu().contiguous(), expected.images.contiguous())
        for field in ("labels", "masks", "unknown", "simulate"):
            assert torch.equal(getattr(batch, field).cpu(), getattr(expected, field)), field


@pytest.mark.parametrize("name", methods.names())
def test_captured_predictions_are_those_of_single_operations(name, caplog):
    method = tiny_method(name, SIDE).eval().to(GPU).to(memory_format=torch.channels_last)
    config = DeviceConfig(GPU)
    captured, launched = CapturedEngine(method, SIDE, config, devices.CudaGraphs(GPU)), TorchEngine(method, config)
    for count in (1, 2, 4, 19, 16, 1):
        images = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        predicted, expected = captured.predict(images), launched.predict(images)
        np.testing.assert_allclose(predicted.score, expected.score, rtol=1e-3)
        if expected.anomaly_maps is not None:
            scale = np.ptp(expected.anomaly_maps)
            np.testing.assert_allclose(predicted.anomaly_maps, expected.anomaly_maps, rtol=0, atol=1e-3 * scale)
    assert not caplog.records


@pytest.mark.parametrize("name", methods.names())
def test_captured_training_has_the_losses_of_single_operations(name, folder_root, tmp_path, caplog):
    """With images that are copied for each step, too."""
    launched = train(name, folder_root, tmp_path, capture=False, resident=False)
    assert launched
    for resident in (False, True):
        captured = train(name, folder_root, tmp_path, capture=True, resident=resident)
        np.testing.assert_allclose(captured, launched, rtol=LOSS_TOLERANCE)
    assert not caplog.records


def test_work_that_waits_for_the_gpu_is_named():
    value = torch.ones(1, device=GPU)

    def work() -> None:
        assert value.item() == 1

    reason = devices.CudaGraphs(GPU).warm_up(work)
    assert reason is not None
    assert "waits for the GPU" in reason
    assert "test_devices.py" in reason


def test_captured_work_draws_from_a_generator_as_it_is_seeded():
    generator, drawn = torch.Generator(GPU).manual_seed(0), torch.zeros(4, device=GPU)

    def work() -> None:
        drawn.copy_(torch.rand(4, generator=generator, device=GPU))

    capturer = devices.CudaGraphs(GPU)
    assert capturer.warm_up(work) is None
    graph = capturer.capture(work, [generator])
    results = []
    for seed in (1, 2, 1):
        generator.manual_seed(seed)
        graph.replay()
        results.append(drawn.clone())
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])
