"""Standardised features of a frozen network, and their cache."""

from __future__ import annotations

import torch

from adjobs.errors import StorageError
from adjobs.methods.dpae.features import Features
from adjobs.nn.flips import flip
from tests.methods.dpae.training import small_dpae, train


def test_fit_standardises_features_over_the_normal_images(data, normal_images):
    features = small_dpae().features
    features.fit(data)
    raw, maps = features._extract(normal_images).float(), features(normal_images)
    torch.testing.assert_close(maps.mean((0, 2, 3)), torch.zeros(384), rtol=0, atol=1e-3)
    deviation, raw_deviation = maps.std((0, 2, 3), correction=0), raw.std((0, 2, 3), correction=0)
    variable = raw_deviation > 0.1 * raw_deviation.median()
    expected = raw_deviation / (raw_deviation + 1e-3)
    torch.testing.assert_close(deviation[variable], expected[variable], rtol=0, atol=1e-3)


def test_fit_channel_that_is_constant_on_normal_images_is_not_amplified(data):
    features = small_dpae(feature_cache_gib=0).features
    extract = features._extract
    active = torch.ones(384).view(1, -1, 1, 1)
    active[:, 5] = 0
    features._extract = lambda images: extract(images) * active
    features.fit(data)
    assert float(features.deviation[0, 5]) > 0.5 * float(features.deviation.median())


def test_features_are_frozen_and_in_evaluation_mode():
    method = small_dpae().train()
    assert method.encoder_1.training
    assert not any(module.training for module in method.features.modules())
    assert not any(p.requires_grad for p in method.features.parameters())
    assert small_dpae(reconstruct="pixels").features is None


def test_cached_features_equal_those_of_the_upright_and_the_flipped_image(data):
    features = small_dpae().features
    features.fit(data)
    batch, flipped = next(data.normal(5)), torch.tensor([True, False, True, False, False])
    computed = features(flip(batch.images, flipped))
    torch.testing.assert_close(features.cached(batch.indices, flipped), computed, rtol=2e-3, atol=2e-3)


def test_training_with_cache_equals_training_without(data):
    with_cache, without = small_dpae(optimizer="sgd"), small_dpae(optimizer="sgd", feature_cache_gib=0)
    for method in (with_cache, without):
        train(method, data, 3)
    assert with_cache.features.cache is not None
    assert without.features.cache is None
    for network in ("encoder_1", "decoder", "encoder_2"):
        first, second = (getattr(method, network).state_dict() for method in (with_cache, without))
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_open_cache_computes_features_once_per_machine(data, monkeypatch):
    train(small_dpae(), data, 1)
    method, batch_sizes, extract = small_dpae(), [], Features._extract
    monkeypatch.setattr(Features, "_extract", lambda self, images: batch_sizes.append(len(images)) or extract(self, images))
    train(method, data, 3)
    assert batch_sizes == [1]  # for the size of the cache, which is checked before it is opened
    method.predict(next(data.normal(4)).images)
    assert batch_sizes[-1] == 4


def test_open_cache_disk_full_features_are_recomputed(data, monkeypatch, caplog):
    def disk_full(*_: object) -> None:
        raise StorageError("disk: cannot be written (no space left)")

    monkeypatch.setattr(data, "compute_once", disk_full)
    method = small_dpae()
    train(method, data, 1)
    assert method.features.cache is None
    assert "no space left); until then features are recomputed in every step" in caplog.text
