"""SLSG's segmentation stage, prediction, and what passes from stage to stage."""

from __future__ import annotations

import pytest
import torch

from adjobs.errors import DataError
from tests.helpers.drawing import draw_folder
from tests.helpers.randomness import generator
from tests.helpers.tiny import RandomImages, drawn_data, random_batch, tiny_method
from tests.methods.slsg.training import take_steps

CPU = torch.device("cpu")


def test_forward_unknown_pixels_are_ignored():
    method = tiny_method("slsg", jitter=0)
    batch = random_batch()._replace(simulate=torch.zeros(4, dtype=torch.bool))
    method.train()
    all_known = method(batch)
    unknown = batch.unknown.clone()
    unknown[0] = True
    partly_known = method(batch._replace(unknown=unknown))
    assert float(all_known.total.detach()) != float(partly_known.total.detach())


@pytest.mark.parametrize("encoder_bn_train", [False, True])
def test_forward_encoder_gets_no_gradient_and_its_statistics_move_only_if_requested(encoder_bn_train):
    method = tiny_method("slsg", encoder_bn_train=encoder_bn_train)
    before = method.encoder.bn1.running_mean.clone()
    method.train()
    method(random_batch()).total.backward()
    assert all(p.grad is None for p in method.inpainter.parameters())
    assert torch.equal(method.encoder.bn1.running_mean, before) != encoder_bn_train


@pytest.mark.slow
def test_segment_stage_learns_to_separate_simulated_from_normal_pixels(tmp_path):
    method = tiny_method("slsg", pretrain="none", logical_fraction=0.0, shuffled_fraction=0.0)
    stage = method.stages()[0]
    stage.prepare(drawn_data(draw_folder(tmp_path / "d", 8, 0), tmp_path / "cache")[1])
    images = torch.full((8, 3, 64, 64), 0.5) + 0.02 * torch.randn(8, 3, 64, 64, generator=generator())
    no_defects = torch.zeros(8, 1, 64, 64, dtype=torch.bool)
    batch = random_batch(8)._replace(images=images, simulate=torch.arange(8) >= 4, masks=no_defects)
    logged = take_steps(stage, 40, batch)
    assert logged[-1]["p_anomalous"] > 1.5 * logged[-1]["p_normal"]


@pytest.mark.slow
def test_segment_stage_recalibrates_the_encoder_on_unmasked_images(tmp_path):
    """Its batch normalisation statistics are neither the initial ones nor those of masked images."""
    method = tiny_method("slsg", mask_ratio=0.9)
    _, data = drawn_data(draw_folder(tmp_path / "d", 16, 0), tmp_path / "cache")
    inpaint, segment = method.stages()
    take_steps(inpaint, 20, data.plan(inpaint.mix, 1).batch(0, seed=0, stage=0, rank=0, device=CPU))
    images = next(data.normal(16)).images
    stem = method.encoder.conv1(method.encoder.normalise(images))
    expected_mean = stem.mean((0, 2, 3))
    assert (method.encoder.bn1.running_mean - expected_mean).norm() > 0.2 * expected_mean.norm()
    segment.prepare(data)
    torch.testing.assert_close(method.encoder.bn1.running_mean, expected_mean)
    torch.testing.assert_close(method.encoder.bn1.running_var, stem.var((0, 2, 3)))
    assert method.encoder.bn1.momentum == 0.1


def test_fill_leaves_the_encoders_statistics_unchanged():
    method = tiny_method("slsg")
    images, running_mean = random_batch().images, method.encoder.bn1.running_mean.clone()
    masked, inpainted = method.eval().fill(images, generator())
    assert torch.equal(method.encoder.bn1.running_mean, running_mean)
    assert masked.shape == inpainted.shape == images.shape


def test_fill_without_inpainting_stage_is_empty():
    assert tiny_method("slsg", pretrain="none").fill(random_batch().images, generator()) == ()


