"""The loop on a small method of its own: stages, selection, exact resume."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from adjobs.errors import DataError, StorageError
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import BatchComposition, Selection, Stage
from adjobs.training import checkpoint
from adjobs.training.checkpoint import StoreCheckpoints
from adjobs.training.device import resolve_precision
from adjobs.training.loop import TrainingError, Validation, WorkerContext, fit
from adjobs.types import Batch, StepLoss
from tests.helpers.tiny import drawn_data

CPU = torch.device("cpu")


class TwoStages(nn.Module):
    """A stage of two epochs with preparation, then a stage of three steps: everything the loop has to handle."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 3)
        self.register_buffer("mean", torch.zeros(()))
        self.stage, self.scale = 0, 1.0

    def forward(self, batch: Batch) -> StepLoss:
        noise = torch.rand(batch.images.shape, generator=batch.generator)
        net = (self.first, self.second)[self.stage]
        loss = net(batch.images + noise - self.mean).square().mean() * self.scale
        return StepLoss(loss, {"half": loss.detach() / 2})

    def prepare(self, data) -> None:
        self.mean.copy_(torch.cat([batch.images for batch in data.normal(8)]).mean())

    def stages(self) -> Sequence[Stage]:
        def optimizer(number: int):
            def make():
                self.stage = number
                return torch.optim.AdamW((self.first, self.second)[number].parameters(), lr=1e-2)

            return make

        return [
            Stage(
                "a",
                self,
                optimizer(0),
                BatchComposition(simulated=8),
                epochs=2,
                schedule=lambda p: 0.5**p.epoch,
                prepare=self.prepare,
            ),
            Stage("b", self, optimizer(1), BatchComposition(all_labels=8), steps=3, clip_norm=1.0),
        ]


class Listener:
    def __init__(self) -> None:
        self.rounds, self.ticks = [], []

    def tick(self, tick) -> None:
        self.ticks.append(tick)

    def round(self, finished) -> None:
        self.rounds.append(finished)


class DiedError(Exception):
    pass


class Checkpoints(StoreCheckpoints):
    """Stores, and dies after a number of saves."""

    def __init__(self, root: Path, after: int | None = None) -> None:
        super().__init__(str(root))
        self.left = after

    def save(self, folder, metrics) -> None:
        super().save(folder, metrics)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise DiedError


@pytest.fixture
def data(folder_root, tmp_path):
    return drawn_data(folder_root, tmp_path / "cache", size=32)[1]


def train(method, data, root: Path, *, after=None, validation=None, seed=0):
    listener = Listener()
    trained = fit(
        method,
        data,
        WorkerContext(DeviceConfig(CPU), seed=seed),
        validation=validation or Validation(Selection("last", "image_auroc"), None),
        checkpoints=Checkpoints(root, after),
        listener=listener,
    )
    return trained, listener


def test_stages_follow_each_other_with_their_names_and_schedules(data, tmp_path):
    method = TwoStages()
    trained, listener = train(method, data, tmp_path / "ck")
    assert [r.number for r in listener.rounds] == [1, 2, 3]
    assert [r.metrics.get("train/a/lr") for r in listener.rounds] == [1e-2, 0.5e-2, None]
    assert listener.rounds[2].metrics["train/b/lr"] == 1e-2
    assert listener.rounds[0].metrics["train/a/half"] == pytest.approx(listener.rounds[0].metrics["train/a/loss"] / 2)
    assert method.mean > 0
    assert trained.selected_round == 3
    assert listener.ticks[-1].done == listener.ticks[-1].total == 3


@pytest.mark.parametrize("after", [1, 2])
def test_a_resumed_run_repeats_itself_exactly(data, tmp_path, after):
    whole, broken = TwoStages(), TwoStages()
    train(whole, data, tmp_path / "whole")
    with pytest.raises(DiedError):
        train(broken, data, tmp_path / "broken", after=after)
    resumed = TwoStages()
    trained, listener = train(resumed, data, tmp_path / "broken")
    assert [r.number for r in listener.rounds] == list(range(after + 1, 4))
    assert trained.selected_round == 3
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_another_seed_trains_another_model(data, tmp_path):
    one, other = TwoStages(), TwoStages()
    train(one, data, tmp_path / "one", seed=1)
    train(other, data, tmp_path / "other", seed=2)
    assert not torch.equal(one.first.weight, other.first.weight)


