"""SemiREST's features and its transformer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from adjobs.methods import presets
from adjobs.methods.semirest.config import Config
from adjobs.methods.semirest.networks import ResidualSwin
from tests.helpers.randomness import generator
from tests.helpers.tiny import random_batch, tiny_method


def test_positioned_features_are_patchcores_plus_a_position_code():
    method = tiny_method("semirest", position_weight=0.3, standardise_features=False, feature_dim=48)
    images = random_batch().images
    features = method.features
    maps = features.backbone(images)[1:]
    columns = []
    for level in maps:  # patches are upsampled before they are pooled, as PatchCore does it
        patches = F.unfold(level, 3, padding=1).unflatten(2, level.shape[-2:])
        patches = F.interpolate(patches, size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
        columns.append(F.adaptive_avg_pool1d(patches.flatten(2).transpose(1, 2), 48))
    without_position = F.adaptive_avg_pool1d(torch.cat(columns, 2), 48).view(4, 8, 8, 48)
    position = features(images).float() - without_position
    torch.testing.assert_close(position, features.position.permute(1, 2, 0).expand(4, -1, -1, -1), rtol=0, atol=2e-3)
    assert features.position.abs().max() == pytest.approx(0.3)


def test_positioned_features_standardise_gives_levels_unit_deviation():
    method = tiny_method("semirest")
    features, images = method.features, random_batch().images
    features.standardise([images])
    levels = [level / scale for level, scale in zip(features.backbone(images)[1:], features.scale, strict=True)]
    torch.testing.assert_close(torch.stack([level.std() for level in levels]), torch.ones(2))


def test_positioned_features_stay_frozen_in_training_mode():
    method = tiny_method("semirest")
    images = random_batch().images
    method.train()
    expected = method.features(images)
    assert not method.features.backbone.training
    torch.testing.assert_close(method.features(images), expected)


def test_residual_swin_magnitude_of_small_inputs_survives_the_first_layer_norm():
    """It is normalised away where the input is large compared with the biases."""
    network = ResidualSwin(Config(feature_dim=64, embed_dim=32, heads=2), 4)
    residuals = torch.rand(8, 4, 4, 64, generator=generator())

    @torch.no_grad()
    def relative_change(gain: float) -> float:
        small, large = (network.embed_norm(network.embed(scale * gain * residuals)) for scale in (1, 4))
        return float((small - large).norm() / small.norm())

    assert relative_change(0.1) > 10 * relative_change(10.0)


def test_residual_swin_paper_preset_has_the_published_size():
    config = Config(**{**presets("semirest")["paper"], "backbone": "resnet18"})
    network = ResidualSwin(config, config.window)
    sizes = {name: p.numel() for name, p in network.named_parameters() if "relative_position" not in name}
    assert sum(sizes.values()) == 51_440_642  # paper: 51.44 M
