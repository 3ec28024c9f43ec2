"""Every method through the loop: workers that agree, and a resume that repeats it exactly."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from adjobs import methods
from adjobs.data import packing
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import BatchComposition, Selection, Stage
from adjobs.nn.distributed import broadcast_buffers
from adjobs.nn.norm import synchronise_batch_norm
from adjobs.training import stage_trainer
from adjobs.training.loop import FitResult, Validation, fit
from adjobs.training.stage_trainer import WorkerContext, train_only
from tests.helpers.drawing import draw_folder
from tests.helpers.folders import delete_unless_failed
from tests.helpers.tiny import DETERMINISTIC, drawn_data, tiny_method
from tests.training.test_loop import CPU, Checkpoints, KilledError, RecordingCallback, train

pytestmark = pytest.mark.slow

# Every method as it is; one whose buffer grows when it is fitted; one with a distance beside its network; one that refines with
# boxes without what it draws at random there, and with guesses that count at once.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in methods.names()},
    "cdo, nearest": ("cdo", {"distance": "nearest"}),
    "slsg, combined": ("slsg", {"pretrain": "backbone"}),
    "semirest with boxes": (
        "semirest",
        {"supervision": "boxes", "refine_window_fraction": 1, "token_dropout": 0, "ramp_up_steps": 1},
    ),
}


def open_stage(stage: Stage, method: nn.Module, data, rank: int) -> None:
    """What the loop does before the first step, with machines that compute differently."""
    if stage.prepare is not None:
        stage.prepare(data)
        if rank:
            for buffer in method.buffers():
                buffer.add_(1)
        broadcast_buffers(method)
    if stage.on_stage_start is not None:
        stage.on_stage_start(data)


def like(mix: BatchComposition) -> BatchComposition:
    """Eight images of the kinds that a stage wants, labelled anomalies for simulated ones, which differ between workers."""
    if mix.all_labels:
        return BatchComposition(all_labels=8)
    return BatchComposition(normal=4, anomalous=4) if mix.simulated or mix.anomalous else BatchComposition(normal=8)


def three_steps(rank: int, world_size: int, case: str, root: str, out: str) -> None:
    """Three steps of each stage, on one of ``world`` workers, of a method without random draws, which differ between workers.

    In float64: Adam divides gradients by their size, so that float32 rounding of a gradient near zero moves its weight by up to
    the learning rate.
    """
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group("gloo", init_method=f"file://{out}.meeting", rank=rank, world_size=world_size)
    name, params = CASES[case]
    _, data = drawn_data(Path(root) / "d", Path(root) / "cache", 32, label_detail=params.get("supervision", "full"))
    still = {key: value for key, value in DETERMINISTIC.items() if key in methods.config_class(name).model_fields}
    method = tiny_method(name, 32, **still, **params)
    method.double()
    losses = []
    for number, stage in enumerate(method.stages()):
        open_stage(stage, method, data, rank)
        if stage.optimizer is None:
            continue
        plan = data.plan(like(stage.mix), world_size)
        optimizer = stage.optimizer()
        train_only(stage.module, optimizer)
        module = stage.module
        if world_size > 1:
            module = nn.parallel.DistributedDataParallel(synchronise_batch_norm(module, CPU), broadcast_buffers=False)
        module.train()
        for step in range(3):
            batch = plan.batch(step, seed=0, stage=number, rank=rank, device=CPU)
            loss = module(batch._replace(images=batch.images.double()))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            losses.append(float(loss.total.detach()))
        if stage.fit_statistics is not None:
            stage.fit_statistics(data)
            broadcast_buffers(method)
    if rank == 0:
        torch.save({"losses": losses, "weights": method.state_dict()}, out)
    if world_size > 1:
        dist.destroy_process_group()


def every_case(rank: int, root: str) -> None:
    """Three steps of every case as one of two workers, then a whole training; starting processes takes longer than they do."""
    for case in CASES:
        three_steps(rank, 2, case, root, f"{root}/{case}-two")
    for case in CASES:
        with_changing_workers(rank, case, Path(root))


def with_changing_workers(rank: int, case: str, root: Path) -> None:
    """A training by two workers, and one by two, then the first alone, then two again, each from the other's checkpoint."""
    two = WorkerContext(DeviceConfig(CPU), rank, 2, max_world_size=2)
    alone = WorkerContext(DeviceConfig(CPU), max_world_size=2)
    undisturbed = train_some_intervals(two, case, root, "undisturbed", None)
    train_some_intervals(two, case, root, "changing", 1)
    if rank == 0:
        train_some_intervals(alone, case, root, "changing", 1)
    changing = train_some_intervals(two, case, root, "changing", None)
    if rank == 0:
        torch.save({"undisturbed": undisturbed, "changing": changing}, root / f"{case}-states")