def test_predict_image_score_is_the_mean_of_the_highest_pixels():
    method = tiny_method("slsg", top_pixels=32)
    method.eval()
    prediction = method.predict(random_batch().images)
    assert 0 <= float(prediction.anomaly_map.min()) <= float(prediction.anomaly_map.max()) <= 1
    highest = prediction.anomaly_map.flatten(1).sort(1).values[:, -2:]  # 32 of 256² pixels are 2 of 64²
    torch.testing.assert_close(prediction.score, highest.mean(1))


def test_sum_logits_adds_the_auxiliary_logits():
    batch = random_batch()
    summing = tiny_method("slsg", sum_logits=True)
    summing.eval()
    plain = tiny_method("slsg")
    plain.eval()
    plain.load_state_dict(summing.state_dict())
    logits, auxiliary_logits = plain._logits(batch.images)
    summed, _ = summing._logits(batch.images)
    torch.testing.assert_close(summed, logits + auxiliary_logits)


def test_bottleneck_skip_false_has_no_projection_of_the_bottleneck():
    assert tiny_method("slsg", bottleneck_skip=False).decoder.bottleneck is None


def test_load_pretrained_loads_the_inpainter_and_nothing_else():
    trained = tiny_method("slsg")
    method = tiny_method("slsg")
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(1)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method.load_pretrained(trained.state_dict())
    for key, value in method.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key] if key.startswith("inpainter.") else before[key]), key


def test_labelled_anomalies_join_the_batch(tmp_path):
    method = tiny_method("slsg", pretrain="none", labelled_per_batch=2)
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 4), tmp_path / "cache")
    batch = data.plan(method.stages()[0].mix, 1).batch(0, seed=0, stage=0, rank=0, device=CPU)
    assert batch.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert method.simulate(batch).masks[4:].flatten(1).any(1).all()


def test_labelled_anomalies_that_do_not_exist_are_refused(tmp_path):
    method = tiny_method("slsg", pretrain="none", labelled_per_batch=2)
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 0), tmp_path / "cache")
    with pytest.raises(DataError, match="needs labelled anomalies in each batch"):
        data.plan(method.stages()[0].mix, 1)


def test_missing_textures_are_refused_before_the_first_stage(tmp_path):
    method = tiny_method("slsg", textures=str(tmp_path / "missing"))
    _, data = drawn_data(draw_folder(tmp_path / "d", 8, 0), tmp_path / "cache")
    with pytest.raises(DataError, match="no images found"):
        method.stages()[0].prepare(data)


def test_missing_textures_do_not_prevent_prediction(tmp_path):
    method = tiny_method("slsg", textures=str(tmp_path / "missing"))
    method.eval().predict(random_batch().images)
    with pytest.raises(DataError, match="no images found"):
        method.simulate(random_batch())


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_backbone_in_the_encoders_place_is_frozen_and_its_adapters_learn(name):
    method = tiny_method("slsg", pretrain="backbone", backbone=name)
    (segment,) = method.stages()
    segment.on_stage_start(None)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    take_steps(segment, 2, random_batch())
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert any(key.startswith("pretrained.adapters.") for key in changed)
    assert not [key for key in changed if key.startswith("pretrained.backbone.")]
    assert not [key for key in before if key.startswith("inpainter.")]


def test_backbone_in_the_encoders_place_predicts_with_its_own_normalisation():
    method = tiny_method("slsg", pretrain="backbone").eval()
    images, inputs = random_batch().images, []
    method.encoder.features.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    prediction = method.predict(images)
    torch.testing.assert_close(inputs[0], method.encoder.normalise(images))
    assert prediction.anomaly_map.shape == (len(images), 1, *images.shape[2:])


def combined_method(**params):
    return tiny_method("slsg", pretrain="backbone", **params).eval()


def test_score_auto_is_combined_with_a_backbone_alone():
    assert combined_method().distance is not None
    for params in ({"pretrain": "gpt"}, {"pretrain": "backbone", "score": "network"}):
        method = tiny_method("slsg", **params).eval()
        assert method.distance is None
        assert not method.predict(random_batch().images).extra_scores