def test_what_does_not_fit_a_later_stage_is_said_before_any_work(data, tmp_path):
    class Demanding(TwoStages):
        def stages(self) -> Sequence[Stage]:
            first, second = super().stages()
            return [first, dataclasses.replace(second, mix=BatchComposition(all_labels=1), size_params=("size_of_b",))]

    with pytest.raises(DataError, match=r"a global batch has 1 images, .* a larger params.size_of_b"):
        train(Demanding(), data, tmp_path / "ck")
    assert not (tmp_path / "ck").exists()


def test_a_training_begins_once(data, tmp_path):
    began = []

    def go(**options) -> None:
        validation = Validation(Selection("last", "image_auroc"), None)
        fit(
            TwoStages(),
            data,
            WorkerContext(DeviceConfig(CPU)),
            validation=validation,
            listener=Listener(),
            begin=lambda: began.append(1),
            **options,
        )

    with pytest.raises(DiedError):
        go(checkpoints=Checkpoints(tmp_path / "ck", 1))
    go(checkpoints=Checkpoints(tmp_path / "ck"))
    assert began == [1]


class WithBank(TwoStages):
    """A gradient stage, then one that only prepares."""

    def stages(self) -> Sequence[Stage]:
        return [super().stages()[0], Stage("bank", self, None, prepare=self.fill)]

    def fill(self, data) -> None:
        self.mean.add_(1)


def test_a_stage_that_only_prepares_is_validated_and_stored_and_not_repeated(data, tmp_path):
    seen = []

    def validation(method) -> Validation:
        return Validation(Selection("last", "image_auroc"), lambda: seen.append(float(method.mean)) or {"image_auroc": 0.5})

    method = WithBank()
    with pytest.raises(DiedError):
        train(method, data, tmp_path / "ck", after=3, validation=validation(method))
    assert seen[-1] > 1  # the last validation saw the bank
    resumed = WithBank()
    trained, listener = train(resumed, data, tmp_path / "ck", validation=validation(resumed))
    assert listener.rounds == []
    assert trained.selected_round == 3
    assert torch.equal(resumed.mean, method.mean)


