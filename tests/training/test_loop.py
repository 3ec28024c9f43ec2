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
from adjobs.training.loop import Validation, fit
from adjobs.training.stage_trainer import TrainingError, WorkerContext
from adjobs.training.time_limit import TimeLimit
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


class RecordingCallback:
    def __init__(self) -> None:
        self.intervals, self.updates = [], []

    def on_progress(self, update) -> None:
        self.updates.append(update)

    def on_interval_end(self, result) -> None:
        self.intervals.append(result)


class KilledError(Exception):
    pass


class Checkpoints(StoreCheckpoints):
    """Stores, and raises after a number of saves."""

    def __init__(self, root: Path, after: int | None = None) -> None:
        super().__init__(str(root))
        self.saves_left = after

    def save(self, folder, metrics) -> None:
        super().save(folder, metrics)
        if self.saves_left is not None:
            self.saves_left -= 1
            if self.saves_left == 0:
                raise KilledError


@pytest.fixture
def data(folder_root, tmp_path):
    return drawn_data(folder_root, tmp_path / "cache", size=32)[1]


def train(method, data, root: Path, *, after=None, validation=None, seed=0, max_seconds=None):
    callback = RecordingCallback()
    result = fit(
        method,
        data,
        WorkerContext(DeviceConfig(CPU), seed=seed, max_seconds=max_seconds),
        validation=validation or Validation(Selection("last", "image_auroc"), None),
        checkpoints=Checkpoints(root, after),
        callback=callback,
    )
    return result, callback


def test_fit_two_stages_run_in_order_with_their_names_and_schedules(data, tmp_path):
    method = TwoStages()
    result, callback = train(method, data, tmp_path / "ck")
    assert [r.number for r in callback.intervals] == [1, 2, 3]
    assert [r.metrics.get("train/a/lr") for r in callback.intervals] == [1e-2, 0.5e-2, None]
    assert callback.intervals[2].metrics["train/b/lr"] == 1e-2
    assert callback.intervals[0].metrics["train/a/half"] == pytest.approx(callback.intervals[0].metrics["train/a/loss"] / 2)
    assert method.mean > 0
    assert result.selected_checkpoint == 3
    assert callback.updates[-1].done == callback.updates[-1].total == 3


@pytest.mark.parametrize("after", [1, 2])
def test_fit_resumed_after_a_checkpoint_repeats_itself_exactly(data, tmp_path, after):
    undisturbed, killed = TwoStages(), TwoStages()
    train(undisturbed, data, tmp_path / "undisturbed")
    with pytest.raises(KilledError):
        train(killed, data, tmp_path / "killed", after=after)
    resumed = TwoStages()
    result, callback = train(resumed, data, tmp_path / "killed")
    assert [r.number for r in callback.intervals] == list(range(after + 1, 4))
    assert result.selected_checkpoint == 3
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_fit_time_limit_ends_every_stage_early_and_validates_it(data, tmp_path):
    result, callback = train(TwoStages(), data, tmp_path / "ck", validation=always_valid(), max_seconds=1e-9)
    assert [sorted(name for name in r.metrics if "loss" in name) for r in callback.intervals] == [
        ["train/a/loss"],
        ["train/b/loss"],
    ]
    assert all(r.metrics["val/image_auroc"] == 0.5 for r in callback.intervals)
    assert result.cut_stages == ("a 1/6", "b 1/3")
    assert result.selected_checkpoint == result.checkpoints == 2
    assert result.seconds > 0


def test_fit_time_limit_that_validation_reaches_ends_the_stage_in_its_checkpoint(data, tmp_path, monkeypatch):
    reached = []
    monkeypatch.setattr(TimeLimit, "is_reached", lambda limit: bool(reached))
    validation = Validation(Selection("last", "image_auroc"), lambda: reached.append(1) or {"image_auroc": 0.5})
    method, restored = TwoStages(), TwoStages()
    result, _ = train(method, data, tmp_path / "ck", validation=validation, max_seconds=60)
    assert result.cut_stages == ("a 3/6", "b 1/3")
    again, callback = train(restored, data, tmp_path / "ck", validation=validation, max_seconds=60)
    assert callback.intervals == []
    assert (again.cut_stages, again.seconds) == (result.cut_stages, result.seconds)
    assert all(torch.equal(value, restored.state_dict()[key]) for key, value in method.state_dict().items())


def test_fit_time_limit_far_away_changes_nothing(data, tmp_path):
    free, limited = TwoStages(), TwoStages()
    train(free, data, tmp_path / "free")
    result, _ = train(limited, data, tmp_path / "limited", max_seconds=1e6)
    assert result.cut_stages == ()
    assert all(torch.equal(value, limited.state_dict()[key]) for key, value in free.state_dict().items())


