"""SLSG's encoder."""

from __future__ import annotations

import pytest
import torch

from adjobs.methods.slsg.networks import Encoder
from tests.helpers.randomness import generator


def test_encoder_is_resnet18_without_max_pooling():
    timm = pytest.importorskip("timm")
    resnet = timm.create_model("resnet18", num_classes=0).eval()
    encoder = Encoder(64).eval()
    encoder.load_matching(resnet.state_dict())
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in resnet.parameters())
    resnet.maxpool = torch.nn.Identity()
    images = torch.rand(2, 3, 64, 64, generator=generator())
    maps = encoder(images)
    torch.testing.assert_close(maps[-1], resnet.forward_features(images))
    assert [tuple(level.shape[1:]) for level in maps] == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_encoder_denormalise_inverts_normalise():
    encoder, images = Encoder(8), torch.rand(2, 3, 8, 8, generator=generator())
    torch.testing.assert_close(encoder.denormalise(encoder.normalise(images)), images)