class Calibrating(TwoStages):
    """Counts the training images that scores would need, after every round that is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calibrated", torch.zeros(()))

    def stages(self) -> Sequence[Stage]:
        return [dataclasses.replace(stage, fit_statistics=self.fit_statistics) for stage in super().stages()]

    def fit_statistics(self, data) -> None:
        self.calibrated.add_(1)


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [1, 2])])
def test_what_scores_need_is_taken_before_each_validation_and_is_part_of_the_state(data, tmp_path, every, expected):
    seen = []

    def validation(method) -> Validation:
        return Validation(
            Selection("last", "image_auroc"), lambda: seen.append(int(method.calibrated)) or {"image_auroc": 0.5}, every
        )

    method = Calibrating()
    with pytest.raises(DiedError):
        train(method, data, tmp_path / "ck", after=2, validation=validation(method))
    resumed = Calibrating()
    train(resumed, data, tmp_path / "ck", validation=validation(resumed))
    assert seen == expected


def test_what_scores_need_is_taken_once_at_the_end_where_nothing_is_validated(data, tmp_path):
    method = Calibrating()
    train(method, data, tmp_path / "ck", validation=Validation(Selection("last", "image_auroc"), None))
    assert int(method.calibrated) == 1


def test_the_best_round_on_validation_is_selected_also_after_a_resume(data, tmp_path):
    values = iter([0.6, 0.9, 0.7])

    def validation() -> Validation:
        return Validation(Selection("best", "image_auroc"), lambda: {"image_auroc": next(values), "image_ap": None})

    seen = []

    class Spy(Checkpoints):
        def save(self, folder, metrics) -> None:
            seen.append(checkpoint.read(folder).method["first.weight"].clone())
            super().save(folder, metrics)

    method = TwoStages()
    fit_args = {"validation": validation(), "listener": Listener()}
    with pytest.raises(DiedError):
        fit(method, data, WorkerContext(DeviceConfig(CPU)), checkpoints=Spy(tmp_path / "ck", after=2), **fit_args)
    method = TwoStages()
    trained = fit(method, data, WorkerContext(DeviceConfig(CPU)), checkpoints=Spy(tmp_path / "ck"), **fit_args)
    assert trained.selected_round == 2
    assert torch.equal(method.first.weight, seen[1])


def test_a_checkpoint_is_fetched_for_as_long_as_it_is_read_and_its_weights_outlive_it(data, tmp_path):
    validation = Validation(Selection("best", "image_auroc"), lambda: {"image_auroc": 0.5})
    with pytest.raises(DiedError):
        train(TwoStages(), data, tmp_path / "ck", after=1, validation=validation)
    with StoreCheckpoints(str(tmp_path / "ck")).load() as folder:
        restored = checkpoint.read(folder)
        weights = {key: tensor.clone() for key, tensor in restored.best.items()}
    assert not folder.exists()
    assert all(torch.equal(restored.best[key], weights[key]) for key in weights)
    with StoreCheckpoints(str(tmp_path / "none")).load() as folder:
        assert folder is None


def test_without_anomalies_in_validation_the_last_round_is_selected(data, tmp_path):
    trained, _ = train(TwoStages(), data, tmp_path / "ck", validation=Validation(Selection("best", "image_auroc"), None))
    assert trained.selected_round == 3


def test_validation_happens_as_often_as_asked_and_always_at_the_end(data, tmp_path):
    calls = []
    validation = Validation(Selection("last", "image_auroc"), lambda: calls.append(1) or {"image_auroc": 0.5}, every=2)
    _, listener = train(TwoStages(), data, tmp_path / "ck", validation=validation)
    assert ["val/image_auroc" in r.metrics for r in listener.rounds] == [False, True, True]


class Blind(TwoStages):
    """Cannot predict before its second stage."""

    def stages(self) -> Sequence[Stage]:
        first, second = super().stages()
        return [dataclasses.replace(first, predicts=False), second]


def test_a_stage_that_cannot_predict_is_not_validated(data, tmp_path):
    validation = Validation(Selection("last", "image_auroc"), lambda: {"image_auroc": 0.5})
    _, listener = train(Blind(), data, tmp_path / "ck", validation=validation)
    assert ["val/image_auroc" in r.metrics for r in listener.rounds] == [False, False, True]


def test_what_the_stages_optimizer_does_not_hold_is_frozen(data, tmp_path):
    method = TwoStages()
    train(method, data, tmp_path / "ck")
    assert [p.requires_grad for p in (method.first.weight, method.second.weight)] == [False, True]


def test_a_loss_that_is_not_finite_stops_the_training(data, tmp_path):
    method = TwoStages()
    method.scale = float("nan")
    with pytest.raises(TrainingError, match=r"stage a, round 1: half, loss not finite; lower the learning rate"):
        train(method, data, tmp_path / "ck")


def test_only_the_last_checkpoint_is_kept_and_it_is_readable(data, tmp_path):
    train(TwoStages(), data, tmp_path / "ck")
    names = {path.relative_to(tmp_path / "ck").parts[0] for path in (tmp_path / "ck").rglob("*") if path.is_file()}
    assert names == {"latest", "round-000003"}
    restored = checkpoint.read(tmp_path / "ck" / "round-000003")
    assert (restored.progress.stage, restored.progress.round, restored.optimizer) == (2, 3, None)


def test_a_broken_checkpoint_is_one_line(tmp_path):
    (tmp_path / "progress.json").write_text("{}")
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(StorageError, match=r"cannot be read .*; start the job anew"):
        checkpoint.read(tmp_path)


def test_automatic_precision_on_a_cpu_is_float32():
    assert resolve_precision("auto", CPU).autocast is None
    assert resolve_precision("bf16", CPU).autocast is torch.bfloat16