def always_valid() -> Validation:
    return Validation(Selection("last", "image_auroc"), lambda: {"image_auroc": 0.5})


def test_fit_other_seed_trains_another_model(data, tmp_path):
    one, other = TwoStages(), TwoStages()
    train(one, data, tmp_path / "one", seed=1)
    train(other, data, tmp_path / "other", seed=2)
    assert not torch.equal(one.first.weight, other.first.weight)


def test_fit_batch_that_does_not_fit_a_later_stage_is_refused_before_any_work(data, tmp_path):
    class WithImpossibleBatch(TwoStages):
        def stages(self) -> Sequence[Stage]:
            first, second = super().stages()
            return [first, dataclasses.replace(second, mix=BatchComposition(all_labels=1), size_params=("size_of_b",))]

    with pytest.raises(DataError, match=r"a global batch has 1 images, .* a larger params.size_of_b"):
        train(WithImpossibleBatch(), data, tmp_path / "ck")
    assert not (tmp_path / "ck").exists()


def test_fit_resumed_training_does_not_call_on_train_start_again(data, tmp_path):
    starts = []

    def go(**options) -> None:
        validation = Validation(Selection("last", "image_auroc"), None)
        fit(
            TwoStages(),
            data,
            WorkerContext(DeviceConfig(CPU)),
            validation=validation,
            callback=RecordingCallback(),
            on_train_start=lambda: starts.append(1),
            **options,
        )

    with pytest.raises(KilledError):
        go(checkpoints=Checkpoints(tmp_path / "ck", 1))
    go(checkpoints=Checkpoints(tmp_path / "ck"))
    assert starts == [1]


class WithBank(TwoStages):
    """A gradient stage, then one that only prepares."""

    def stages(self) -> Sequence[Stage]:
        return [super().stages()[0], Stage("bank", self, None, prepare=self.fill)]

    def fill(self, data) -> None:
        self.mean.add_(1)


def test_fit_stage_that_only_prepares_is_validated_stored_and_not_repeated(data, tmp_path):
    values_seen = []

    def validation(method) -> Validation:
        return Validation(
            Selection("last", "image_auroc"), lambda: values_seen.append(float(method.mean)) or {"image_auroc": 0.5}
        )

    method = WithBank()
    with pytest.raises(KilledError):
        train(method, data, tmp_path / "ck", after=3, validation=validation(method))
    assert values_seen[-1] > 1  # the last validation saw the bank
    resumed = WithBank()
    result, callback = train(resumed, data, tmp_path / "ck", validation=validation(resumed))
    assert callback.intervals == []
    assert result.selected_checkpoint == 3
    assert torch.equal(resumed.mean, method.mean)


