"""Stages that trials have in common are trained once, and a trial ends as if it had trained them itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import torch
from pydantic import ValidationError

from adjobs import methods
from adjobs.evaluation.evaluate import DeviceConfig
from adjobs.methods.contract import Selection, Stage
from adjobs.training.checkpoint import StoreCheckpoints, snapshot
from adjobs.training.loop import Validation, fit
from adjobs.training.stage_cache import train_or_load
from adjobs.training.stage_trainer import WorkerContext
from tests.helpers.drawing import draw_folder
from tests.helpers.tiny import drawn_data, small_params
from tests.training.test_loop import CPU, Checkpoints, KilledError, RecordingCallback, TwoStages

SIDE = 32
BOXES = {"semirest": {"supervision": "boxes"}}


class Common(TwoStages):
    """Its first stage is one that trials may have in common."""

    def stages(self) -> Sequence[Stage]:
        first, second = super().stages()
        return [dataclasses.replace(first, depends_on={"x": 1}), second]


def build(name: str, **params: object) -> torch.nn.Module:
    folder = methods.load(name)
    return folder.build(folder.config(**{**small_params(name), **BOXES.get(name, {}), **params}), image_size=SIDE, seed=0)


def near(value: object) -> list[object]:
    """Other values of the same kind."""
    if isinstance(value, bool):
        return [not value]
    return [value + 1, value - 1, value / 2] if isinstance(value, int | float) else []


def sharing() -> list[str]:
    return [name for name in methods.names() if any(stage.depends_on is not None for stage in build(name).stages()[:-1])]


@pytest.fixture
def data(tmp_path):
    draw_folder(tmp_path / "pictures", 12, 6)
    return drawn_data(tmp_path / "pictures", tmp_path / "cache", SIDE, label_detail="boxes")[1]


def train(method, data, root: Path, *, reuse_stages: bool = True, rule="last", seed=0, after=None) -> list[tuple[int, bool]]:
    """Train; returns the numbers of the intervals, and whether anything was trained in each."""
    torch.manual_seed(0)
    callback = RecordingCallback()
    checkpoints = Checkpoints(root, after) if after else StoreCheckpoints(str(root))
    fit(
        method,
        data,
        WorkerContext(DeviceConfig(CPU), seed=seed, reuse_stages=reuse_stages),
        validation=Validation(Selection(rule, "image_auroc"), None),
        checkpoints=checkpoints,
        callback=callback,
    )
    return [(done.number, any(name.endswith("loss") for name in done.metrics)) for done in callback.intervals]


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    weights, others = snapshot(one), snapshot(other)
    assert [key for key in weights if not torch.equal(weights[key], others[key])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a toy", *sharing()])
def test_a_stage_taken_over_leaves_the_same_weights_and_the_same_last_round(name, data, tmp_path):
    alone, first, second = ((Common() if name == "a toy" else build(name)) for _ in range(3))
    intervals = train(alone, data, tmp_path / "alone", reuse_stages=False)
    assert train(first, data, tmp_path / "first") == intervals
    taken = train(second, data, tmp_path / "second")
    assert taken[-1] == intervals[-1]
    assert sum(trained for _, trained in taken) < sum(trained for _, trained in intervals)
    assert_same(alone, first)
    assert_same(alone, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", sharing())
def test_nothing_but_what_it_says_decides_on_a_common_stage(name, data, tmp_path):
    stage = next(stage for stage in build(name).stages() if stage.depends_on is not None)
    other = build(name, **others(name, stage))
    outcomes = []
    for i, method in enumerate((build(name), other)):
        stages = [one for one in method.stages() if one.name == stage.name or one.optimizer is None]
        method.stages = lambda stages=stages: stages
        train(method, data, tmp_path / str(i), reuse_stages=False)
        outcomes.append(snapshot(stages[-1].module))
    assert [key for key in outcomes[0] if not torch.equal(outcomes[0][key], outcomes[1][key])] == []


def others(name: str, stage: Stage) -> dict[str, object]:
    """Another value for every parameter that the stage does not depend on, where one is easily found and fits."""
    config = methods.config_class(name)
    params: dict[str, object] = {**small_params(name), **BOXES.get(name, {})}
    start = len(params)
    for key, info in config.model_fields.items():
        if key in stage.depends_on or key in (
            "weights",
            "textures",
            "pretrain",
            "pretrain_from",
            "supervision",
            "unsupervised_from",
        ):
            continue
        now = getattr(config(**params), key)
        options = get_args(info.annotation) if get_origin(info.annotation) is Literal else near(now)
        for value in options:
            try:
                if value != now and config(**{**params, key: value}):
                    params[key] = value
                    break
            except ValidationError:
                continue
    assert len(params) > start + 10
    return params


def test_another_seed_is_another_stage(data, tmp_path):
    one, other, alone = Common(), Common(), Common()
    train(one, data, tmp_path / "one")
    train(other, data, tmp_path / "other", seed=1)
    train(alone, data, tmp_path / "alone", seed=1, reuse_stages=False)
    assert_same(other, alone)


def test_a_stage_whose_intervals_could_become_the_model_is_trained(data, tmp_path):
    intervals = train(Common(), data, tmp_path / "one", rule="best")
    assert train(Common(), data, tmp_path / "two", rule="best") == intervals


def test_train_or_load_trial_killed_in_a_common_stage_resumes_it(data, tmp_path):
    alone, again = Common(), Common()
    train(alone, data, tmp_path / "alone", reuse_stages=False)
    with pytest.raises(KilledError):
        train(Common(), data, tmp_path / "died", after=1)
    assert train(again, data, tmp_path / "died")[0] == (2, True)
    assert_same(alone, again)


@pytest.mark.parametrize("change", [{"depends_on": {"x": 2}}, {"name": "b"}])
def test_another_parameter_is_another_stage(data, change):
    stage, _ = Common().stages()
    assert train_or_load(data, stage, {"seed": 0}, lambda: None)
    assert not train_or_load(data, stage, {"seed": 0}, lambda: None)
    assert train_or_load(data, dataclasses.replace(stage, **change), {"seed": 0}, lambda: None)


def test_train_or_load_error_of_the_system_in_training_stays_what_it_is(data):
    error = ConnectionResetError(104, "Connection reset by peer")

    def fail() -> None:
        raise error

    with pytest.raises(ConnectionResetError) as raised:
        train_or_load(data, Common().stages()[0], {}, fail)
    assert raised.value is error


def test_a_damaged_outcome_is_trained_again(data):
    stage, _ = Common().stages()
    train_or_load(data, stage, {}, lambda: None)
    for weights in data._cache.derived_dir.glob("trained-a-*/weights.safetensors"):
        weights.write_bytes(b"half")
    assert train_or_load(data, stage, {}, lambda: None)