@pytest.mark.parametrize("pretrain", ["backbone", "gpt"])
def test_predict_combined_adds_distance_and_logit_in_deviations(pretrain):
    method = tiny_method("slsg", pretrain=pretrain, score="combined", network_weight=0.25, sigma=0).eval()
    method.distance.scales.mean.copy_(torch.tensor([1.0, -2.0]))
    method.distance.scales.deviation.copy_(torch.tensor([2.0, 0.5]))
    images = random_batch().images
    maps = method._encode(images)
    distances = method.distance.stats(method.distance.features(maps))
    by_pixel = torch.nn.functional.interpolate(distances[:, None], (64, 64), mode="bilinear")
    logit = method._segment(maps)[0].diff(dim=1)
    prediction = method.predict(images)
    torch.testing.assert_close(prediction.anomaly_map, (by_pixel - 1) / 2 + 0.25 * (logit + 2) / 0.5)
    torch.testing.assert_close(prediction.score, method._highest(prediction.anomaly_map))
    torch.testing.assert_close(prediction.extra_scores["network"], method._highest(logit.sigmoid()))
    torch.testing.assert_close(prediction.extra_scores["distance"], method._highest(by_pixel))


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 160], ids=["a Gaussian for each position", "four positions share one"])
def test_segment_stage_fits_both_terms_to_normal_images_that_count_as_left_out(size, tmp_path):
    """So that images that were not trained on have no mean and unit deviation, although there are fewer than channels."""
    method = tiny_method("slsg", size, pretrain="backbone").eval()
    assert method.distance.stats.cell == (1 if size == 64 else 2)
    _, data = drawn_data(draw_folder(tmp_path / "d", 40, 0, size), tmp_path / "cache", size)
    _, new = drawn_data(draw_folder(tmp_path / "new", 40, 0, size, seed=1), tmp_path / "cache", size)
    (segment,) = method.stages()
    segment.fit_statistics(data)
    assert not method.training
    distance, images = method.distance, next(new.normal(40)).images
    maps = method._encode(images)
    logits = method._segment(maps)[0].diff(dim=1)
    for scaled in distance.scales(distance(maps), logits):
        assert abs(float(scaled.mean())) < 0.5
        assert 0.5 < float(scaled.std()) < 2
    own = method._encode(next(data.normal(40)).images)
    assert float(distance(own).mean()) < 0.7 * float(distance.scales.mean[0])  # what it would have been without leaving out


def test_segment_stage_encodes_the_images_once_while_the_encoder_stays():
    method, counted = combined_method(), []
    method.encoder.register_forward_pre_hook(lambda _, arguments: counted.append(len(arguments[0])))
    (segment,) = method.stages()
    images = RandomImages()
    segment.fit_statistics(images)
    first = {key: value.clone() for key, value in method.state_dict().items()}
    assert sum(counted) == 2 * images.n_normal  # for the Gaussians, and for the scales
    segment.fit_statistics(images)
    assert sum(counted) == 3 * images.n_normal
    assert all(torch.equal(value, first[key]) for key, value in method.state_dict().items())


def test_distance_is_larger_where_images_are_unlike_normal_ones():
    method = combined_method(sigma=0)
    images = random_batch().images
    images[:, :, :32, :32] = 0.5
    maps = method.distance(method._encode(images))
    assert float(maps[..., :24, :24].mean()) > 1.2 * float(maps[..., 40:, 40:].mean())


def test_distance_is_computed_in_full_precision():
    method, images = combined_method(), random_batch().images
    exact = method.predict(images).extra_scores["distance"]
    with torch.autocast("cpu", torch.bfloat16):
        prediction = method.predict(images)
    assert torch.equal(prediction.extra_scores["distance"], exact)
    assert prediction.anomaly_map.dtype == torch.float32