def train_some_intervals(worker: WorkerContext, case: str, root: Path, name: str, intervals: int | None) -> dict[str, Any]:
    """Train from the last checkpoint under a name, some intervals or to the end, without random draws and in float64."""
    if worker.world_size > 1:
        meeting = f"file://{root}/{case}-{name}-{intervals}.meeting"
        dist.init_process_group("gloo", init_method=meeting, rank=worker.rank, world_size=worker.world_size)
    method_name, params = CASES[case]
    _, data = drawn_data(root / "d", root / "cache", 32, label_detail=params.get("supervision", "full"))
    fields = methods.config_class(method_name).model_fields
    of_three_intervals = {"epochs": 3, "steps": 6}
    still = {key: value for key, value in (DETERMINISTIC | of_three_intervals).items() if key in fields}
    method = tiny_method(method_name, 32, **still, **params).double()
    stages = method.stages
    method.stages = lambda: [replace(stage, mix=like(stage.mix)) if stage.optimizer else stage for stage in stages()]
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KilledError):
        scale = packing.scale
        patch.setattr(packing, "scale", lambda images: scale(images).double())
        patch.setattr(stage_trainer, "INTERVAL_STEPS", 2)
        fit(
            method,
            data,
            worker,
            validation=Validation(Selection("last", "image_auroc"), None),
            checkpoints=Checkpoints(root / f"{case}-{name}", intervals),
            callback=RecordingCallback(),
        )
    if worker.world_size > 1:
        dist.destroy_process_group()
    return method.state_dict()


@pytest.fixture(scope="module")
def of_two_workers(tmp_path_factory, request) -> Iterator[Path]:
    """Drawn data, and beside them what two workers made of every case."""
    root = tmp_path_factory.mktemp("workers")
    draw_folder(root / "d", 16, 8)
    drawn_data(root / "d", root / "cache", 32)
    multiprocessing.spawn(every_case, (str(root),), nprocs=2)
    yield root
    delete_unless_failed(root, request)


@pytest.mark.parametrize("case", CASES)
def test_fit_two_workers_equal_one_with_the_same_global_batch(case, of_two_workers):
    """Batch normalisation included; every statistic is that of the global batch."""
    threads = torch.get_num_threads()
    three_steps(0, 1, case, str(of_two_workers), str(of_two_workers / f"{case}-one"))
    torch.set_num_threads(threads)
    one, two = (torch.load(of_two_workers / f"{case}-{workers}", weights_only=True) for workers in ("one", "two"))
    torch.testing.assert_close(torch.tensor(one["losses"]), torch.tensor(two["losses"]), rtol=0, atol=1e-5)
    for key, value in one["weights"].items():
        torch.testing.assert_close(value, two["weights"][key], rtol=0, atol=1e-5, msg=key)


@pytest.mark.parametrize("case", CASES)
def test_fit_two_workers_then_one_then_two_equal_two_throughout(case, of_two_workers):
    """Up to rounding: inside stages and between them, with statistics, preparations and the optimizer's state."""
    states = torch.load(of_two_workers / f"{case}-states", weights_only=True)
    for key, value in states["undisturbed"].items():
        torch.testing.assert_close(states["changing"][key], value, rtol=0, atol=1e-5, msg=key)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *((name, {}) for name in methods.names()),
        ("semirest", {"supervision": "boxes"}),
        ("cdo", {"distance": "euclidean"}),
        ("slsg", {"pretrain": "backbone"}),
    ],
)
def test_fit_resumed_from_any_checkpoint_repeats_every_method_exactly(name, params, folder_root, tmp_path, monkeypatch):
    """Inside stages and between them, with batch normalisation and the optimizer's state."""
    monkeypatch.setattr(stage_trainer, "INTERVAL_STEPS", 2)
    _, data = drawn_data(folder_root, tmp_path / "cache", size=32, label_detail=params.get("supervision", "full"))
    initial = tiny_method(name, 32, **params)
    undisturbed = copy.deepcopy(initial)
    result, _ = train(undisturbed, data, tmp_path / "undisturbed")
    assert result.checkpoints > 1
    for after in range(1, result.checkpoints):
        killed, resumed = copy.deepcopy(initial), copy.deepcopy(initial)
        with pytest.raises(KilledError):
            train(killed, data, tmp_path / f"killed-{after}", after=after)
        train(resumed, data, tmp_path / f"killed-{after}")
        for key, value in undisturbed.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[key]), (after, key)


@pytest.mark.parametrize(("name", "params"), [("dpae", {}), ("cdo", {})])
def test_fit_best_checkpoint_comes_back_with_its_statistics(name, params, folder_root, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_trainer, "INTERVAL_STEPS", 2)
    _, data = drawn_data(folder_root, tmp_path / "cache", size=32)
    initial = tiny_method(name, 32, **params)

    def train_to_the_end(method: nn.Module, folder: str, after: int | None = None) -> FitResult:
        def distance_from_the_start() -> dict[str, float]:
            """Early checkpoints are the best."""
            moved = sum(
                float((p - q).detach().abs().sum()) for p, q in zip(method.parameters(), initial.parameters(), strict=True)
            )
            return {"image_auroc": 1 / (1 + moved)}

        best = Validation(Selection("best", "image_auroc"), distance_from_the_start)
        return train(method, data, tmp_path / folder, after=after, validation=best)[0]

    undisturbed, killed, resumed = (copy.deepcopy(initial) for _ in range(3))
    result = train_to_the_end(undisturbed, "undisturbed")
    assert result.selected_checkpoint == 1 < result.checkpoints
    with pytest.raises(KilledError):
        train_to_the_end(killed, "killed", after=1)
    train_to_the_end(resumed, "killed")
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    refitted = copy.deepcopy(undisturbed)
    refitted.stages()[-1].fit_statistics(data)
    for key, value in refitted.state_dict().items():
        torch.testing.assert_close(value, undisturbed.state_dict()[key], msg=key)