class WithStatistics(TwoStages):
    """Counts how often statistics are fitted."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fitted", torch.zeros(()))

    def stages(self) -> Sequence[Stage]:
        return [dataclasses.replace(stage, fit_statistics=self.fit_statistics) for stage in super().stages()]

    def fit_statistics(self, data) -> None:
        self.fitted.add_(1)


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [1, 2])])
def test_fit_statistics_are_fitted_before_each_validation_and_are_part_of_the_state(data, tmp_path, every, expected):
    values_seen = []

    def validation(method) -> Validation:
        return Validation(
            Selection("last", "image_auroc"), lambda: values_seen.append(int(method.fitted)) or {"image_auroc": 0.5}, every
        )

    method = WithStatistics()
    with pytest.raises(KilledError):
        train(method, data, tmp_path / "ck", after=2, validation=validation(method))
    resumed = WithStatistics()
    train(resumed, data, tmp_path / "ck", validation=validation(resumed))
    assert values_seen == expected


def test_fit_without_validation_fits_statistics_once_at_the_end(data, tmp_path):
    method = WithStatistics()
    train(method, data, tmp_path / "ck", validation=Validation(Selection("last", "image_auroc"), None))
    assert int(method.fitted) == 1


def test_fit_best_checkpoint_is_selected_also_after_a_resume(data, tmp_path):
    values = iter([0.6, 0.9, 0.7])

    def validation() -> Validation:
        return Validation(Selection("best", "image_auroc"), lambda: {"image_auroc": next(values), "image_ap": None})

    values_seen = []

    class RecordingCheckpoints(Checkpoints):
        def save(self, folder, metrics) -> None:
            values_seen.append(checkpoint.read(folder).method["first.weight"].clone())
            super().save(folder, metrics)

    method = TwoStages()
    fit_args = {"validation": validation(), "callback": RecordingCallback()}
    with pytest.raises(KilledError):
        fit(
            method, data, WorkerContext(DeviceConfig(CPU)), checkpoints=RecordingCheckpoints(tmp_path / "ck", after=2), **fit_args
        )
    method = TwoStages()
    result = fit(method, data, WorkerContext(DeviceConfig(CPU)), checkpoints=RecordingCheckpoints(tmp_path / "ck"), **fit_args)
    assert result.selected_checkpoint == 2
    assert torch.equal(method.first.weight, values_seen[1])


def test_load_checkpoint_is_fetched_while_it_is_read_and_its_weights_outlive_it(data, tmp_path):
    validation = Validation(Selection("best", "image_auroc"), lambda: {"image_auroc": 0.5})
    with pytest.raises(KilledError):
        train(TwoStages(), data, tmp_path / "ck", after=1, validation=validation)
    with StoreCheckpoints(str(tmp_path / "ck")).load() as folder:
        restored = checkpoint.read(folder)
        weights = {key: tensor.clone() for key, tensor in restored.best.items()}
    assert not folder.exists()
    assert all(torch.equal(restored.best[key], weights[key]) for key in weights)
    with StoreCheckpoints(str(tmp_path / "none")).load() as folder:
        assert folder is None


def test_fit_without_anomalies_in_validation_selects_the_last_checkpoint(data, tmp_path):
    result, _ = train(TwoStages(), data, tmp_path / "ck", validation=Validation(Selection("best", "image_auroc"), None))
    assert result.selected_checkpoint == 3


def test_fit_every_two_validates_every_second_interval_of_a_stage_and_the_last(data, tmp_path):
    calls = []
    validation = Validation(Selection("last", "image_auroc"), lambda: calls.append(1) or {"image_auroc": 0.5}, every=2)
    _, callback = train(TwoStages(), data, tmp_path / "ck", validation=validation)
    assert ["val/image_auroc" in r.metrics for r in callback.intervals] == [False, True, True]


class PredictsLate(TwoStages):
    """Cannot predict before its second stage."""

    def stages(self) -> Sequence[Stage]:
        first, second = super().stages()
        return [dataclasses.replace(first, predicts=False), second]


def test_fit_stage_that_cannot_predict_is_not_validated(data, tmp_path):
    validation = Validation(Selection("last", "image_auroc"), lambda: {"image_auroc": 0.5})
    _, callback = train(PredictsLate(), data, tmp_path / "ck", validation=validation)
    assert ["val/image_auroc" in r.metrics for r in callback.intervals] == [False, False, True]


def test_fit_parameters_outside_the_optimizer_are_frozen(data, tmp_path):
    method = TwoStages()
    train(method, data, tmp_path / "ck")
    assert [p.requires_grad for p in (method.first.weight, method.second.weight)] == [False, True]


def test_fit_loss_that_is_not_finite_is_refused(data, tmp_path):
    method = TwoStages()
    method.scale = float("nan")
    with pytest.raises(TrainingError, match=r"stage a, interval 1: half, loss not finite; lower the learning rate"):
        train(method, data, tmp_path / "ck")


def test_fit_keeps_only_the_last_checkpoint(data, tmp_path):
    train(TwoStages(), data, tmp_path / "ck")
    names = {path.relative_to(tmp_path / "ck").parts[0] for path in (tmp_path / "ck").rglob("*") if path.is_file()}
    assert names == {"latest", "checkpoint-000003"}
    restored = checkpoint.read(tmp_path / "ck" / "checkpoint-000003")
    assert (restored.progress.stage, restored.progress.interval, restored.optimizer) == (2, 3, None)


def test_read_damaged_checkpoint_is_one_line(tmp_path):
    (tmp_path / "progress.json").write_text("{}")
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(StorageError, match=r"cannot be read .*; start a new run"):
        checkpoint.read(tmp_path)


def test_resolve_precision_auto_on_a_cpu_is_float32():
    assert resolve_precision("auto", CPU).autocast is None
    assert resolve_precision("bf16", CPU).autocast is torch.bfloat16


@pytest.mark.parametrize("max_seconds", [None, 1e-6])
def test_fit_marks_the_last_checkpoint(data, tmp_path, monkeypatch, max_seconds):
    marks = []
    monkeypatch.setattr(Checkpoints, "save", lambda self, folder, metrics: marks.append(metrics["is_last"]))
    train(TwoStages(), data, tmp_path, max_seconds=max_seconds)
    assert marks == [0.0] * (len(marks) - 1) + [1.0]
    assert len(marks) > 1
