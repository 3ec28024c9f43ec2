"""Captured steps do what each step would have done by itself: the same weights, bit for bit."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from adjobs import devices, methods
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Selection
from adjobs.training import stage_trainer
from adjobs.training.loop import Validation, fit
from adjobs.training.optimizers import capturable, set_learning_rates, use_fused
from adjobs.training.stage_trainer import WorkerContext
from tests.helpers.recorded import RecordingCapturer
from tests.helpers.tiny import drawn_data, tiny_method
from tests.training.test_loop import CPU, Checkpoints, KilledError, RecordingCallback

# Long enough for repetitions of a captured step; one that refines with boxes too.
LONG = {"epochs": 4, "steps": 6, "pretrain_epochs": 4, "refine_steps": 6}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in methods.names()},
    "semirest with boxes": ("semirest", {"supervision": "boxes"}),
    "cdo with masks": ("cdo", {"use_labelled_masks": True}),
}


@pytest.fixture
def capturer(monkeypatch):
    """What captures work on a processor in place of CUDA graphs."""
    capturer = RecordingCapturer()
    monkeypatch.setattr(devices, "capturer", lambda device: capturer)
    return capturer


def build(case: str) -> nn.Module:
    """A small method."""
    name, params = CASES[case]
    fields = methods.config_class(name).model_fields
    return tiny_method(name, 32, **{key: value for key, value in LONG.items() if key in fields}, **params)


def train(case: str, root, folder, stop_after: int | None = None, **context: Any) -> dict[str, torch.Tensor]:
    """The state of a method after its training, or after so many checkpoints."""
    supervision = CASES[case][1].get("supervision", "full")
    data = drawn_data(root, folder / "cache", 32, label_detail=supervision)[1]
    method = build(case)
    with contextlib.suppress(KilledError):
        fit(
            method,
            data,
            WorkerContext(DeviceConfig(CPU), **context),
            validation=Validation(Selection("last", "image_auroc"), None),
            checkpoints=Checkpoints(folder / f"ck-{context}", stop_after),
            callback=RecordingCallback(),
        )
    return method.state_dict()


def assert_equal(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert [name for name in state if not torch.equal(state[name], other[name])] == []


@pytest.mark.parametrize("case", CASES)
def test_captured_steps_leave_the_same_state(case, folder_root, tmp_path, capturer, caplog):
    """Also after a resume in the middle of a stage, which captures its steps again."""
    captured = train(case, folder_root, tmp_path / "captured")
    trained = [stage for stage in build(case).stages() if stage.optimizer is not None]
    assert capturer.captures >= len(trained)
    assert not caplog.records
    capturer.captures = 0
    train(case, folder_root, tmp_path / "resumed", stop_after=2)
    assert_equal(train(case, folder_root, tmp_path / "resumed"), captured)
    capturer.refuses, capturer.captures = True, 0
    launched = train(case, folder_root, tmp_path / "launched")
    assert not capturer.captures
    assert_equal(launched, captured)


def test_steps_that_cannot_be_captured_are_launched_with_one_warning(folder_root, tmp_path, capturer, caplog):
    capturer.refuses = True
    launched = train("cdo", folder_root, tmp_path / "a")
    assert [record.getMessage() for record in caplog.records] == [
        "stage distil: its steps are not captured as a CUDA graph, which is slower: it was told so"
    ]
    capturer.refuses = False
    caplog.clear()

    def reads_a_value(self, batch):
        loss = forward(self, batch)
        float(loss.total)
        return loss

    method_class = type(build("cdo"))
    forward = method_class.forward
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method_class, "forward", reads_a_value)
        failed = train("cdo", folder_root, tmp_path / "b")
    (record,) = caplog.records
    assert "which is slower: operation not permitted when stream is capturing: aten._local_scalar_dense" in record.getMessage()
    assert_equal(failed, launched)


@pytest.mark.parametrize("context", [{"capture": False}, {"world_size": 2, "rank": 0}])
def test_steps_are_not_captured_where_that_is_off_or_several_workers_share_them(
    context, folder_root, tmp_path, capturer, monkeypatch
):
    monkeypatch.setattr(stage_trainer, "_distributed", lambda module, worker: module)
    train("cdo", folder_root, tmp_path, **context)
    assert not capturer.captures


def test_a_stage_that_does_not_say_so_is_not_captured(folder_root, tmp_path, capturer, monkeypatch):
    """A step of another distribution's method may keep a counter in Python."""
    method_class = type(build("cdo"))
    stages = method_class.stages
    monkeypatch.setattr(method_class, "stages", lambda self: [replace(stage, capturable=False) for stage in stages(self)])
    train("cdo", folder_root, tmp_path)
    assert not capturer.captures


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("captured", [False, True])
def test_fused_updates_agree_with_plain_ones_and_go_on_from_their_state(kind, captured):
    def steps(fused: bool, state: dict[str, Any] | None, count: int) -> tuple[torch.Tensor, dict[str, Any]]:
        weight = nn.Parameter(torch.linspace(-1, 1, 5) if state is None else state["weight"].clone())
        optimizer = kind([weight], lr=0.1, weight_decay=0.01, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        if state is not None:
            optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        if fused:
            use_fused(optimizer, CPU, captured=captured)
        for step in range(count):
            set_learning_rates(optimizer, [0.1 / (step + 1)])
            weight.grad = torch.cos(weight.detach())
            optimizer.step()
        return weight.detach().clone(), {"weight": weight.detach().clone(), "optimizer": optimizer.state_dict()}

    plain, plain_state = steps(False, None, 3)
    fused, fused_state = steps(True, None, 3)
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(steps(True, plain_state, 2)[0], steps(False, plain_state, 2)[0])
    torch.testing.assert_close(steps(True, fused_state, 2)[0], steps(True, plain_state, 2)[0])


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimizer_is_capturable_only_while_it_is_captured(kind):
    """Its state is loaded elsewhere, and steps that are not captured would warn."""
    optimizer = kind([nn.Parameter(torch.ones(2))], lr=0.1)
    before = optimizer.param_groups[0].get("capturable")
    with capturable(optimizer):
        assert optimizer.param_groups[0].get("capturable", True)
    assert optimizer.param_groups[0].get("capturable") == before
